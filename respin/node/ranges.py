"""Byte ranges of two images in which they may differ."""

from __future__ import annotations

from bisect import bisect_right
from itertools import repeat
from typing import Iterable, Iterator, List, Sequence, Tuple

from respin.byteview import ByteView

_STEP = 1 << 20
_NOWHERE = 1 << 64

Range = Tuple[int, int]


class Ranges:
    """Byte ranges (start, end), sorted and apart from each other: where two images may differ."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self._starts: List[int] = []
        self._ends: List[int] = []
        for start, end in sorted(ranges):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(end, self._ends[-1])
            else:
                self._starts.append(start)
                self._ends.append(end)

    @classmethod
    def of_blocks(cls, numbers: Iterable[int], block_size: int, size: int) -> "Ranges":
        """The ranges of the blocks with these numbers in a view of ``size`` bytes."""
        return cls((number * block_size, min(size, (number + 1) * block_size)) for number in numbers)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._starts, self._ends)

    def touch(self, start: int, end: int) -> bool:
        """Whether any byte from ``start`` up to ``end`` lies in one of the ranges."""
        number = bisect_right(self._ends, start)
        return number < len(self._starts) and self._starts[number] < end and start < end

    def within(self, start: int, end: int) -> Iterator[Range]:
        """What of the ranges lies between ``start`` and ``end``."""
        for number in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[number] >= end:
                return
            yield max(start, self._starts[number]), min(end, self._ends[number])

    def touching(self, starts: Sequence[int], ends: Sequence[int]) -> List[int]:
        """The numbers of those ranges, given by where they begin and end, of which :meth:`touch` would say yes."""
        firsts = [*self._starts, _NOWHERE]
        nexts = map(bisect_right, repeat(self._ends), starts)
        return [at for at, (nearest, end) in enumerate(zip(nexts, ends)) if firsts[nearest] < end and starts[at] < end]

    def narrowed(self, before: ByteView, after: ByteView, step: int) -> "Ranges":
        """The pieces of ``step`` bytes in the ranges in which the two views do differ.

        What lies behind the end of the first is left out: nothing of the first depends on it.
        """
        found: List[Range] = []
        for start, end in ((start, min(end, before.size)) for start, end in self):
            for piece in range(start, end, _STEP):
                old, new = (view.read(piece, min(_STEP, end - piece)) for view in (before, after))
                if old != new:
                    found += [
                        (piece + at, min(piece + len(old), piece + at + step))
                        for at in range(0, len(old), step)
                        if old[at : at + step] != new[at : at + step]
                    ]
        return Ranges(found)
