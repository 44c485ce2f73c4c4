"""One file of a squashfs as random-access bytes: a block is decompressed when it is read.

:class:`PatchedView` shows the same file with some blocks replaced: the image as it will be.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Mapping, Optional, Protocol, Tuple

from respin.byteview import ByteView, check_range, read_pieces
from respin.formats.squashfs.codec import Codec
from respin.formats.squashfs.inode import BlockList
from respin.formats.squashfs.lookup import FragmentBlock, Fragments
from respin.formats.squashfs.metadata import malformed, read_block
from respin.limits import MiB


class BlockView(ByteView, Protocol):
    """A view that is made of blocks; only the last may be shorter than ``block_size``."""

    @property
    def block_size(self) -> int:
        """Bytes in a block."""

    @property
    def blocks_total(self) -> int:
        """How many blocks there are."""

    def block(self, index: int) -> bytes:
        """The content of one block."""


def read_blocks(view: BlockView, offset: int, length: int) -> bytes:
    """``length`` bytes from ``offset``, put together from blocks."""

    def piece(offset: int, length: int) -> bytes:
        index, within = divmod(offset, view.block_size)
        content = view.block(index)
        return content[within : within + length] if within or length < len(content) else content

    return read_pieces(view, offset, length, piece)


class NestedView:
    """A regular file inside a squashfs. May be read from several threads at once."""

    def __init__(
        self,
        image: ByteView,
        codec: Codec,
        block_size: int,
        name: str,
        *,
        size: int,
        blocks: BlockList,
        tail: Optional[Tuple[FragmentBlock, int]] = None,
        fragments: Optional[Fragments] = None,
        cache_size: int = 64 * MiB,
    ) -> None:
        self.blocks = blocks
        self.tail = tail
        self._fragments = fragments
        self._image = image
        self._codec = codec
        self._block_size = block_size
        self._name = name
        self._size = size
        self._zeros = bytes(min(block_size, size))
        self._cache: "OrderedDict[int, bytes]" = OrderedDict()
        self._cached_blocks = max(1, cache_size // block_size)
        self._lock = threading.Lock()
        self._was_read = bytearray(-(-size // block_size))
        self._blocks_read = 0

    @property
    def size(self) -> int:
        return self._size

    @property
    def name(self) -> str:
        return self._name

    @property
    def block_size(self) -> int:
        """Bytes in a block; the last block of the file may have fewer."""
        return self._block_size

    @property
    def blocks_total(self) -> int:
        """Blocks of the file, holes and a tail end in a fragment included."""
        return len(self._was_read)

    @property
    def blocks_read(self) -> int:
        """How many different blocks had to be read from the image so far (holes need no reading)."""
        return self._blocks_read

    @property
    def cached_blocks(self) -> int:
        """How many blocks are kept in memory at most."""
        return self._cached_blocks

    def block_length(self, index: int) -> int:
        """Bytes in block ``index``."""
        return min(self._block_size, self._size - index * self._block_size)

    def is_hole(self, index: int) -> bool:
        """Whether block ``index`` is not stored and reads as zeros."""
        return index < len(self.blocks) and not self.blocks[index].stored_size

    def block(self, index: int) -> bytes:
        """The content of block ``index``. Raises MalformedError when it is damaged or there is no such block."""
        check_range(self, index * self._block_size, 1)
        with self._lock:
            content = self._cache.get(index)
            if content is not None:
                self._cache.move_to_end(index)
                return content
        content = self._fetch(index)
        if content is not self._zeros:
            with self._lock:
                if not self._was_read[index]:
                    self._was_read[index] = 1
                    self._blocks_read += 1
                self._cache[index] = content
                while len(self._cache) > self._cached_blocks:
                    self._cache.popitem(last=False)
        return content

    def read(self, offset: int, length: int) -> bytes:
        return read_blocks(self, offset, length)

    def _fetch(self, index: int) -> bytes:
        length = self.block_length(index)
        if index >= len(self.blocks):
            return self._fetch_tail(length)
        block = self.blocks[index]
        if not block.stored_size:
            return self._zeros if length == len(self._zeros) else bytes(length)
        content = read_block(
            self._image, self._codec, block.offset, block.stored_size, block.is_compressed, self._block_size
        )
        if len(content) != length:
            raise malformed(
                self._image, block.offset, f"block {index} of {self._name} holds {len(content)} bytes, not {length}"
            )
        return content

    def _fetch_tail(self, length: int) -> bytes:
        if self.tail is None or self._fragments is None:
            raise malformed(self._image, 0, f"{self._name} has no tail end")
        fragment, offset = self.tail
        whole = self._fragments.content(fragment)
        if offset + length > len(whole):
            raise malformed(self._image, fragment.offset, f"the tail end of {self._name} leaves its fragment")
        return whole[offset : offset + length]


class PatchedView:
    """A view of blocks in which some are replaced: ``changed`` has the new content by block number.

    With a ``size`` (bytes) beyond that of ``base`` it is longer; what nobody gives of the rest is zeros.
    """

    def __init__(self, base: BlockView, changed: Mapping[int, bytes], size: Optional[int] = None) -> None:
        self._base = base
        self._changed = changed
        self._size = max(base.size, size or 0)

    @property
    def size(self) -> int:
        return self._size

    @property
    def name(self) -> str:
        return self._base.name

    @property
    def block_size(self) -> int:
        """Bytes in a block; the last may have fewer."""
        return self._base.block_size

    @property
    def blocks_total(self) -> int:
        """Blocks of the file."""
        return -(-self._size // self.block_size)

    def block(self, index: int) -> bytes:
        """The new content of block ``index`` if it is changed, else the old."""
        content = self._changed.get(index)
        if content is None:
            content = self._base.block(index) if index < self._base.blocks_total else b""
        length = min(self.block_size, self._size - index * self.block_size)
        return content if len(content) == length else content.ljust(length, b"\0")

    def read(self, offset: int, length: int) -> bytes:
        return read_blocks(self, offset, length)
