"""Squashfs inodes, all fourteen types (basic 1-7, extended 8-14), and the block lists of regular files.

Little-endian; section 3.3 of the kernel's squashfs documentation, structures as in ``fs/squashfs/squashfs_fs.h``.
"""

from __future__ import annotations

import stat
import struct
import sys
from array import array
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Iterator, NamedTuple, Optional, Sequence, Tuple, Union, overload

from respin.errors import MalformedError, UnsupportedError
from respin.formats.squashfs.lookup import NO_FRAGMENT, SIZE_MASK, STORED_BIT
from respin.formats.squashfs.metadata import Cursor
from respin.limits import LIMITS, KiB

NO_XATTR = 0xFFFF_FFFF
HEADER = struct.Struct("<HHHHII")


class Kind(IntEnum):
    """What an inode is; the number of the basic type."""

    DIRECTORY = 1
    FILE = 2
    SYMLINK = 3
    BLOCK_DEVICE = 4
    CHARACTER_DEVICE = 5
    FIFO = 6
    SOCKET = 7


_FORMAT_BITS = {
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.FILE: stat.S_IFREG,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
}


_KINDS = (Kind.DIRECTORY, *Kind, *Kind)  # by type, basic and extended; there is no 0
FILE = struct.Struct("<IIII")
EXTENDED_FILE = struct.Struct("<QQQIIII")


class Listing(NamedTuple):
    """Where a directory's entries lie in the directory table, and how many bytes they have."""

    block: int
    offset: int
    size: int


class Tail(NamedTuple):
    """The end of a file, ``offset`` bytes into the content of the fragment block ``fragment``."""

    fragment: int
    offset: int


class Inode(NamedTuple):
    """An inode. ``mode`` is a whole st_mode; ``mtime`` counts seconds since 1970; ``rdev`` as stored on disk.

    ``start`` is the byte offset in the image of a file's first data block, ``block_count`` the length of its block
    list, ``tail`` where its last partial block lies if that is in a fragment, ``sparse`` the bytes said to be holes.
    """

    number: int
    kind: Kind
    extended: bool
    mode: int
    uid: int
    gid: int
    mtime: int
    nlink: int = 1
    size: int = 0
    xattr: Optional[int] = None
    rdev: int = 0
    target: bytes = b""
    listing: Optional[Listing] = None
    parent: int = 0
    index_count: int = 0
    start: int = 0
    block_count: int = 0
    tail: Optional[Tail] = None
    sparse: int = 0

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.kind is Kind.DIRECTORY

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.kind is Kind.FILE

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self.kind is Kind.SYMLINK


@dataclass(frozen=True)
class Block:
    """A data block of a file: its number in the file, byte offset in the image, stored length (0: a hole)."""

    index: int
    offset: int
    stored_size: int
    is_compressed: bool


class BlockList(Sequence[Block]):
    """The data blocks of one file, which lie one behind the other in the image. Compact: files can have millions."""

    def __init__(self, start: int, sizes: "array[int]") -> None:
        self.start = start
        self.sizes = sizes  # as on disk: stored length, STORED_BIT
        self.offsets = array("Q", accumulate(map(SIZE_MASK.__and__, sizes), initial=start))
        self.end = self.offsets.pop()

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Block: ...

    @overload
    def __getitem__(self, index: slice) -> Tuple[Block, ...]: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[Block, Tuple[Block, ...]]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        size = self.sizes[index]
        return Block(index, self.offsets[index], size & SIZE_MASK, not size & STORED_BIT)

    def __iter__(self) -> Iterator[Block]:
        return (self[number] for number in range(len(self)))


