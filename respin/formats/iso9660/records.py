"""Directory records: ECMA-119 sections 6.8.1.1 (how they fill blocks), 9.1 (their fields)."""

from __future__ import annotations

import struct
from typing import Iterator, NamedTuple

from respin.byteview import ByteView
from respin.errors import MalformedError
from respin.formats.iso9660.fields import BLOCK, same
from respin.limits import LIMITS

MINIMUM = 34
DIRECTORY = 0x02
ASSOCIATED = 0x04
MULTI_EXTENT = 0x80

SELF = b"\x00"
PARENT = b"\x01"

_LITTLE, _BIG = struct.Struct("<2xL4xL14xH2x"), struct.Struct(">6xL4xL12xH")
"""Extent, data length and volume sequence number of a record (9.1.3, 9.1.4, 9.1.9), each recorded in both orders."""


class DirectoryRecord(NamedTuple):
    """One record: where it stands (byte offset in the image), its bytes, and the fields of 9.1."""

    offset: int
    raw: bytes
    extent: int
    """First block of the extent, counted from the start of the image; what is recorded counts from the volume's."""
    size: int
    """Data length in bytes."""
    flags: int
    sequence: int
    """The volume of the set on which the extent lies (9.1.9)."""
    identifier: bytes

    @property
    def is_directory(self) -> bool:
        return bool(self.flags & DIRECTORY)

    @property
    def xattr_length(self) -> int:
        """Blocks of the extended attribute record that precedes the data (9.1.2)."""
        return self.raw[1]

    @property
    def interleaved(self) -> bool:
        """Whether the file is recorded in interleaved mode (9.1.7, 9.1.8)."""
        return bool(self.raw[26] or self.raw[27])

    @property
    def system_use(self) -> bytes:
        """The bytes behind the identifier and its padding (9.1.13)."""
        return self.raw[self.system_use_start :]

    @property
    def system_use_start(self) -> int:
        """Where the system use bytes begin, counted from the start of the record."""
        length = self.raw[32]
        return 33 + length + (1 - length % 2)


def read_record(data: bytes, at: int, offset: int, where: str, base: int = 0) -> DirectoryRecord:
    """The record at ``data[at:]``, which stands at byte ``offset`` of the image; MalformedError when it can't be.

    Its block number is recorded as counted from block ``base``.
    """
    length = data[at]
    if length < MINIMUM or at + length > len(data) or at // BLOCK != (at + length - 1) // BLOCK:
        raise MalformedError(
            f"a directory record of {length} bytes at byte {offset} doesn't fit where it stands", where=where
        )
    raw = data[at : at + length]
    if raw[32] == 0 or 33 + raw[32] > length:
        raise MalformedError(f"a directory record at byte {offset} has an impossible identifier", where=where)
    numbers = _LITTLE.unpack_from(raw)
    again = _BIG.unpack_from(raw)
    if numbers != again:
        for little, big in zip(numbers, again):
            same(little, big, f"{where}, directory record at byte {offset}")
    extent, size, sequence = numbers
    return DirectoryRecord(offset, raw, extent + base, size, raw[25], sequence, raw[33 : 33 + raw[32]])


def read_directory(view: ByteView, extent: int, size: int, base: int = 0) -> Iterator[DirectoryRecord]:
    """The records of the directory at block ``extent``, ``size`` bytes long, of a volume that begins at ``base``.

    Raises MalformedError for a directory or a record outside its bounds.
    """
    where = f"{view.name}, directory at block {extent}"
    if size > LIMITS.iso_directory:
        raise MalformedError(f"a directory of {size} bytes; the limit is {LIMITS.iso_directory}", where=where)
    data = view.read(extent * BLOCK, size)
    at = 0
    while at < size:
        if data[at] == 0:
            at = (at // BLOCK + 1) * BLOCK
            continue
        record = read_record(data, at, extent * BLOCK + at, where, base)
        yield record
        at += len(record.raw)
