"""The hash index of an ext directory ("htree"): does it lead the kernel to every name?

Linux Documentation/filesystems/ext4/directory.rst. Without it the kernel looks at all blocks; with it only at those
that the hash of a name leads to. A name that stands elsewhere is listed and cannot be opened.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import Callable, Iterable, Iterator, List, Mapping, Optional, Tuple

from respin.formats.ext.dirhash import VERSIONS, name_hash

INDEX_FLAG = 0x1000
_ROOT, _NODE = 32, 8  # where the entries begin
_INFO = 8
_BLOCK_MASK = 0x0FFFFFFF
_UNSIGNED = 3
_DEPTH, _LARGE_DEPTH = 2, 3

Leaf = Tuple[int, int]  # the first hash in it (odd: it began in the one before), its number in the directory


class Index:
    """Reads an index. ``block`` gives a directory's block by its number in the directory, None for a hole.

    ``right`` says of an index block, and of where its entries begin, whether its checksum is right. ``tail`` are the
    bytes that the checksum takes at a block's end.
    """

    def __init__(
        self,
        block: Callable[[int], Optional[bytes]],
        right: Callable[[bytes, int], bool],
        seed: Tuple[int, ...],
        *,
        unsigned: bool,
        large: bool,
        tail: int,
    ) -> None:
        self._block, self._right, self._seed = block, right, seed
        self._unsigned, self._depth, self._tail = unsigned, _LARGE_DEPTH if large else _DEPTH, tail

    def problem(self, names: Mapping[int, Iterable[bytes]]) -> Optional[str]:
        """What is wrong; ``names`` are those in each block of the directory that is no part of the index."""
        root = self._block(0)
        if root is None:
            return "its index is a hole"
        reserved, version, length, levels, _flags = struct.unpack_from("<IBBBB", root, _ROOT - _INFO)
        if reserved or length != _INFO or version not in VERSIONS[:_UNSIGNED] or levels >= self._depth:
            return "its index has an unknown form"
        version += _UNSIGNED if self._unsigned else 0
        try:
            leaves = list(self._leaves(root, _ROOT, levels, 0))
        except ValueError as error:
            return str(error)
        starts = [start for start, _ in leaves]
        if starts != sorted(starts) or len({number for _, number in leaves}) != len(leaves):
            return "its index is not in order"
        places = {number: place for place, (_, number) in enumerate(leaves)}
        for number, found in names.items():
            for name in found:
                hashed = name_hash(name, version, self._seed)
                if not _reaches(starts, places.get(number), hashed):
                    return f"its index does not lead to {name!r}"
        return None

    def _leaves(self, node: bytes, at: int, levels: int, first: int) -> Iterator[Leaf]:
        limit, count = struct.unpack_from("<HH", node, at)
        if not 0 < count <= limit or limit != (len(node) - at - self._tail) // 8 or not self._right(node, at):
            raise ValueError("a block of its index is damaged")
        for number in range(count):
            start, block = struct.unpack_from("<II", node, at + 8 * number)
            start, block = first if not number else start, block & _BLOCK_MASK
            if not levels:
                yield start, block
                continue
            below = self._block(block)
            if below is None or struct.unpack_from("<IH", below) != (0, len(below) & 0xFFFF):
                raise ValueError("a block of its index is damaged")
            yield from self._leaves(below, _NODE, levels - 1, start)


def _reaches(starts: List[int], place: Optional[int], hashed: int) -> bool:
    """Whether a look-up of ``hashed`` comes to the leaf at ``place``: where it begins, and on while it goes on."""
    begin = bisect_right(starts, hashed) - 1
    if place is None or place < begin or begin < 0:
        return False
    return all(start & ~1 == hashed for start in starts[begin + 1 : place + 1])
