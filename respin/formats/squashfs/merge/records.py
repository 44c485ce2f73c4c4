"""Writing inodes and directory listings, in the smallest form that holds them.

Little-endian; sections 3.3 and 3.4 of the kernel's squashfs documentation.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from typing import List, Mapping, NamedTuple, Optional, Tuple

from respin.errors import UnsupportedError
from respin.formats.squashfs.directory import ENTRY, HEADER
from respin.formats.squashfs.inode import HEADER as INODE_HEADER
from respin.formats.squashfs.inode import NO_XATTR, Kind, Tail
from respin.formats.squashfs.lookup import NO_FRAGMENT
from respin.formats.squashfs.merge.grown import GrownTable
from respin.formats.squashfs.metadata import split_reference
from respin.formats.squashfs.superblock import METADATA_SIZE

_EXTENDED = 7  # what an extended type's number is more than the basic one's
_RUN = 256
_NEAR = 0x7FFF
_BASIC_LISTING = 0xFFFF


class Target(NamedTuple):
    """What a directory entry says: where the inode is, its number, its type."""

    reference: int
    number: int
    kind: Kind


@dataclass(frozen=True)
class Owner:
    """The head of an inode: permission bits, indexes in the id table, time, number, index of its attributes."""

    mode: int
    uid: int
    gid: int
    mtime: int
    number: int
    xattr: Optional[int]

    def head(self, kind: Kind, *, extended: bool) -> bytes:
        """The 16 bytes that every inode begins with."""
        number = kind + _EXTENDED if extended else kind
        return INODE_HEADER.pack(number, self.mode, self.uid, self.gid, self.mtime, self.number)

    @property
    def attributes(self) -> int:
        """The attributes' index as extended inodes have it."""
        return NO_XATTR if self.xattr is None else self.xattr


@dataclass(frozen=True)
class StoredFile:
    """Where a file's content is: size, start of its blocks, their list as on disk, tail end, bytes of holes."""

    size: int
    start: int
    sizes: "array[int]"
    tail: Optional[Tail]
    sparse: int


def file_inode(owner: Owner, stored: StoredFile, nlink: int) -> bytes:
    """A regular file's inode with its block list."""
    fragment, offset = (NO_FRAGMENT, 0) if stored.tail is None else stored.tail
    blocks = struct.pack(f"<{len(stored.sizes)}I", *stored.sizes)
    large = stored.size >= 1 << 32 or stored.start >= 1 << 32
    if large or stored.sparse or nlink != 1 or owner.xattr is not None:
        body = struct.pack(
            "<QQQIIII", stored.start, stored.size, stored.sparse, nlink, fragment, offset, owner.attributes
        )
        return owner.head(Kind.FILE, extended=True) + body + blocks
    body = struct.pack("<IIII", stored.start, fragment, offset, stored.size)
    return owner.head(Kind.FILE, extended=False) + body + blocks


def other_inode(owner: Owner, kind: Kind, nlink: int, *, target: bytes = b"", rdev: int = 0) -> bytes:
    """The inode of a symbolic link, device, FIFO or socket."""
    if kind is Kind.SYMLINK:
        body = struct.pack("<II", nlink, len(target)) + target
    elif kind in (Kind.BLOCK_DEVICE, Kind.CHARACTER_DEVICE):
        body = struct.pack("<II", nlink, rdev)
    else:
        body = struct.pack("<I", nlink)
    if owner.xattr is None:
        return owner.head(kind, extended=False) + body
    return owner.head(kind, extended=True) + body + struct.pack("<I", owner.xattr)


@dataclass(frozen=True)
class WrittenListing:
    """Where a listing is in the directory table, its size and subdirectories, and the index that follows the inode."""

    block: int
    offset: int
    size: int
    directories: int
    index_count: int
    index: bytes


def directory_inode(owner: Owner, listing: WrittenListing, parent: int) -> bytes:
    """A directory's inode."""
    nlink, size = 2 + listing.directories, listing.size + 3
    if listing.index_count or size > _BASIC_LISTING or owner.xattr is not None:
        body = struct.pack(
            *("<IIIIHHI", nlink, size, listing.block, parent),
            *(listing.index_count, listing.offset, owner.attributes),
        )
        return owner.head(Kind.DIRECTORY, extended=True) + body + listing.index
    body = struct.pack("<IIHHI", listing.block, nlink, size, listing.offset, parent)
    return owner.head(Kind.DIRECTORY, extended=False) + body


def write_listing(table: GrownTable, entries: Mapping[bytes, Target], where: str) -> WrittenListing:
    """Append the sorted listing of a directory to the directory table.

    A listing of more than 8 KiB gets an index: every so many bytes the first name of a run and where that is, so that
    a look-up need not read all of it (the kernel's ``get_dir_index_using_name``).
    """
    start = table.place
    size = since_index = 0
    index: List[bytes] = []
    for first, run in _runs(entries):
        if size and since_index + len(run) > METADATA_SIZE:
            name = first
            index.append(struct.pack("<III", size, table.place[0], len(name) - 1) + name)
            since_index = 0
        table.append(run)
        size += len(run)
        since_index += len(run)
    if size > 0xFFFF_FFF0 or len(index) > 0xFFFF:
        raise UnsupportedError("the directory is too large for squashfs", where=where)
    directories = sum(1 for target in entries.values() if target.kind is Kind.DIRECTORY)
    return WrittenListing(*start, size, directories, len(index), b"".join(index))


def _runs(entries: Mapping[bytes, Target]) -> "List[Tuple[bytes, bytes]]":
    """The listing in runs, each with its first name: same inode block, numbers near each other, at most 8 KiB."""
    runs: List[Tuple[bytes, bytes]] = []
    names = sorted(entries)
    at = 0
    while at < len(names):
        first = at
        base = entries[names[first]]
        block, _offset = split_reference(base.reference)
        packed: List[bytes] = []
        size = HEADER.size
        while at < len(names) and at - first < _RUN:
            name = names[at]
            target = entries[name]
            place, offset = split_reference(target.reference)
            distance = target.number - base.number
            size += ENTRY.size + len(name)
            if place != block or not -_NEAR <= distance <= _NEAR or size > METADATA_SIZE:
                break
            packed.append(ENTRY.pack(offset, distance, target.kind, len(name) - 1) + name)
            at += 1
        runs.append((names[first], HEADER.pack(len(packed) - 1, block, base.number) + b"".join(packed)))
    return runs
