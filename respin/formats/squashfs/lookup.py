"""Squashfs look-up tables (ids, fragments, exports): entries of one size in full metadata blocks, found by an index.

The superblock points at the index: one 64-bit byte offset per metadata block, little-endian, uncompressed.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import List, Tuple

from respin.byteview import ByteView, check_range
from respin.errors import UnsupportedError
from respin.formats.squashfs.codec import Codec
from respin.formats.squashfs.metadata import MetadataBlock, malformed, read_block, read_metadata_block
from respin.formats.squashfs.superblock import METADATA_SIZE, Superblock
from respin.limits import LIMITS, MiB

NO_FRAGMENT = 0xFFFF_FFFF
STORED_BIT = 1 << 24  # in a data block's size: stored as it is
SIZE_MASK = STORED_BIT - 1
_RECENT = 4 * MiB  # of decompressed fragment blocks

_FRAGMENT = struct.Struct("<QII")


def index(view: ByteView, start: int, count: int, entry_size: int) -> Tuple[int, ...]:
    """The byte offsets of the metadata blocks of a table of ``count`` entries whose index lies at ``start``."""
    size = count * entry_size
    if size > LIMITS.squashfs_table:
        raise UnsupportedError(f"a table of {size} bytes is larger than the limit", where=view.name)
    blocks = -(-size // METADATA_SIZE)
    check_range(view, start, blocks * 8)
    offsets = struct.unpack(f"<{blocks}Q", view.read(start, blocks * 8))
    if any(not 0 < offset < start for offset in offsets):
        raise malformed(view, start, "the index of a table points behind itself")
    return offsets


def blocks(view: ByteView, codec: Codec, start: int, count: int, entry_size: int) -> List[MetadataBlock]:
    """The metadata blocks of a table; their contents have exactly ``count * entry_size`` bytes."""
    left = count * entry_size
    result = []
    for offset in index(view, start, count, entry_size):
        block = read_metadata_block(view, codec, offset, start)
        if len(block.content) != min(left, METADATA_SIZE):
            raise malformed(view, offset, f"a table's block holds {len(block.content)} bytes, not its share")
        left -= len(block.content)
        result.append(block)
    return result


def content(view: ByteView, codec: Codec, start: int, count: int, entry_size: int) -> bytes:
    """The entries of a table, one behind the other."""
    return b"".join(block.content for block in blocks(view, codec, start, count, entry_size))


@dataclass(frozen=True)
class FragmentBlock:
    """A block that holds the tail ends of several files: byte offset in the image, stored length."""

    offset: int
    stored_size: int
    is_compressed: bool


class Fragments:
    """The fragment table, read when the first fragment is asked for."""

    ENTRY_SIZE = _FRAGMENT.size

    def __init__(self, view: ByteView, codec: Codec, superblock: Superblock, data_start: int) -> None:
        self._view = view
        self._codec = codec
        self._superblock = superblock
        self._data_start = data_start
        self._content = b""
        self._recent: "OrderedDict[int, bytes]" = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._superblock.fragment_count

    def __getitem__(self, number: int) -> FragmentBlock:
        start = self._superblock.fragment_table
        if start is None or not 0 <= number < len(self):
            raise malformed(self._view, self._superblock.inode_table, f"a file names fragment {number} of {len(self)}")
        if not self._content:
            self._content = content(self._view, self._codec, start, len(self), self.ENTRY_SIZE)
        offset, size, _unused = _FRAGMENT.unpack_from(self._content, number * self.ENTRY_SIZE)
        stored = size & SIZE_MASK
        if offset < self._data_start or offset + stored > self._superblock.inode_table or not stored:
            raise malformed(self._view, start, f"fragment {number} lies outside the data region")
        return FragmentBlock(offset, stored, not size & STORED_BIT)

    def content(self, block: FragmentBlock) -> bytes:
        """What is in a fragment block. The last few are kept: files that follow each other often share one."""
        with self._lock:
            found = self._recent.get(block.offset)
        if found is None:
            size = self._superblock.block_size
            found = read_block(self._view, self._codec, block.offset, block.stored_size, block.is_compressed, size)
            with self._lock:
                self._recent[block.offset] = found
                while len(self._recent) > max(1, _RECENT // size):
                    self._recent.popitem(last=False)
        return found
