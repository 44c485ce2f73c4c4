"""The output of ``lspci -nn`` (also with -v, -k, -D): which PCI devices a machine has (pciutils, lspci(8))."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Optional, Tuple

from respin.errors import MalformedError

_MOST_DEVICES = 65536
_LONGEST_LINE = 1000
_DEVICE = re.compile(
    r"(?P<slot>(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) (?P<kind>.*?) \[(?P<class>[0-9a-f]{4})\]: "
    r"(?P<name>.*) \[(?P<vendor>[0-9a-f]{4}):(?P<device>[0-9a-f]{4})\](?: \(rev [0-9a-f]{2}\))?"
    r"(?: \(prog-if (?P<interface>[0-9a-f]{2})(?: \[.*\])?\))?\s*"
)
_SUBSYSTEM = re.compile(r"\s+(?:Device)?[Ss]ubsystem: .*\[(?P<vendor>[0-9a-f]{4}):(?P<device>[0-9a-f]{4})\]\s*")


@dataclass(frozen=True)
class PciDevice:
    """One device. ``modalias`` has its numbers in the order of a PCI modalias (vendor, device, subsystem vendor,
    subsystem, class, subclass, interface) in upper-case hex; None for what the listing does not say.
    """

    slot: str
    kind: str
    name: str
    modalias: Tuple[Optional[str], ...]

    @property
    def id(self) -> str:
        """VENDOR:DEVICE as lspci writes it."""
        vendor, device = self.modalias[0] or "", self.modalias[1] or ""
        return f"{vendor[-4:]}:{device[-4:]}".lower()


def parse(text: str, where: str) -> Tuple[PciDevice, ...]:
    """The devices of a listing, in its order. MalformedError when there is none: it is no output of ``lspci -nn``."""
    found: List[PciDevice] = []
    for line in text.splitlines():
        if len(line) > _LONGEST_LINE:
            continue
        device = _DEVICE.fullmatch(line)
        subsystem = _SUBSYSTEM.fullmatch(line)
        if device is not None:
            found.append(_device(device))
        elif subsystem is not None and found:
            last = found.pop()
            numbers = (*last.modalias[:2], _long(subsystem["vendor"]), _long(subsystem["device"]), *last.modalias[4:])
            found.append(PciDevice(last.slot, last.kind, last.name, numbers))
    if not found or len(found) > _MOST_DEVICES:
        raise MalformedError(
            "no PCI devices with their numbers are listed here",
            where=where,
            remedy="save the output of `lspci -nn` on the machine in question",
            finding="lspci",
        )
    return tuple(found)


def _device(found: "re.Match[str]") -> PciDevice:
    interface = found["interface"]
    numbers = (
        _long(found["vendor"]),
        _long(found["device"]),
        None,
        None,
        found["class"][:2].upper(),
        found["class"][2:].upper(),
        None if interface is None else interface.upper(),
    )
    return PciDevice(found["slot"], found["kind"], found["name"], numbers)


def _long(number: str) -> str:
    return number.upper().zfill(8)
