"""Superblocks that are looked for at a device's end: of RAID arrays that whole disks belong to.

libblkid and udev go by them before they look for a file system: a stick with one is no medium with an ISO to them, and
an initrd that assembles arrays takes what the superblock calls the array's content.
"""

from __future__ import annotations

import struct
from typing import Iterator, Optional, Tuple

from respin.byteview import ByteView

_SECTOR = 512
_KIB = 1024
_MD = struct.pack("<I", 0xA92B4EFC), struct.pack(">I", 0xA92B4EFC)


def _places(size: int) -> Iterator[Tuple[str, int, Tuple[bytes, ...]]]:
    """Name, byte offset and magic numbers, as util-linux has them (libblkid/src/superblocks)."""
    sectors = size // _SECTOR
    yield "Linux md 0.90", (size & ~(64 * _KIB - 1)) - 64 * _KIB, _MD
    yield "Linux md 1.0", ((sectors - 16) & ~7) * _SECTOR, _MD
    for back in (1, 257):
        yield "DDF", (sectors - back) * _SECTOR, (b"\xde\x11\xde\x11", b"\x11\xde\x11\xde")
    yield "Intel", (sectors - 2) * _SECTOR, (b"Intel Raid ISM Cfg Sig. ",)
    yield "LSI", (sectors - 1) * _SECTOR, (b"$XIDE$",)
    yield "Silicon Image", (sectors - 1) * _SECTOR + 0x60, (struct.pack("<I", 0x2F000000),)
    yield "NVIDIA", (sectors - 2) * _SECTOR, (b"NVIDIA  ",)
    yield "Highpoint", (sectors - 11) * _SECTOR, (struct.pack("<I", 0x5A7816F0), struct.pack("<I", 0x5A7816FD))
    yield "Adaptec", (sectors - 1) * _SECTOR, (b"DPTM", struct.pack(">I", 0x900765C4))
    yield "JMicron", (sectors - 1) * _SECTOR, (b"JM",)
    yield "VIA", (sectors - 1) * _SECTOR, (struct.pack("<H", 0xAA55),)
    for back in (63, 255, 256, 16, 399, 591, 675, 735, 911, 974, 991, 951, 3087):
        yield "Promise", (sectors - back) * _SECTOR, (b"Promise Technology, Inc.",)


def array_at_end(view: ByteView, start: int) -> Optional[Tuple[str, int]]:
    """Which kind of array says that ``view`` belongs to it, and at which byte from ``start`` on; None: none does."""
    for name, offset, magics in _places(view.size):
        length = max(map(len, magics))
        if offset < start or offset + length > view.size:
            continue
        if view.read(offset, length).startswith(magics):
            return name, offset
    return None
