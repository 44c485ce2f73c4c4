"""What all programs of e2fsprogs have in common: the environment that they need, and how they say that they can't."""

from __future__ import annotations

from typing import Mapping

from respin.errors import UnsupportedError
from respin.safepath import show

# For programs that write to the image: zeros are written as such wherever the image lies, and counted alike in the
# superblock. A plain file would have them punched out.
ENVIRONMENT: Mapping[str, str] = {"UNIX_IO_NOZEROOUT": "1"}


def refuse_unsupported(said: str, name: str) -> None:
    """UnsupportedError when e2fsprogs ``said`` that the file system has features which this version does not know."""
    lines = [line for line in said.splitlines() if "unsupported" in line.lower() and "feature" in line.lower()]
    if lines:
        raise UnsupportedError(
            f"this machine's e2fsprogs does not know all features of the file system: {show(lines[0].strip())}",
            where=name,
            remedy="a newer e2fsprogs does",
            finding="ext-features",
        )
