"""The data region of a squashfs with some of its pieces replaced: what it is made of, and where everything moves."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Iterable, Iterator, List

from respin.errors import UnsupportedError
from respin.segments import Copy, Data, Segment


@dataclass(frozen=True)
class Replacement:
    """New stored bytes for ``length`` old ones at byte ``offset`` of the image; length 0 is an insertion."""

    offset: int
    length: int
    data: bytes

    @property
    def end(self) -> int:
        """The byte behind the old bytes."""
        return self.offset + self.length


@dataclass(frozen=True)
class Span:
    """Bytes of the data region that belong to something else and must stay as they are."""

    start: int
    end: int
    owner: str


class Relocation:
    """Replaces pieces of bytes ``[start, end)`` of an image; everything behind a piece moves by what it grew.

    ``replacements`` may come in any order but must not overlap; insertions at one place keep their order.
    """

    def __init__(self, start: int, end: int, replacements: Iterable[Replacement]) -> None:
        self.start = start
        self.end = end
        self.replacements = sorted(replacements, key=lambda piece: (piece.offset, piece.end))
        self._offsets = [piece.offset for piece in self.replacements]
        self._ends: List[int] = []
        self._grown: List[int] = [0]
        for piece in self.replacements:
            assert piece.offset >= (self._ends[-1] if self._ends else start)
            self._ends.append(piece.end)
            self._grown.append(self._grown[-1] + len(piece.data) - piece.length)
        assert not self._ends or self._ends[-1] <= end

    def position(self, offset: int) -> int:
        """The new place of what begins at ``offset`` and is not replaced; behind what is inserted there."""
        return offset + self._grown[bisect_right(self._ends, offset)]

    def beginning(self, offset: int) -> int:
        """The new place of what begins at ``offset`` with whatever is inserted there."""
        return offset + self._grown[bisect_left(self._offsets, offset)]

    @property
    def new_end(self) -> int:
        """The byte behind the new region."""
        return self.end + self._grown[-1]

    def segments(self) -> Iterator[Segment]:
        """The new content of the region; copies count from the start of the image."""
        at = self.start
        for piece in self.replacements:
            yield Copy(at, piece.offset - at)
            yield Data(piece.data)
            at = piece.end
        yield Copy(at, self.end - at)


def refuse_sharing(changed: Span, others: Iterable[Span], where: str) -> None:
    """UnsupportedError if bytes that are to change are used by something else, too."""
    for other in others:
        if other.start < changed.end and changed.start < other.end:
            raise UnsupportedError(
                f"{changed.owner} shares compressed blocks with {other.owner}, so it cannot be changed in place",
                where=where,
                remedy="make the image with mksquashfs -no-duplicates",
                finding="shared-blocks",
            )
