"""The Apple partition map (Inside Macintosh: Devices, "The Partition Map"): its entries, and what they cover.

Covered: maps whose entries stand 512 or 2048 bytes apart and count in units of that, as isohybrid and xorriso write
them. Numbers are big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Tuple

from respin.byteview import ByteView
from respin.formats.iso9660.fields import BLOCK, SECTOR, SYSTEM_AREA

SIGNATURE = b"PM\0\0"
HFS = "Apple_HFS"
MAP = "Apple_partition_map"
PLACE = 8
"""Offset of first unit and number of units in an entry."""
DATA_COUNT = 84
"""Offset of the number of units that hold data."""
_VOLUME_HEADER = 1024
_HFS_MARKS = (b"BD", b"H+", b"HX")


@dataclass(frozen=True)
class ApmPartition:
    """One entry; ``number`` counts from 1, ``start`` and ``count`` are in units of ``unit`` bytes."""

    number: int
    kind: str
    unit: int
    start: int
    count: int
    data_count: int
    has_hfs: bool
    """Whether an HFS or HFS+ volume header stands in it."""

    @property
    def offset(self) -> int:
        """Byte offset of the entry in the image."""
        return self.number * self.unit

    @property
    def first(self) -> int:
        """The first 512-byte sector."""
        return self.start * self.unit // SECTOR

    @property
    def end(self) -> int:
        """The sector behind the last one."""
        return (self.start + self.count) * self.unit // SECTOR


def read_apm(view: ByteView) -> Tuple[ApmPartition, ...]:
    """The entries of the map of an image; none when it has no map."""
    for unit in (SECTOR, BLOCK):
        found = []
        for number in range(1, SYSTEM_AREA * BLOCK // unit):
            raw = view.read(number * unit, SECTOR)
            if raw[:4] != SIGNATURE:
                break
            start, count = struct.unpack_from(">LL", raw, PLACE)
            found.append(
                ApmPartition(
                    number=number,
                    kind=raw[48:80].split(b"\0")[0].decode("latin-1"),
                    unit=unit,
                    start=start,
                    count=count,
                    data_count=struct.unpack_from(">L", raw, DATA_COUNT)[0],
                    has_hfs=has_hfs(view, start * unit),
                )
            )
        if found:
            return tuple(found)
    return ()


def has_hfs(view: ByteView, offset: int) -> bool:
    """Whether a volume header of HFS or HFS+ stands in a volume that begins at byte ``offset``."""
    at = offset + _VOLUME_HEADER
    return at + 2 <= view.size and view.read(at, 2) in _HFS_MARKS
