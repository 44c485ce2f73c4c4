"""A partition table whose backup was moved to the end of a disk that is larger than the image.

A GUID partition table keeps a backup in the last sectors of the disk (UEFI 2.10, section 5.3). On a larger disk the
image's backup lies in the middle, and what finds it there may move it: ``sgdisk -e``, ``sfdisk`` and parted rewrite the
primary header, the size in the protective boot record and, some of them, its addresses and the disk's signature;
parted wipes the old backup's header. All of these follow from the old table and the size of the disk.
Sectors are 512 bytes; only headers of 92 bytes and protective boot records are handled.
"""

from __future__ import annotations

import struct
from typing import Optional

from respin.formats.iso9660.fields import SECTOR
from respin.formats.iso9660.gpt import PRIMARY, SIGNATURE, checksum
from respin.formats.iso9660.mbr import ENTRY, LARGE_GEOMETRY, NO_ADDRESS, PROTECTIVE, TABLE, chs

AREA_OFFSET = 440
"""Where the disk's signature stands, and behind it the partition table of the boot record, its mark, the GPT header."""
HEADER_SIZE = 92
AREA_SIZE = SECTOR - AREA_OFFSET + HEADER_SIZE
_HEADER = SECTOR - AREA_OFFSET
_ENTRIES = TABLE - AREA_OFFSET
_FIRST_ADDRESS = b"\0\2\0"
_ANY_END = b"\xff\xff\xff"


def gpt_header(area: bytes) -> Optional[bytes]:
    """The primary header in an area of :data:`AREA_SIZE` bytes from :data:`AREA_OFFSET`; None unless there is one."""
    header = area[_HEADER:]
    length, crc = struct.unpack_from("<LL", header, 12)
    (my_lba,) = struct.unpack_from("<Q", header, 24)
    right = header[:8] == SIGNATURE and length == HEADER_SIZE and my_lba == PRIMARY and crc == checksum(header)
    return header if right else None


def entries_of(header: bytes) -> "tuple[int, int]":
    """Byte offset and size of the entry array that a header names."""
    lba, count, size = struct.unpack_from("<QLL", header, 72)
    return lba * SECTOR, count * size


def moved_header(header: bytes, sectors: int) -> bytes:
    """The primary header ``header`` on a disk of ``sectors``."""
    alternate = sectors - 1
    return _with(header, PRIMARY, alternate, alternate - _array_sectors(header) - 1, entries_of(header)[0] // SECTOR)


def backup_header(header: bytes, sectors: int) -> bytes:
    """The backup that belongs to a primary header on a disk of ``sectors``; its entry array lies right before it."""
    last = sectors - 1
    array = _array_sectors(header)
    return _with(header, last, PRIMARY, last - array - 1, last - array)


def is_moved(area: bytes, found: bytes, sectors: int) -> bool:
    """Whether ``found`` is what moving the backup to the end of a disk of ``sectors`` makes of ``area``."""
    header = gpt_header(area)
    if header is None or found[_HEADER:] != moved_header(header, sectors):
        return False
    if found[:4] not in (area[:4], bytes(4)) or found[4:_ENTRIES] != area[4:_ENTRIES]:
        return False
    protective = 0
    for at in range(_ENTRIES, _HEADER - 2, ENTRY):
        mine, theirs = area[at : at + ENTRY], found[at : at + ENTRY]
        protective += mine[4] == PROTECTIVE
        if mine != theirs and not _is_resized(mine, theirs, sectors):
            return False
    return protective == 1 and found[_HEADER - 2 : _HEADER] == area[_HEADER - 2 : _HEADER]


def has_other_partitions(area: bytes, found: bytes) -> bool:
    """Whether ``found`` names partitions that ``area`` does not: in the boot record, or by another GPT entry array."""
    for at in range(_ENTRIES, _HEADER - 2, ENTRY):
        mine, theirs = area[at : at + ENTRY], found[at : at + ENTRY]
        if any(theirs) and theirs[4] != PROTECTIVE and theirs != mine:
            return True
    is_table = found[_HEADER : _HEADER + 8] == SIGNATURE
    return is_table and (gpt_header(area) is None or found[_HEADER + 80 :] != area[_HEADER + 80 :])


def _is_resized(mine: bytes, theirs: bytes, sectors: int) -> bool:
    if mine[4] != PROTECTIVE or theirs[0] != mine[0] or theirs[4] != mine[4] or theirs[8:12] != mine[8:12]:
        return False
    (start,) = struct.unpack_from("<L", mine, 8)
    size = min(sectors - start, 0xFFFFFFFF)
    ends = (mine[5:8], chs(sectors - 1, LARGE_GEOMETRY), NO_ADDRESS, _ANY_END)
    return (
        theirs[1:4] in (mine[1:4], _FIRST_ADDRESS)
        and theirs[5:8] in ends
        and theirs[12:16] in (mine[12:16], struct.pack("<L", size))
    )


def _array_sectors(header: bytes) -> int:
    return -(-entries_of(header)[1] // SECTOR)


def _with(header: bytes, my_lba: int, alternate: int, last_usable: int, entries_lba: int) -> bytes:
    new = bytearray(header)
    struct.pack_into("<QQ", new, 24, my_lba, alternate)
    struct.pack_into("<Q", new, 48, last_usable)
    struct.pack_into("<Q", new, 72, entries_lba)
    struct.pack_into("<L", new, 16, checksum(bytes(new)))
    return bytes(new)
