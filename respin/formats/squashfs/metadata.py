"""Metadata blocks of squashfs 4.0: a 16-bit header (bit 15: stored as it is) and up to 8 KiB of content.

Tables are runs of such blocks. A place in a table is named by the byte at which its block starts, counted from the
start of the table, and an offset in the block's content (section 3 of the kernel's squashfs documentation).
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass
from typing import Dict, Iterator, List, Protocol, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.squashfs.codec import Codec
from respin.formats.squashfs.corrupt import CorruptBlock
from respin.formats.squashfs.superblock import METADATA_SIZE
from respin.limits import LIMITS

_CACHED_BLOCKS = 2048
_MOST_BLOCKS = LIMITS.squashfs_table // METADATA_SIZE
_HEADER = struct.Struct("<H")


@dataclass(frozen=True)
class MetadataBlock:
    """One metadata block: byte offset in the image, stored length with its header, and content."""

    offset: int
    stored: int
    content: bytes

    @property
    def end(self) -> int:
        """The byte behind it."""
        return self.offset + self.stored


def read_block(view: ByteView, codec: Codec, offset: int, stored: int, compressed: bool, limit: int) -> bytes:
    """The content of the data or metadata block whose ``stored`` bytes lie at ``offset``; at most ``limit`` bytes."""
    data = view.read(offset, stored)
    if not compressed:
        if stored > limit:
            raise malformed(view, offset, f"a stored block has {stored} bytes, more than {limit}")
        return data
    try:
        return codec.decompress(data, limit)
    except CorruptBlock as error:
        raise malformed(view, offset, f"a compressed block is damaged: {error}") from error


def read_metadata_block(view: ByteView, codec: Codec, offset: int, end: int) -> MetadataBlock:
    """The metadata block at byte ``offset`` of the image; it must lie before ``end``."""
    if offset + 2 > end:
        raise malformed(view, offset, "a metadata table ends too early")
    (header,) = _HEADER.unpack(view.read(offset, 2))
    length = header & 0x7FFF
    if not 0 < length <= METADATA_SIZE or offset + 2 + length > end:
        raise malformed(view, offset, f"a metadata block has an impossible length of {length} bytes")
    content = read_block(view, codec, offset + 2, length, not header & 0x8000, METADATA_SIZE)
    if not content:
        raise malformed(view, offset, "a metadata block is empty")
    return MetadataBlock(offset, 2 + length, content)


def malformed(view: ByteView, offset: int, what: str) -> MalformedError:
    """The error for damage at a byte of the image."""
    return MalformedError(
        what,
        where=f"{view.name}, byte {offset}",
        remedy="the image is damaged; fetch it again and compare its checksum",
    )


class Cursor(Protocol):
    """Where a parser stands in a table."""

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""


class Table:
    """The run of metadata blocks in bytes ``[start, end)`` of an image, read when needed and cached."""

    def __init__(self, view: ByteView, codec: Codec, start: int, end: int) -> None:
        self.view = view
        self.start = start
        self.end = end
        self._codec = codec
        self._cache: Dict[int, MetadataBlock] = {}
        self._lock = threading.Lock()

    def block(self, offset: int) -> MetadataBlock:
        """The block that starts ``offset`` bytes into the table."""
        with self._lock:
            block = self._cache.get(offset)
            if block is None:
                block = read_metadata_block(self.view, self._codec, self.start + offset, self.end)
                if len(self._cache) >= _CACHED_BLOCKS:
                    del self._cache[next(iter(self._cache))]
                self._cache[offset] = block
        return block

    def blocks(self) -> Iterator[MetadataBlock]:
        """All blocks in order; raises MalformedError unless they fill the table exactly."""
        at = self.start
        while at < self.end:
            block = read_metadata_block(self.view, self._codec, at, self.end)
            yield block
            at = block.end

    def last_block(self) -> int:
        """The byte of the image at which the last block begins; the table must not be empty.

        Raises MalformedError unless the blocks fill the table exactly, UnsupportedError when they are too many.
        """
        at = last = self.start
        for _ in range(_MOST_BLOCKS):
            if at == self.end:
                return last
            if at + 2 > self.end:
                break
            (header,) = _HEADER.unpack(self.view.read(at, 2))
            last, at = at, at + 2 + (header & 0x7FFF)
        else:
            raise UnsupportedError(f"a metadata table has more than {_MOST_BLOCKS} blocks", where=self.view.name)
        raise malformed(self.view, last, "the last block of a metadata table reaches behind its end")

    def cursor(self, offset: int, within: int) -> "TableCursor":
        """A cursor at byte ``within`` of the content of the block that starts ``offset`` bytes into the table."""
        return TableCursor(self, offset, within)


class TableCursor:
    """Reads on through a :class:`Table` from block to block."""

    def __init__(self, table: Table, offset: int, within: int) -> None:
        self._table = table
        self._block = table.block(offset)
        self._within = within
        if within >= METADATA_SIZE:
            raise malformed(table.view, table.start + offset, f"a reference points at byte {within} of a block")

    def take(self, length: int) -> bytes:
        content = self._block.content
        end = self._within + length
        if end <= len(content):
            piece = content[self._within : end]
            self._within = end
            return piece
        pieces: List[bytes] = []
        while length:
            if self._within >= len(self._block.content):
                self._within -= len(self._block.content)
                if self._within:
                    raise malformed(self._table.view, self._block.offset, "a reference points behind its block")
                self._block = self._table.block(self._block.end - self._table.start)
            piece = self._block.content[self._within : self._within + length]
            pieces.append(piece)
            self._within += len(piece)
            length -= len(piece)
        return b"".join(pieces)


class BytesCursor:
    """Reads through bytes in memory; ``position`` is the offset of the next one."""

    def __init__(self, data: bytes, where: str, position: int = 0) -> None:
        self._data = data
        self._where = where
        self.position = position

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self._data):
            raise MalformedError("a metadata table ends too early", where=self._where)
        piece = self._data[self.position : end]
        self.position = end
        return piece


def split_reference(reference: int) -> Tuple[int, int]:
    """A 48-bit reference as (start of the block in its table, offset in the block)."""
    return reference >> 16, reference & 0xFFFF
