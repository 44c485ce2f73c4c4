"""Inodes of erofs, compact (32 bytes) and extended (64), little-endian. An inode's number says where it lies."""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass, field
from enum import IntEnum

from respin.byteview import ByteView
from respin.errors import UnsupportedError
from respin.formats.erofs.superblock import SLOT, ErofsSuperblock, malformed

_COMPACT = struct.Struct("<HHHHIIIIHHI")
_EXTENDED = struct.Struct("<HHHHQIIIIQII16x")
_KINDS = {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK}
_MOST_SIZE = (1 << 63) - 1
_XATTR_HEADER = 12
_ONE_LINK = 0x10  # of a compact inode that isn't a directory; of directories: "." is not stored


class Layout(IntEnum):
    """How content is stored."""

    PLAIN = 0
    COMPRESSED_FULL = 1
    INLINE = 2
    COMPRESSED_COMPACT = 3
    CHUNKS = 4


@dataclass(frozen=True)
class ErofsInode:
    """An inode.

    ``mode`` is a whole st_mode and ``rdev`` an st_rdev; times are seconds since 1970. ``layout``, ``content`` (the
    number of the first block, or the format of chunks) and ``behind`` (the byte of the image behind inode and
    attributes) are for readers of content; ``xattrs`` is the byte where the attributes begin, ``xattr_size`` their
    length.
    """

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    mtime_nsec: int
    nlink: int
    rdev: int
    layout: Layout = field(repr=False)
    content: int = field(repr=False)
    xattrs: int = field(repr=False)
    xattr_size: int = field(repr=False)

    @property
    def behind(self) -> int:
        """The byte of the image behind the inode and its attributes."""
        return self.xattrs + self.xattr_size

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


def read_inode(view: ByteView, superblock: ErofsSuperblock, number: int) -> ErofsInode:
    """Inode ``number``. Raises MalformedError for an impossible one, UnsupportedError for a format that isn't known."""
    at = superblock.meta + SLOT * number
    head = view.read(at, _COMPACT.size)
    form = int.from_bytes(head[:2], "little")
    if form >> 5 or form >> 1 & 7 > max(Layout):
        raise UnsupportedError(
            f"inode {number} has the unknown format {form:#x}", where=view.name, finding="erofs-features"
        )
    seconds, nanoseconds = superblock.epoch, superblock.nanoseconds
    if form & 1:
        _, count, mode, _, size, content, _, uid, gid, seconds, nanoseconds, nlink = _EXTENDED.unpack(
            view.read(at, _EXTENDED.size)
        )
        end = at + _EXTENDED.size
    else:
        _, count, mode, nlink, size, offset, content, _, uid, gid, _ = _COMPACT.unpack(head)
        end, seconds = at + _COMPACT.size, seconds + offset
        if form & _ONE_LINK and not stat.S_ISDIR(mode):
            if nlink:
                raise UnsupportedError(
                    f"inode {number} uses 48-bit block numbers", where=view.name, finding="erofs-features"
                )
            nlink = 1
    if stat.S_IFMT(mode) not in _KINDS or size > _MOST_SIZE:
        raise malformed(view, f"inode {number} has the mode {mode:o} and {size} bytes")
    device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    return ErofsInode(
        number=number,
        mode=mode,
        uid=uid,
        gid=gid,
        size=size,
        mtime=seconds,
        mtime_nsec=nanoseconds,
        nlink=nlink,
        rdev=os.makedev(content >> 8 & 0xFFF, content & 0xFF | content >> 12 & 0xFFF00) if device else 0,
        layout=Layout(form >> 1 & 7),
        content=content,
        xattrs=end,
        xattr_size=_XATTR_HEADER + 4 * (count - 1) if count else 0,
    )
