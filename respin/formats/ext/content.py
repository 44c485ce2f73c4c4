"""The content of a file in an ext image: byte ranges in the image, and a random-access view over them."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Iterable, List, NamedTuple, Optional, Sequence

from respin.byteview import ByteView, read_pieces
from respin.formats.ext.mapping import Run


class DataRange(NamedTuple):
    """``length`` bytes of a file: at byte ``offset`` of the image, or zeros if ``offset`` is None (hole, unwritten)."""

    offset: Optional[int]
    length: int


def data_ranges(runs: Iterable[Run], size: int, block_size: int) -> List[DataRange]:
    """The ranges of a file of ``size`` bytes, in file order and without gaps; neighbouring holes are one."""
    ranges: List[DataRange] = []
    at = 0
    for run in runs:
        start = run.logical * block_size
        end = min(start + run.count * block_size, size)
        if start > at:
            _hole(ranges, start - at)
        if run.physical is None:
            _hole(ranges, end - start)
        else:
            ranges.append(DataRange(run.physical * block_size, end - start))
        at = end
    if at < size:
        _hole(ranges, size - at)
    return ranges


def _hole(ranges: List[DataRange], length: int) -> None:
    if ranges and ranges[-1].offset is None:
        length += ranges.pop().length
    ranges.append(DataRange(None, length))


class ExtFileView:
    """A file of the image as random-access bytes."""

    def __init__(self, image: ByteView, name: str, ranges: Sequence[DataRange]) -> None:
        self._image = image
        self._name = name
        self._ranges = ranges
        self._ends = list(accumulate(piece.length for piece in ranges))

    @property
    def size(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def name(self) -> str:
        return self._name

    def read(self, offset: int, length: int) -> bytes:
        return read_pieces(self, offset, length, self._piece)

    def _piece(self, offset: int, length: int) -> bytes:
        number = bisect_right(self._ends, offset)
        piece = self._ranges[number]
        within = offset - (self._ends[number] - piece.length)
        count = min(length, piece.length - within)
        return bytes(count) if piece.offset is None else self._image.read(piece.offset + within, count)
