"""What this machine can do for respin, what is missing, how to get it, and which way a build goes here."""

from __future__ import annotations

import importlib
import platform
import sys
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from respin import process
from respin.errors import MissingToolError
from respin.root.probe import FUSE, probe

# What it is needed for, and how to get it.
MODULES: Mapping[str, Tuple[str, str]] = {
    "gnupg": ("signatures", "pip install python-gnupg"),
    "libarchive": ("reading packages", "Debian: apt install libarchive13; pip install libarchive-c"),
    "mfusepy": (
        "showing roots without unpacking them",
        "Debian: apt install libfuse2; EL/Fedora: dnf install fuse-libs; pip install mfusepy",
    ),
    "pycdlib": ("reading ISOs", "pip install pycdlib"),
}
# And those that respin.root.probe tries.
PROGRAMS: Mapping[str, str] = {
    "gpg": "signatures",
    "gpgconf": "signatures",
    "rpm": "the RPM database",
    "depmod": "kernel modules",
}
_MFUSEPY = "python module mfusepy"
# What it takes to show a root through FUSE, by the way the ISO holds it.
_WAYS: Mapping[str, Sequence[str]] = {
    "nested": (FUSE, "fuse2fs", _MFUSEPY),
    "flat": (FUSE, "squashfuse_ll", _MFUSEPY),
}
_UNPACKED = {
    "nested": "its image is unpacked to the temporary directory, its files to memory",
    "flat": "its files are unpacked to memory",
}


@dataclass(frozen=True)
class Check:
    """One thing that was tried: whether it works, what was found, what to do if it doesn't, what it is needed for.

    Without one that is not ``required`` builds go another way.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed_for: str = ""
    required: bool = True


@dataclass(frozen=True)
class Way:
    """How roots that an ISO holds ``layout`` (nested, flat) are shown to packages here: through FUSE, or unpacked."""

    layout: str
    fuse: bool
    detail: str

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {"fuse": self.fuse, "detail": self.detail}


def examine() -> Tuple[Check, ...]:
    """Try everything that a build needs; nothing is changed and nothing is left behind."""
    checks: List[Check] = [
        Check(
            "python",
            sys.version_info >= (3, 9),
            platform.python_version(),
            "" if sys.version_info >= (3, 9) else "use Python 3.9 or newer",
        )
    ]
    for program, needed_for in PROGRAMS.items():
        try:
            checks.append(Check(program, True, process.find(program), "", needed_for))
        except MissingToolError as error:
            checks.append(Check(program, False, "not installed", error.remedy or "", needed_for))
    for module, (needed_for, remedy) in MODULES.items():
        name = f"python module {module}"
        required = name != _MFUSEPY
        try:
            importlib.import_module(module)
            checks.append(Check(name, True, "found", "", needed_for, required))
        except Exception as error:  # a broken binding raises whatever it likes
            checks.append(Check(name, False, str(error).splitlines()[0], remedy, needed_for, required))
    for one in probe():
        checks.append(Check(one.name, one.ok, one.why, one.remedy or "", one.needed_for, one.required))
    return tuple(checks)


def ways(checks: Sequence[Check]) -> Tuple[Way, ...]:
    """Which way builds go here, by what was found; none if they cannot go at all."""
    if not all(check.ok for check in checks if check.required):
        return ()
    by_name = {check.name: check for check in checks}
    found = []
    for layout, names in _WAYS.items():
        missing = [by_name[name] for name in names if not by_name[name].ok]
        if missing:
            reasons = "; ".join(f"{check.name}: {check.detail}" for check in missing)
            found.append(Way(layout, False, f"{_UNPACKED[layout]}, because FUSE cannot be used ({reasons})"))
        else:
            found.append(Way(layout, True, "its blocks are read through FUSE when they are needed"))
    return tuple(found)
