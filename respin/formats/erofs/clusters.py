"""The index of a compressed erofs file: for each logical cluster (one block of content) where its data begins.

A cluster is a *head*, in which a new extent begins at some byte, or it continues an earlier one and says how far back
the head is. The full index has 8 bytes for each, the compacted one packs of 2 in 8 bytes or of 16 in 32.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from enum import IntEnum
from typing import List, NamedTuple, Tuple

from respin.byteview import ByteView
from respin.errors import UnsupportedError
from respin.formats.erofs.inode import ErofsInode, Layout
from respin.formats.erofs.superblock import malformed

HEADER = struct.Struct("<IHBB")
_FULL = struct.Struct("<HHI")
_FULL_GAP = 8  # between the header and a full index
_FULL_AT_ONCE = 512
_CACHED = 64
_COUNT_FLAG = 0x800  # a distance is the number of blocks of the extent instead
_PARTIAL_FLAG = 0x8000
_LARGEST_PAIRS, _LARGEST_PACKS = 14, 12  # bits of a cluster's size that compacted indexes have room for

COMPACTED_PACKS, BIG_1, BIG_2, INLINE_TAIL, INTERLACED, FRAGMENT = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20


class ClusterType(IntEnum):
    """What a logical cluster is."""

    STORED = 0
    HEAD_1 = 1
    CONTINUED = 2
    HEAD_2 = 3


class Cluster(NamedTuple):
    """A logical cluster.

    Of a head: ``start`` is the byte of the cluster in which its extent begins, ``block`` where its data lies. Of any
    other: ``back`` is how many clusters before the head is, or a cluster that knows better, and ``blocks`` how many
    its extent has, if it is the 2nd. ``partial`` says that the data holds more than the extent uses.
    """

    type: ClusterType
    start: int = 0
    block: int = 0
    back: int = 0
    blocks: int = 0
    partial: bool = False

    @property
    def is_head(self) -> bool:
        """Whether an extent begins in it."""
        return self.type is not ClusterType.CONTINUED


class ClusterIndex:
    """The clusters of one file by number. Make it of an inode and the settings in its header."""

    def __init__(self, view: ByteView, inode: ErofsInode, block_size: int, advice: int) -> None:
        self.count = -(-inode.size // block_size)
        self._view = view
        self._number = inode.number
        self._size = block_size
        self._bits = block_size.bit_length() - 1
        self._big = bool(advice & (BIG_1 | BIG_2))
        self._compact = inode.layout is Layout.COMPRESSED_COMPACT
        self._begin = header_place(inode) + HEADER.size
        self._cache: "OrderedDict[int, List[Cluster]]" = OrderedDict()
        self._pairs_in_front = self._in_packs = 0
        if not self._compact:
            self._begin += _FULL_GAP
            return
        if self._bits > _LARGEST_PAIRS:
            raise UnsupportedError(f"inode {inode.number} has a compacted index of large blocks", where=view.name)
        self._pairs_in_front = (32 - self._begin % 32) // 4 & 7
        if advice & COMPACTED_PACKS and self._pairs_in_front < self.count:
            if self._bits > _LARGEST_PACKS:
                raise UnsupportedError(f"inode {inode.number} has a compacted index of large blocks", where=view.name)
            self._in_packs = (self.count - self._pairs_in_front) // 16 * 16

    def __getitem__(self, number: int) -> Cluster:
        """Cluster ``number``, which must be below :attr:`count`."""
        start, width, within = self._place(number)
        found = self._cache.get(start)
        if found is None:
            found = self._cache[start] = self._read_pack(start, width) if self._compact else self._read_full(start)
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(start)
        return found[within]

    def behind(self, number: int) -> int:
        """The byte of the image behind the part of the index that cluster ``number`` lies in."""
        if self._compact:
            start, width, _ = self._place(number)
            return start + _pack_size(width)
        return self._begin + (number + 1) * _FULL.size

    def _place(self, number: int) -> Tuple[int, int, int]:
        """Where the pack of a cluster begins, bytes for each cluster in it, which of them it is."""
        if not self._compact:
            start = number - number % _FULL_AT_ONCE
            return self._begin + start * _FULL.size, _FULL.size, number - start
        at, width = self._begin, 4
        if number >= self._pairs_in_front:
            number -= self._pairs_in_front
            at += 4 * self._pairs_in_front
            if number < self._in_packs:
                width = 2
            else:
                number -= self._in_packs
                at += 2 * self._in_packs
        at += number * width
        within = at % _pack_size(width)
        return at - within, width, within // width

    def _read_full(self, start: int) -> List[Cluster]:
        first = (start - self._begin) // _FULL.size
        data = self._view.read(start, min(_FULL_AT_ONCE, self.count - first) * _FULL.size)
        found = []
        for advice, offset, value in _FULL.iter_unpack(data):
            kind = ClusterType(advice & 3)
            if kind is ClusterType.CONTINUED:
                found.append(self._continued(value & 0xFFFF))
            else:
                found.append(Cluster(kind, offset, value, partial=bool(advice & _PARTIAL_FLAG)))
        return found

    def _read_pack(self, start: int, width: int) -> List[Cluster]:
        size = _pack_size(width)
        data = self._view.read(start, size)
        count = size // width
        bits = (size - 4) * 8 // count
        low = max(self._bits, 12)
        packed = int.from_bytes(data[:-4], "little")
        # The block of the first head; those behind it follow without a gap.
        block = int.from_bytes(data[-4:], "little") + (0 if self._big else 1)
        found: List[Cluster] = []
        for position in range(count):
            value = packed >> bits * position
            kind, value = ClusterType(value >> low & 3), value & (1 << low) - 1
            before = found[-1] if found else None
            if kind is not ClusterType.CONTINUED:
                if self._big and before is not None and before.is_head:
                    block += 1
                found.append(Cluster(kind, value, block))
                if not self._big:
                    block += 1
                continue
            if position == count - 1 and not value & _COUNT_FLAG:
                # The last of a pack says how far the next head is instead.
                value = 1 if before is None or before.is_head else before.back + 1
            found.append(self._continued(value))
            block += found[-1].blocks
        return found

    def _continued(self, value: int) -> Cluster:
        if value & _COUNT_FLAG:
            if not self._big:
                raise malformed(self._view, f"the index of inode {self._number} counts blocks of clusters of one block")
            return Cluster(ClusterType.CONTINUED, back=1, blocks=value & ~_COUNT_FLAG)
        return Cluster(ClusterType.CONTINUED, back=value)


def header_place(inode: ErofsInode) -> int:
    """The byte of the image where the settings of a compressed file stand."""
    return -(-inode.behind // 8) * 8


def _pack_size(width: int) -> int:
    return 8 if width == 4 else 32
