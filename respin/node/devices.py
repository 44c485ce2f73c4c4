"""Which driver of a root, or of a plugin, takes a PCI device: the aliases of its modules held against the device."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple

from respin.formats.lspci import PciDevice
from respin.node.paths import read_file, real_path
from respin.roottree import RootTree

# drivers/pci/pci-sysfs.c writes a modalias, scripts/mod/file2alias.c the patterns; a pattern's field may be "*".
_PATTERN = re.compile(
    r"pci:v([0-9A-F*]+)d([0-9A-F*]+)sv([0-9A-F*]+)sd([0-9A-F*]+)bc([0-9A-F*]+)sc([0-9A-F*]+)i([0-9A-F*]+)"
)


class Alias(NamedTuple):
    """``pattern`` has a field for each number of a PCI modalias; the module ``name`` takes what fits."""

    pattern: Tuple[str, ...]
    name: str


class Taker(NamedTuple):
    """A module that takes a device; not ``certain`` when that depends on numbers which the listing does not say."""

    name: str
    certain: bool


def pci_aliases(aliases: Iterable[Tuple[str, str]]) -> Iterator[Alias]:
    """The PCI ones among (pattern, module name)."""
    for text, name in aliases:
        found = _PATTERN.fullmatch(text)
        if found is not None:
            yield Alias(found.groups(), name.replace("-", "_"))


def vendor_aliases(root: RootTree[Any], release: str) -> Iterator[Tuple[str, str]]:
    """(pattern, module name) of the modules of a root and of what is part of its kernel."""
    for line in _text(root, f"/lib/modules/{release}/modules.alias").splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "alias":
            yield words[1], words[2]
    for entry in _text(root, f"/lib/modules/{release}/modules.builtin.modinfo").split("\0"):
        key, _, value = entry.partition("=")
        name, _, kind = key.rpartition(".")
        if kind == "alias":
            yield value, name


def takers(device: PciDevice, aliases: Sequence[Alias]) -> Tuple[Taker, ...]:
    """The modules that take ``device``, certain ones first, then by name."""
    found: Dict[str, bool] = {}
    for pattern, name in aliases:
        fits = [_fits(field, number) for field, number in zip(pattern, device.modalias)]
        if False not in fits:
            found[name] = found.get(name, False) or None not in fits
    return tuple(
        sorted((Taker(name, certain) for name, certain in found.items()), key=lambda one: (not one[1], one[0]))
    )


def _fits(field: str, number: Optional[str]) -> Optional[bool]:
    """Whether a pattern's field allows a number; None when nobody knows."""
    if field == "*":
        return True
    return None if number is None else fnmatchcase(number, field)


def _text(root: RootTree[Any], path: str) -> str:
    return (read_file(root, real_path(root, path)) or b"").decode("utf-8", "replace")
