"""Inodes of ext2, ext3 and ext4, 128 bytes and larger, little-endian.

Linux Documentation/filesystems/ext4/inodes.rst. Checksums are not verified.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import NamedTuple, Optional, Tuple

ROOT = 2
EXTENTS_FLAG = 0x80000
EA_INODE_FLAG = 0x200000
INLINE_DATA_FLAG = 0x10000000
_ENCRYPT_FLAG = 0x800
_VERITY_FLAG = 0x100000
_CASEFOLD_FLAG = 0x40000000
REFUSED_FLAGS = _ENCRYPT_FLAG | _VERITY_FLAG | _CASEFOLD_FLAG

BASE_SIZE = 128
BLOCK_AREA = 40  # offset of i_block in the inode
BLOCK_AREA_SIZE = 60

_BASE = struct.Struct("<HHIiiiIHHIII60sIIIIHHHHHH")
_SLOT = struct.Struct("<H18xI2xH")
_EXTRA = struct.Struct("<HHIIIiI")
_WITH_CRTIME = 20  # bytes of it, at least
assert _BASE.size == BASE_SIZE


class Slot(NamedTuple):
    """What decides whether a slot is in use: st_mode, link count (0: it is not), time of deletion (0: never)."""

    mode: int
    links: int
    deleted: int


class ExtInode(NamedTuple):
    """An inode; a tuple, as they are made by the ten thousand.

    ``mode`` is a whole st_mode and ``rdev`` an st_rdev. Times are seconds since 1970 (before and far beyond 2038,
    too), the ``_nsec`` fields their nanoseconds; ``crtime`` is None where the inode has no room for it. ``sectors``
    counts 512-byte units of allocated space, ``flags`` are i_flags. ``block_area``, ``extended`` (everything behind
    the fixed fields: extended attributes) and ``xattr_block`` are for readers of content.
    """

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    ctime: int
    atime: int
    crtime: Optional[int]
    nlink: int
    rdev: int
    flags: int
    mtime_nsec: int
    ctime_nsec: int
    atime_nsec: int
    crtime_nsec: int
    sectors: int
    generation: int
    xattr_block: int
    block_area: bytes
    extended: bytes

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_inline(self) -> bool:
        """Whether its content lies in the inode itself."""
        return bool(self.flags & INLINE_DATA_FLAG)


def parse_slot(raw: bytes, at: int = 0) -> Slot:
    """The same of the slot that begins at byte ``at`` of ``raw``."""
    mode, deleted, links = _SLOT.unpack_from(raw, at)
    return Slot(mode, links, deleted)


def parse_inode(raw: bytes, number: int, *, block_size: int, large_directories: bool, huge_files: bool) -> ExtInode:
    """The inode in the ``raw`` bytes of its slot. Never fails: what makes no sense shows when it is used."""
    (
        mode,
        uid,
        size,
        atime,
        ctime,
        mtime,
        _dtime,
        gid,
        nlink,
        sectors,
        flags,
        _version,
        block_area,
        generation,
        xattr_block,
        size_high,
        _fragment,
        sectors_high,
        xattr_block_high,
        uid_high,
        gid_high,
        _checksum,
        _reserved,
    ) = _BASE.unpack_from(raw)
    kind = mode & 0o170000
    if size_high and (kind == stat.S_IFREG or (large_directories and kind == stat.S_IFDIR)):
        size |= size_high << 32
    if huge_files:
        sectors |= sectors_high << 32
        if flags & 0x40000:  # counted in blocks, not in sectors
            sectors *= block_size // 512
    mtime_nsec = ctime_nsec = atime_nsec = crtime_nsec = 0
    crtime: Optional[int] = None
    extended = b""
    if len(raw) >= BASE_SIZE + 4:
        (extra,) = struct.unpack_from("<H", raw, BASE_SIZE)
        extra = extra if extra % 4 == 0 and BASE_SIZE + extra <= len(raw) else 0
        if extra:  # fields that it has no room for are zeros
            fields = raw[BASE_SIZE : BASE_SIZE + extra].ljust(_EXTRA.size, b"\0")
            _size, _sum, ctime_extra, mtime_extra, atime_extra, born, crtime_extra = _EXTRA.unpack_from(fields)
            crtime = born if extra >= _WITH_CRTIME else None
            ctime, ctime_nsec = _time(ctime, ctime_extra)
            mtime, mtime_nsec = _time(mtime, mtime_extra)
            atime, atime_nsec = _time(atime, atime_extra)
            if crtime is not None:
                crtime, crtime_nsec = _time(crtime, crtime_extra)
        extended = raw[BASE_SIZE + extra :] if extra else b""
    rdev = 0
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        rdev = _device(block_area)
    return ExtInode(
        number,
        mode,
        uid | uid_high << 16,
        gid | gid_high << 16,
        size,
        mtime,
        ctime,
        atime,
        crtime,
        nlink,
        rdev,
        flags,
        mtime_nsec,
        ctime_nsec,
        atime_nsec,
        crtime_nsec,
        sectors,
        generation,
        xattr_block | xattr_block_high << 32,
        block_area,
        extended,
    )


def _time(seconds: int, extra: int) -> Tuple[int, int]:
    """Signed 32-bit seconds with two more epoch bits, and nanoseconds."""
    return seconds + ((extra & 3) << 32), extra >> 2


def _device(block_area: bytes) -> int:
    old, new = struct.unpack_from("<II", block_area)
    if old:
        return os.makedev(old >> 8 & 0xFF, old & 0xFF)
    return os.makedev(new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00)
