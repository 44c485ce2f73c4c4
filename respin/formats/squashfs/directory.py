"""Squashfs directories: runs of a header (count - 1, inode block, base inode number) and up to 256 entries.

Section 3.4 of the kernel's squashfs documentation; little-endian.
"""

from __future__ import annotations

import struct
from typing import Iterator, List, NamedTuple, Set, Tuple

from respin.errors import MalformedError, UnsupportedError
from respin.formats.squashfs.inode import Kind
from respin.formats.squashfs.metadata import BytesCursor, Cursor
from respin.limits import LIMITS

MOST_ENTRIES = 500_000
HEADER = struct.Struct("<III")
ENTRY = struct.Struct("<HhHH")
_LENGTH = 6  # where in an entry the length of its name stands
_KINDS = (Kind.DIRECTORY, *Kind)  # by number; there is no 0


class DirectoryEntry(NamedTuple):
    """One name in a directory; ``reference`` finds the inode in the inode table."""

    name: bytes
    reference: int
    number: int
    kind: Kind

    @property
    def inode(self) -> int:
        """The inode's number."""
        return self.number


def read_directory(cursor: Cursor, size: int, where: str) -> List[DirectoryEntry]:
    """The entries in the ``size`` bytes at ``cursor``, in the order in which they are stored.

    Raises MalformedError for names that are empty, twice there, ``.``, ``..`` or hold a slash or NUL.
    """
    if size > LIMITS.squashfs_directory:
        raise UnsupportedError(f"the directory has {size} bytes, more than the limit", where=where)
    entries: List[DirectoryEntry] = []
    names: Set[bytes] = set()
    content = cursor.take(size)
    at = 0
    while at < size:
        if at + HEADER.size > size:
            raise _bad(where, "entries reach behind its end")
        count, block, base = HEADER.unpack_from(content, at)
        at += HEADER.size
        if count > 255:
            raise _bad(where, f"a run of {count + 1} entries")
        for _ in range(count + 1):
            if at + ENTRY.size > size:
                raise _bad(where, "entries reach behind its end")
            offset, delta, kind, length = ENTRY.unpack_from(content, at)
            at += ENTRY.size
            if length > 255 or not 1 <= kind <= 7:
                raise _bad(where, f"an entry of type {kind} with a name of {length + 1} bytes")
            name = content[at : at + length + 1]
            at += length + 1
            if at > size:
                raise _bad(where, "entries reach behind its end")
            if name in (b".", b"..") or b"/" in name or b"\0" in name or name in names:
                raise _bad(where, f"the name {name!r}")
            names.add(name)
            entries.append(DirectoryEntry(name, block << 16 | offset, base + delta, _KINDS[kind]))
        if len(names) > MOST_ENTRIES:
            raise UnsupportedError(f"the directory has more than {MOST_ENTRIES} names", where=where)
    return entries


class Run(NamedTuple):
    """A run: where its header stands, the inode block of all its entries, of each entry (position, inode offset)."""

    position: int
    block: int
    entries: List[Tuple[int, int]]


def read_runs(content: bytes, offset: int, size: int, where: str) -> Iterator[Run]:
    """Every run of the listing of ``size`` bytes at ``offset`` of ``content``; positions count in ``content``."""
    cursor = BytesCursor(content, where, offset)
    while cursor.position < offset + size:
        position = cursor.position
        count, block, _base = HEADER.unpack(cursor.take(HEADER.size))
        entries = []
        for _ in range(min(count, 256) + 1):
            at = cursor.position
            inode, _delta, _kind, length = ENTRY.unpack(cursor.take(ENTRY.size))
            cursor.take(length + 1)
            entries.append((at, inode))
        yield Run(position, block, entries)
    if cursor.position != offset + size:
        raise _bad(where, "entries reach behind its end")


def run_headers(content: bytes, offset: int, size: int, where: str) -> Iterator[Tuple[int, int]]:
    """Position in ``content`` and inode block of every run's header, in the listing of ``size`` bytes at ``offset``."""
    at, behind = offset, len(content)
    while at < offset + size:
        position = at
        if at + HEADER.size > behind:
            raise _bad(where, "entries reach behind its end")
        count, block, _base = HEADER.unpack_from(content, at)
        at += HEADER.size
        for _ in range(min(count, 256) + 1):
            if at + ENTRY.size > behind:
                raise _bad(where, "entries reach behind its end")
            at += (
                ENTRY.size + 1 + (content[at + _LENGTH] | content[at + _LENGTH + 1] << 8)
            )  # that of its name, less one
        if at > behind:
            raise _bad(where, "entries reach behind its end")
        yield position, block
    if at != offset + size:
        raise _bad(where, "entries reach behind its end")


def _bad(where: str, what: str) -> MalformedError:
    return MalformedError(
        f"impossible squashfs directory: {what}",
        where=where,
        remedy="the image is damaged; fetch it again and compare its checksum",
    )
