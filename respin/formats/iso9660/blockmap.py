"""Where old blocks go: one monotone map that every structure of the image is relocated by."""

from __future__ import annotations

import bisect
from typing import List, NamedTuple, Optional, Tuple

from respin.errors import MalformedError, UnsupportedError
from respin.formats.iso9660.fields import BLOCK, SECTOR, SECTORS, blocks_for


class Splice(NamedTuple):
    """A replaced extent and what stands in its place; numbers of blocks unless said otherwise."""

    start: int
    new_start: int
    old_size: int
    """In bytes."""
    new_size: int
    """In bytes: of what replaced it alone."""
    new_blocks: int
    """All that stands in the old extent's place: its successor, what was put beside it, padding."""

    @property
    def old_blocks(self) -> int:
        return blocks_for(self.old_size)

    @property
    def end(self) -> int:
        """The old block behind the old extent."""
        return self.start + self.old_blocks


class BlockMap:
    """Maps block and sector numbers of the old image to the new one.

    ``splices`` are in order and don't overlap; ``inserted`` blocks come before the old block ``insertion``; the old
    image has ``size`` blocks.
    """

    def __init__(self, splices: Tuple[Splice, ...], insertion: int, inserted: int, size: int) -> None:
        self.splices = splices
        self.insertion = insertion
        self.size = size
        self._starts: List[int] = [splice.start for splice in splices]
        self._ends: List[int] = [splice.end for splice in splices]
        self._shift = sum(splice.new_blocks - splice.old_blocks for splice in splices)
        self.total = self._shift + inserted
        """By how many blocks the image grows."""

    def covering(self, block: int) -> Optional[Splice]:
        """The splice in whose old extent ``block`` lies."""
        index = self._last_before(block)
        if index >= 0 and block < self._ends[index]:
            return self.splices[index]
        return None

    def block(self, block: int) -> int:
        """The new number of ``block``.

        Raises UnsupportedError for one inside a replaced extent, MalformedError for one behind the image's end.
        """
        if block >= self.size:
            raise MalformedError(
                f"something in the image points at block {block}, behind its end (it has {self.size} blocks)",
                remedy="the image is truncated or damaged; compare its checksum with the vendor's",
                finding="truncated",
            )
        index = self._last_before(block)
        if index >= 0 and self._starts[index] < block < self._ends[index]:
            raise UnsupportedError(
                f"something in the image points at block {block}, inside an extent that is to be replaced",
                finding="unsupported-layout",
            )
        return self._moved(block, index)

    def approximate(self, block: int) -> int:
        """Like :meth:`block`, for numbers that point at no data.

        Inside a replaced extent they become its new start; behind the image's end they stay what they are.
        """
        if block >= self.size:
            return block
        return self._moved(block, self._last_before(block))

    def byte(self, offset: int) -> int:
        """The new byte offset of a byte that is kept."""
        return self.block(offset // BLOCK) * BLOCK + offset % BLOCK

    def first_sector(self, sector: int) -> int:
        """The new number of the first 512-byte sector of something."""
        return self.block(sector // SECTORS) * SECTORS + sector % SECTORS

    def end_sector(self, first: int, end: int) -> int:
        """The new number of the sector behind something that lies in the old sectors ``first`` to ``end``.

        What ends where the volume ends goes on ending there, what ends with a replaced file ends with it.
        Raises UnsupportedError when the end lies elsewhere in a replaced file.
        """
        if end >= self.insertion * SECTORS:
            return end + self.total * SECTORS
        splice = self.covering((end - 1) // SECTORS)
        if splice is None:
            return self.first_sector(end - 1) + 1
        start = splice.new_start * SECTORS
        if end == splice.end * SECTORS:
            return start + blocks_for(splice.new_size) * SECTORS
        if first == splice.start * SECTORS and end == first - (-splice.old_size // SECTOR):
            return start - (-splice.new_size // SECTOR)
        raise UnsupportedError(
            f"a partition ends at sector {end}, inside a file that is to be replaced", finding="unsupported-layout"
        )

    def _last_before(self, block: int) -> int:
        """The number of the last splice that begins at ``block`` or before it; -1 when there is none."""
        return bisect.bisect_right(self._starts, block) - 1

    def _moved(self, block: int, index: int) -> int:
        """The new number of a block in or behind the splice ``index``, before the next one."""
        if block >= self.insertion:
            return block + self.total
        if index < 0:
            return block
        splice = self.splices[index]
        if block < self._ends[index]:
            return splice.new_start
        return block - self._ends[index] + splice.new_start + splice.new_blocks
