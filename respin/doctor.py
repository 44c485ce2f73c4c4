"""What this machine can do for respin, what is missing, and how to get it."""

from __future__ import annotations

import importlib
import platform
import sys
from dataclasses import dataclass
from typing import List, Tuple

from respin import process
from respin.errors import MissingToolError
from respin.root.probe import probe

MODULES = {
    "gnupg": "pip install python-gnupg",
    "libarchive": "Debian: apt install libarchive13; pip install libarchive-c",
    "mfusepy": "Debian: apt install libfuse2; EL/Fedora: dnf install fuse-libs; pip install mfusepy",
    "pycdlib": "pip install pycdlib",
}
PROGRAMS = ("gpg", "gpgconf", "rpm", "depmod")  # and those that respin.root.probe tries


@dataclass(frozen=True)
class Check:
    """One thing that was tried: whether it works, what was found, what to do if it doesn't."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


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
    for program in PROGRAMS:
        try:
            checks.append(Check(program, True, process.find(program)))
        except MissingToolError as error:
            checks.append(Check(program, False, "not installed", error.remedy or ""))
    for module, remedy in MODULES.items():
        try:
            importlib.import_module(module)
            checks.append(Check(f"python module {module}", True, "found"))
        except Exception as error:  # a broken binding raises whatever it likes
            checks.append(Check(f"python module {module}", False, str(error).splitlines()[0], remedy))
    checks += [Check(one.name, one.ok, one.why, one.remedy or "") for one in probe()]
    return tuple(checks)
