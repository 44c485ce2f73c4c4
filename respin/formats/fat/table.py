"""The file allocation table: which cluster follows which, in entries of 12, 16 or 32 bits."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Iterator, List, Mapping, Sequence, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError

FREE = 0
_END = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}
LAST = {12: 0xFFF, 16: 0xFFFF, 32: 0x0FFFFFFF}
_MASK32 = 0x0FFFFFFF


@dataclass(frozen=True)
class Table:
    """The table's bytes; ``clusters`` is how many there are, the first of them number 2."""

    raw: bytes
    bits: int
    clusters: int

    @classmethod
    def read(cls, view: ByteView, bits: int, offsets: Sequence[int], size: int, clusters: int) -> "Table":
        """Read all copies; UnsupportedError when they are not alike: nobody knows which one counts then."""
        copies = {view.read(offset, size) for offset in offsets}
        if len(copies) != 1:
            raise UnsupportedError(
                "the copies of the allocation table differ",
                where=view.name,
                remedy="ask the vendor for an image in which fsck.fat finds no fault",
                finding="fat",
            )
        return cls(copies.pop(), bits, clusters)

    def get(self, number: int) -> int:
        """The entry of a cluster."""
        if self.bits == 12:
            (pair,) = struct.unpack_from("<H", self.raw, number * 3 // 2)
            return int(pair >> 4 if number & 1 else pair & 0xFFF)
        if self.bits == 16:
            return int(struct.unpack_from("<H", self.raw, number * 2)[0])
        return int(struct.unpack_from("<L", self.raw, number * 4)[0]) & _MASK32

    def chain(self, first: int, where: str) -> Iterator[int]:
        """The clusters from ``first`` on; MalformedError for a chain that leaves the volume or never ends."""
        number, left = first, self.clusters
        while number < _END[self.bits]:
            if not 2 <= number < self.clusters + 2 or not left:
                raise MalformedError(f"its chain of clusters leads to {number}", where=where, finding="bad-fat")
            yield number
            number, left = self.get(number), left - 1

    def free(self) -> Iterator[int]:
        """The free clusters, the lowest first."""
        return (number for number in range(2, self.clusters + 2) if self.get(number) == FREE)

    def with_entries(self, entries: Mapping[int, int]) -> "Table":
        """The table with some entries changed."""
        raw = bytearray(self.raw)
        for number, value in entries.items():
            if self.bits == 12:
                at = number * 3 // 2
                (pair,) = struct.unpack_from("<H", raw, at)
                pair = (pair & 0x000F) | (value << 4) if number & 1 else (pair & 0xF000) | value
                struct.pack_into("<H", raw, at, pair)
            elif self.bits == 16:
                struct.pack_into("<H", raw, number * 2, value)
            else:
                (old,) = struct.unpack_from("<L", raw, number * 4)
                struct.pack_into("<L", raw, number * 4, (old & ~_MASK32 & 0xFFFFFFFF) | value)
        return Table(bytes(raw), self.bits, self.clusters)


def links(bits: int, chain: Sequence[int], freed: Sequence[int]) -> Mapping[int, int]:
    """The entries that make ``chain`` one chain and give ``freed`` back."""
    pairs: List[Tuple[int, int]] = [(number, FREE) for number in freed]
    pairs += list(zip(chain, [*chain[1:], LAST[bits]]))
    return dict(pairs)
