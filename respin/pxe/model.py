"""What is to be written for starting from a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

# Names of respin's own files in the directory.
PXELINUX, GRUB, IPXE = "pxelinux.cfg/default", "grub.cfg", "boot.ipxe"


@dataclass(frozen=True)
class NetworkEntry:
    """An entry of the boot menu; ``label`` is a word of small letters, digits and dashes that no other entry has.

    ``kernel`` and ``initrds`` are paths relative to the directory.
    """

    label: str
    kernel: str
    initrds: Tuple[str, ...]
    arguments: Tuple[str, ...]


@dataclass(frozen=True)
class NetworkPlan:
    """All that is written: entries, the ISO's files by their paths on it, and what is made of the ISO.

    ``archive`` is the relative name of a cpio archive with the ISO in it, ``whole`` that of the ISO itself; empty for
    none. ``iso_name`` is what it is called there. ``kickstart`` is a path and the content that it gets.
    """

    title: str
    mode: str
    url: str
    entries: Tuple[NetworkEntry, ...]
    files: Tuple[str, ...]
    iso_name: str
    archive: str
    whole: str
    kickstart: Tuple[str, bytes]
    warnings: Tuple[str, ...]
