"""An output described as ordered segments: copied from the base, new bytes, or zeros.

Both splicers (squashfs, ISO 9660) return segments instead of writing. The whole output is therefore known before a
byte is written, every unchanged byte is unchanged by construction, and one sequential pass writes it.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Iterable, Iterator, List, Mapping, NamedTuple, Sequence, Tuple, Union

from respin.byteview import ByteView, origin, read_pieces


class Copy(NamedTuple):
    """``length`` bytes of the base, from byte ``offset`` of it."""

    offset: int
    length: int


class Data(NamedTuple):
    """New bytes."""

    data: bytes

    @property
    def length(self) -> int:
        return len(self.data)


class Zeros(NamedTuple):
    """``length`` zero bytes."""

    length: int


Segment = Union[Copy, Data, Zeros]


def total(segments: Iterable[Segment]) -> int:
    """The length in bytes of what ``segments`` describe."""
    return sum(segment.length for segment in segments)


def shift(segments: Iterable[Segment], offset: int) -> Iterator[Segment]:
    """The same segments with copies counted from a base that starts ``offset`` bytes earlier."""
    for segment in segments:
        yield Copy(segment.offset + offset, segment.length) if isinstance(segment, Copy) else segment


def merge(segments: Iterable[Segment]) -> List[Segment]:
    """Join neighbouring copies that are contiguous in the base, neighbouring data and zeros; drop empty segments."""
    merged: List[Segment] = []
    for segment in segments:
        if not segment.length:
            continue
        last = merged[-1] if merged else None
        if isinstance(segment, Copy) and isinstance(last, Copy) and last.offset + last.length == segment.offset:
            merged[-1] = Copy(last.offset, last.length + segment.length)
        elif isinstance(segment, Zeros) and isinstance(last, Zeros):
            merged[-1] = Zeros(last.length + segment.length)
        elif isinstance(segment, Data) and isinstance(last, Data) and last.length + segment.length <= 1 << 20:
            merged[-1] = Data(last.data + segment.data)
        else:
            merged.append(segment)
    return merged


def batches(segments: Iterable[Segment], size: int) -> Iterator[List[Segment]]:
    """The same bytes as lists of neighbours, each of at most ``size`` bytes: what is handed on with one write.

    An output can have thousands of segments of a few bytes, and hundreds of MiB in one: that is cut.
    """
    batch: List[Segment] = []
    room = size
    for segment in segments:
        for piece in (segment,) if segment.length <= room else _cut(segment, size):
            length = piece.length
            if length > room:
                yield batch
                batch, room = [], size
            if length:
                batch.append(piece)
                room -= length
    if batch:
        yield batch


def _cut(segment: Segment, size: int) -> Iterator[Segment]:
    """``segment`` in pieces of at most ``size`` bytes."""
    for start in range(0, segment.length, size):
        length = min(size, segment.length - start)
        if isinstance(segment, Copy):
            yield Copy(segment.offset + start, length)
        elif isinstance(segment, Data):
            yield Data(segment.data[start : start + length])
        else:
            yield Zeros(length)


def replaced(segments: Iterable[Segment], pieces: Mapping[int, bytes]) -> Iterator[Segment]:
    """The same output with other bytes at some offsets of it: ``pieces``, which do not overlap and lie inside."""
    todo = sorted(pieces.items(), reverse=True)
    position = done = 0
    for segment in segments:
        start, end = position, position + segment.length
        position = end
        at = max(start, done)
        while todo and todo[-1][0] < end:
            offset, data = todo.pop()
            yield from _part(segment, at - start, offset - start)
            yield Data(data)
            at = done = offset + len(data)
        if at < end:
            yield from _part(segment, at - start, segment.length)


def _part(segment: Segment, start: int, end: int) -> Iterator[Segment]:
    if start >= end:
        return
    if isinstance(segment, Copy):
        yield Copy(segment.offset + start, end - start)
    else:
        yield Data(segment.data[start:end]) if isinstance(segment, Data) else Zeros(end - start)


class SegmentsView:
    """What segments over ``base`` describe, as a view: an output that is read before it is written."""

    def __init__(self, segments: Sequence[Segment], base: ByteView, name: str) -> None:
        self._segments = [segment for segment in segments if segment.length]
        self._base = base
        self._name = name
        self._starts: List[int] = []
        self._size = 0
        for segment in self._segments:
            self._starts.append(self._size)
            self._size += segment.length

    @property
    def size(self) -> int:
        return self._size

    @property
    def name(self) -> str:
        return self._name

    def read(self, offset: int, length: int) -> bytes:
        """See :class:`respin.byteview.ByteView`."""
        return read_pieces(self, offset, length, self._piece)

    def origin(self, offset: int, length: int) -> Tuple[ByteView, int, int]:
        """See :func:`respin.byteview.origin`: what is copied comes from the base."""
        segment, inside, count = self._at(offset, length)
        if isinstance(segment, Copy):
            return origin(self._base, segment.offset + inside, count)
        return self, offset, count

    def _at(self, offset: int, length: int) -> Tuple[Segment, int, int]:
        """The segment at a byte, where in it that is, and how many of ``length`` bytes lie in it."""
        number = bisect_right(self._starts, offset) - 1
        segment, inside = self._segments[number], offset - self._starts[number]
        return segment, inside, min(length, segment.length - inside)

    def _piece(self, offset: int, length: int) -> bytes:
        segment, inside, count = self._at(offset, length)
        if isinstance(segment, Copy):
            return self._base.read(segment.offset + inside, count)
        return segment.data[inside : inside + count] if isinstance(segment, Data) else bytes(count)
