"""The content of new files: compressed as the image's own is, behind the vendor's data.

A block that the file at the same path has in the vendor's image is not compressed again; when all of a file's blocks
are the vendor's first ones, they stay where they are.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Deque, Iterator, List, Optional, Tuple

from respin.byteview import ByteView, FileView, is_zero
from respin.formats.squashfs.codec import encode
from respin.formats.squashfs.image import SquashfsFile, SquashfsImage
from respin.formats.squashfs.inode import Tail
from respin.formats.squashfs.lookup import SIZE_MASK, STORED_BIT
from respin.formats.squashfs.merge.changes import Content
from respin.formats.squashfs.merge.records import StoredFile
from respin.formats.squashfs.nested import NestedView
from respin.formats.squashfs.superblock import (
    ALWAYS_FRAGMENTS,
    NO_FRAGMENTS,
    UNCOMPRESSED_DATA,
    UNCOMPRESSED_FRAGMENTS,
)
from respin.segments import Copy, Data, Segment, merge

_THREADS = 2
_AHEAD = 8  # blocks that are read while others are compressed


@dataclass
class ContentCounters:
    """What became of the blocks of files that were written; bytes as stored. Tail ends don't count as blocks."""

    files: int = 0
    blocks: int = 0
    holes: int = 0
    kept: int = 0
    copied: int = 0
    compressed: int = 0
    fragments: int = 0
    bytes_copied: int = 0
    bytes_new: int = 0


@dataclass(frozen=True)
class _Block:
    """A block as it goes into the image; ``number`` is the vendor's that it equals."""

    segment: Segment
    size_field: int
    number: Optional[int] = None


class ContentWriter:
    """Places contents one behind the other from the end of the vendor's data. A context manager."""

    def __init__(self, image: SquashfsImage) -> None:
        self.counters = ContentCounters()
        self._image = image
        self._flags = image.superblock.flags
        self._position = image.superblock.inode_table
        self._segments: List[Segment] = []
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="squashfs")
        self._tails = bytearray()
        self._fragments: List["Future[Tuple[bytes, bool]]"] = []

    def __enter__(self) -> "ContentWriter":
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown()

    def add(self, content: Content, vendor: Optional[SquashfsFile]) -> StoredFile:
        """Write a file's content; ``vendor`` is the vendor's file whose blocks may equal it."""
        with _opened(content) as view:
            old = None if vendor is None else self._image.open_entry(vendor, cache_size=self._image.block_size)
            blocks = self._blocks(view)
            sizes = array("I")
            new: List[_Block] = []
            for number, block in enumerate(self._encoded(view, blocks, old)):
                new.append(block)
                sizes.append(block.size_field)
                assert number < blocks
            tail = self._tail(view, blocks, vendor, old)
            size = view.size
        self.counters.files += 1
        self.counters.blocks += blocks
        holes = [number for number, block in enumerate(new) if not block.size_field]
        self.counters.holes += len(holes)
        sparse = sum(min(self._image.block_size, size - number * self._image.block_size) for number in holes)
        return StoredFile(size, self._place(new, vendor), sizes, tail, sparse)

    def finish(self) -> Tuple[List[Segment], bytes]:
        """All data as segments, and the entries of the new fragment blocks for the fragment table."""
        if self._tails:
            self._close_fragment()
        table = []
        for future in self._fragments:
            data, compressed = future.result()
            table.append(struct.pack("<QII", self._position, len(data) | (0 if compressed else STORED_BIT), 0))
            self._put(Data(data))
            self.counters.bytes_new += len(data)
        self.counters.fragments = len(table)
        return merge(self._segments), b"".join(table)

    @property
    def fragment_count(self) -> int:
        """Fragment blocks in the image, the vendor's and new ones."""
        return len(self._image.fragments) + len(self._fragments) + bool(self._tails)

    def _blocks(self, view: ByteView) -> int:
        """How many blocks of its own a file has; the rest goes into a fragment."""
        whole, rest = divmod(view.size, self._image.block_size)
        if not rest or self._flags & NO_FRAGMENTS or (whole and not self._flags & ALWAYS_FRAGMENTS):
            return whole + bool(rest)
        return whole

    def _encoded(self, view: ByteView, blocks: int, old: Optional[NestedView]) -> Iterator[_Block]:
        waiting: Deque["Future[_Block]"] = deque()
        for number in range(blocks):
            at = number * self._image.block_size
            piece = view.read(at, min(self._image.block_size, view.size - at))
            waiting.append(self._pool.submit(self._encode, piece, number, old))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _encode(self, piece: bytes, number: int, old: Optional[NestedView]) -> _Block:
        if is_zero(piece):
            return _Block(Data(b""), 0)
        if old is not None and number < len(old.blocks) and len(piece) == old.block_length(number):
            stored = old.blocks[number]
            if stored.stored_size and old.block(number) == piece:
                return _Block(Copy(stored.offset, stored.stored_size), old.blocks.sizes[number], number)
        data, compressed = encode(self._image.codec, piece, store=bool(self._flags & UNCOMPRESSED_DATA))
        return _Block(Data(data), len(data) | (0 if compressed else STORED_BIT))

    def _place(self, blocks: List[_Block], vendor: Optional[SquashfsFile]) -> int:
        """Where the blocks are: at the vendor's place if they are its first ones, else behind all that was written."""
        if vendor is not None and self._unmoved(blocks, vendor):
            self.counters.kept += sum(1 for block in blocks if block.size_field)
            return vendor.blocks.start
        start = self._position
        for block in blocks:
            self._put(block.segment)
            if isinstance(block.segment, Copy):
                self.counters.copied += 1
                self.counters.bytes_copied += block.segment.length
            elif block.size_field:
                self.counters.compressed += 1
                self.counters.bytes_new += block.segment.length
        return start if self._position > start else 0

    @staticmethod
    def _unmoved(blocks: List[_Block], vendor: SquashfsFile) -> bool:
        for number, block in enumerate(blocks):
            hole = not block.size_field and number < len(vendor.blocks) and not vendor.blocks.sizes[number] & SIZE_MASK
            if block.number != number and not hole:
                return False
        return bool(blocks)

    def _tail(
        self, view: ByteView, blocks: int, vendor: Optional[SquashfsFile], old: Optional[NestedView]
    ) -> Optional[Tail]:
        start = blocks * self._image.block_size
        if start >= view.size:
            return None
        tail = view.read(start, view.size - start)
        if vendor is not None and old is not None and vendor.size == view.size and vendor.fragment is not None:
            same_place = len(old.blocks) == blocks
            if same_place and old.block(blocks) == tail:
                return vendor.fragment
        if len(self._tails) + len(tail) > self._image.block_size:
            self._close_fragment()
        place = Tail(len(self._image.fragments) + len(self._fragments), len(self._tails))
        self._tails += tail
        return place

    def _close_fragment(self) -> None:
        store = bool(self._flags & UNCOMPRESSED_FRAGMENTS)
        self._fragments.append(self._pool.submit(encode, self._image.codec, bytes(self._tails), store=store))
        self._tails.clear()

    def _put(self, segment: Segment) -> None:
        if segment.length:
            self._segments.append(segment)
            self._position += segment.length


@contextmanager
def _opened(content: Content) -> Iterator[ByteView]:
    if not isinstance(content, Path):
        yield content
        return
    fd = os.open(content, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield FileView(fd, str(content))
    finally:
        os.close(fd)