def read_inode(cursor: Cursor, ids: Sequence[int], block_size: int, inode_count: int, where: str) -> Inode:
    """Parse the inode at ``cursor``, which then stands at what follows its fixed part: block list or directory index.

    Raises MalformedError for anything the format does not allow.
    """
    number_type, permissions, uid, gid, mtime, number = HEADER.unpack(cursor.take(HEADER.size))
    if not 1 <= number_type <= 14:
        raise _bad(where, f"its type is {number_type}")
    kind, extended = _KINDS[number_type], number_type > 7
    if uid >= len(ids) or gid >= len(ids):
        raise _bad(where, f"it uses id {max(uid, gid)} of {len(ids)}")
    if not 1 <= number <= inode_count:
        raise _bad(where, f"its number is {number} of {inode_count}")
    if permissions & ~0o7777:  # Linux takes the type from here, too, or refuses the inode
        raise _bad(where, f"its permissions are {permissions:#o}")
    mode = _FORMAT_BITS[kind] | permissions
    common = (number, kind, extended, mode, ids[uid], ids[gid], mtime)
    if kind is Kind.FILE:
        sparse, nlink, xattr = 0, 1, NO_XATTR
        if extended:
            start, size, sparse, nlink, fragment, offset, xattr = EXTENDED_FILE.unpack(cursor.take(40))
        else:
            start, fragment, offset, size = FILE.unpack(cursor.take(16))
        if fragment != NO_FRAGMENT and size % block_size == 0:
            raise _bad(where, f"its {size} bytes fill blocks, and it names fragment {fragment} for the rest")
        tail = None if fragment == NO_FRAGMENT else Tail(fragment, offset)
        if tail and offset + size % block_size > block_size:
            raise _bad(where, "its tail end reaches behind the end of a fragment")
        block_count = size // block_size if fragment != NO_FRAGMENT else -(-size // block_size)
        return Inode(
            *common, nlink, size, _xattr(xattr), start=start, block_count=block_count, tail=tail, sparse=sparse
        )
    if kind is Kind.DIRECTORY:
        index_count, xattr = 0, NO_XATTR
        if extended:
            nlink, size, block, parent, index_count, offset, xattr = struct.unpack("<IIIIHHI", cursor.take(24))
        else:
            block, nlink, size, offset, parent = struct.unpack("<IIHHI", cursor.take(16))
        listing = Listing(block, offset, max(size - 3, 0))
        return Inode(*common, nlink, size, _xattr(xattr), listing=listing, parent=parent, index_count=index_count)
    if kind is Kind.SYMLINK:
        nlink, length = struct.unpack("<II", cursor.take(8))
        if not 0 < length <= 64 * KiB:
            raise _bad(where, f"its link target has {length} bytes")
        target = cursor.take(length)
        return Inode(*common, nlink, length, _read_xattr(cursor, extended), target=target)
    rdev = 0
    if kind in (Kind.BLOCK_DEVICE, Kind.CHARACTER_DEVICE):
        nlink, rdev = struct.unpack("<II", cursor.take(8))
    else:
        (nlink,) = struct.unpack("<I", cursor.take(4))
    return Inode(*common, nlink, 0, _read_xattr(cursor, extended), rdev)


def read_block_list(cursor: Cursor, inode: Inode, block_size: int, data_end: int, where: str) -> BlockList:
    """The block list that follows a regular file's inode; the blocks must end before byte ``data_end`` of the image."""
    if inode.block_count * 4 > LIMITS.squashfs_table // 8:
        raise UnsupportedError(f"a file of {inode.size} bytes is larger than the limit", where=where)
    sizes = array("I")
    left = inode.block_count * 4
    while left:  # piece by piece: a claimed length is not worth an allocation
        piece = cursor.take(min(left, 8 * KiB))
        sizes.frombytes(piece)
        left -= len(piece)
    if sys.byteorder == "big":
        sizes.byteswap()
    for size in sizes if sizes and max(sizes) > block_size else ():
        if size & SIZE_MASK <= block_size and size <= SIZE_MASK | STORED_BIT and size != STORED_BIT:
            continue
        # A hole is a zero: what is stored without a byte is an error to Linux.
        raise _bad(where, f"a data block has {size & SIZE_MASK} stored bytes, flags {size >> 24:#x}")
    if inode.start > data_end:
        if any(size & SIZE_MASK for size in sizes):
            raise _bad(where, "its data starts behind the data region")
        return BlockList(0, sizes)
    blocks = BlockList(inode.start, sizes)
    if blocks.end > data_end:
        raise _bad(where, "its data reaches into the inode table")
    return blocks


def skip_index(cursor: Cursor, inode: Inode) -> None:
    """Move ``cursor`` behind the index that follows an extended directory inode."""
    for _ in range(inode.index_count):
        _index, _start, name_length = struct.unpack("<III", cursor.take(12))
        if name_length > 255:
            raise MalformedError("a directory index holds a name that is too long")
        cursor.take(name_length + 1)


def _read_xattr(cursor: Cursor, extended: bool) -> Optional[int]:
    return _xattr(struct.unpack("<I", cursor.take(4))[0]) if extended else None


def _xattr(number: int) -> Optional[int]:
    return None if number == NO_XATTR else number


def _bad(where: str, what: str) -> MalformedError:
    return MalformedError(
        f"impossible squashfs inode: {what}",
        where=where,
        remedy="the image is damaged; fetch it again and compare its checksum",
    )
