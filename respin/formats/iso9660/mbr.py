"""The master boot record in the system area: partition entries, cylinder-head-sector addresses, isohybrid's fields.

Covered: the classic four entries (no extended partitions), the boot image's sector number that isolinux and GRUB 2
keep at offset 432. Sectors are 512 bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional, Tuple

BOOT_SECTOR = 432
TABLE = 446
ENTRY = 16
PROTECTIVE = 0xEE
LAST_CYLINDER = 1023
ISOHYBRID_GEOMETRY = (64, 32)
"""Heads and sectors per track; one cylinder is one MiB."""
LARGE_GEOMETRY = (255, 63)
NO_ADDRESS = b"\xfe\xff\xff"
"""What stands for an address where only sector numbers count."""


class MbrPartition(NamedTuple):
    """One used entry of the table; ``number`` counts from 1."""

    number: int
    status: int
    kind: int
    start: int
    sectors: int
    start_chs: bytes
    end_chs: bytes

    @property
    def end(self) -> int:
        """The sector behind the last one."""
        return self.start + self.sectors

    @property
    def offset(self) -> int:
        """Byte offset of the entry in the image."""
        return TABLE + ENTRY * (self.number - 1)


class Mbr(NamedTuple):
    """A boot record with its signature in place."""

    disk_id: int
    boot_sector: int
    """The 64-bit number at offset 432, whatever it means."""
    partitions: Tuple[MbrPartition, ...]
    has_code: bool


def read_mbr(sector: bytes) -> Optional[Mbr]:
    """The boot record in the first 512 bytes of an image; None without the signature 55 AA."""
    if sector[510:512] != b"\x55\xaa":
        return None
    partitions = []
    for number in range(1, 5):
        raw = sector[TABLE + ENTRY * (number - 1) : TABLE + ENTRY * number]
        start, sectors = struct.unpack_from("<LL", raw, 8)
        if sectors:
            partitions.append(MbrPartition(number, raw[0], raw[4], start, sectors, raw[1:4], raw[5:8]))
    return Mbr(
        disk_id=struct.unpack_from("<L", sector, 440)[0],
        boot_sector=struct.unpack_from("<Q", sector, BOOT_SECTOR)[0],
        partitions=tuple(partitions),
        has_code=any(sector[:BOOT_SECTOR]),
    )


def chs(sector: int, geometry: Tuple[int, int]) -> bytes:
    """The three address bytes of a sector; beyond cylinder 1023, the last address of the geometry."""
    heads, per_track = geometry
    cylinder, rest = divmod(sector, heads * per_track)
    head, number = divmod(rest, per_track)
    if cylinder > LAST_CYLINDER:
        cylinder, head, number = LAST_CYLINDER, heads - 1, per_track - 1
    return bytes((head, (number + 1) | (cylinder >> 8) << 6, cylinder & 0xFF))


def geometry_of(partition: MbrPartition) -> Optional[Tuple[int, int]]:
    """The geometry in which the partition's end address is right; None when it is a mere marker."""
    if partition.end_chs[0] >= NO_ADDRESS[0] and partition.end_chs[1:] == NO_ADDRESS[1:]:
        return None
    # Above one GiB xorriso takes other cylinders; what ends with one has its geometry in its end address.
    heads, per_track = partition.end_chs[0] + 1, partition.end_chs[1] & 0x3F
    ends_with_own = per_track and partition.end % (heads * per_track) == 0
    own = [(heads, per_track)] if ends_with_own else []
    for geometry in (ISOHYBRID_GEOMETRY, *own, LARGE_GEOMETRY):
        if partition.end_chs == chs(partition.end - 1, geometry):
            return geometry
    return None


def cylinder_of(partition: MbrPartition) -> Optional[int]:
    """The sectors of a cylinder of the geometry that the partition keeps to: it ends where a cylinder ends."""
    geometry = geometry_of(partition)
    if geometry is None or partition.end % (geometry[0] * geometry[1]):
        return None
    return geometry[0] * geometry[1]
