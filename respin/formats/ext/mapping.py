"""Where the blocks of a file lie: extent trees and the classic map of direct and indirect blocks.

Linux Documentation/filesystems/ext4/ifork.rst and blockmap.rst. Every tree node may be met once, no file may have more
blocks than the file system, so a hostile image can neither loop nor multiply.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Iterator, List, Optional, Set, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.ext.inode import EXTENTS_FLAG, ExtInode
from respin.formats.ext.superblock import ExtSuperblock

_EXTENT_MAGIC = 0xF30A
_EXTENT_DEPTH = 5
_UNWRITTEN = 0x8000
_DIRECT = 12
_DIRECT_POINTERS = struct.Struct("<12I")
_MOST_RUNS = 4_000_000
_MOST_NODES = 1 << 17  # of 256 pointers or more each: enough for 32 GiB in blocks of 1 KiB, 512 GiB in blocks of 4 KiB


@dataclass(frozen=True)
class Run:
    """``count`` blocks of a file from its block ``logical`` on; ``physical`` is None where they read as zeros.

    ``reserved`` is where they lie all the same, if they are allocated and not written yet.
    """

    logical: int
    count: int
    physical: Optional[int]
    reserved: Optional[int] = None


def one_piece(inode: ExtInode, superblock: ExtSuperblock) -> Optional[int]:
    """The first block of a file whose direct pointers say that it lies in one piece; None for any other.

    What :class:`BlockMap` would find, for most files of most images, without its machinery.
    """
    count = -(-inode.size // superblock.block_size)
    if inode.flags & EXTENTS_FLAG or not 0 < count <= _DIRECT:
        return None
    pointers = _DIRECT_POINTERS.unpack_from(inode.block_area)
    first: int = pointers[0]
    if not 0 < first <= superblock.block_count - count or any(pointers[count:]):
        return None
    return first if pointers[:count] == tuple(range(first, first + count)) else None


class BlockMap:
    """Reads the block map of one inode."""

    def __init__(self, view: ByteView, superblock: ExtSuperblock, inode: ExtInode) -> None:
        self._view = view
        self._superblock = superblock
        self._inode = inode
        self._nodes: Set[int] = set()

    def runs(self) -> Iterator[Run]:
        """The runs in file order, up to the file's size; what they leave out is a hole."""
        end = -(-self._inode.size // self._superblock.block_size)
        last: Optional[Run] = None
        for run in self._checked_runs(end):
            if run.logical >= end:
                break  # allocated beyond the end of the file
            run = Run(run.logical, min(run.count, end - run.logical), run.physical)  # unwritten: zeros like any other
            if last is not None:
                if _continues(last, run):
                    last = Run(last.logical, last.count + run.count, last.physical)
                    continue
                yield last
            last = run
        if last is not None:
            yield last

    def nodes(self) -> List[int]:
        """The numbers of the blocks that the map itself takes, also for what is allocated beyond the file's end."""
        for _run in self.allocated():
            pass
        return sorted(self._nodes)

    def allocated(self) -> Iterator[Run]:
        """All runs that take blocks, unwritten ones and those beyond the file's end, too."""
        return self._checked_runs(1 << 32)

    @property
    def visited(self) -> List[int]:
        """The numbers of the blocks of the map that were read for what was asked for last."""
        return sorted(self._nodes)

    def roots(self) -> List[int]:
        """The numbers of the blocks that the inode names as parts of its map, whether or not they make sense."""
        area = self._inode.block_area
        if not self._inode.flags & EXTENTS_FLAG:
            end = -(-self._inode.size // self._superblock.block_size)
            return [block for block in struct.unpack_from("<3I", area, 4 * _DIRECT) if block and end > _DIRECT]
        _magic, entries, _most, depth = struct.unpack_from("<HHHH", area)
        if not depth:
            return []
        nodes = (struct.unpack_from("<IH", area, at) for at in range(16, 12 + 12 * min(entries, 4), 12))
        return [low | high << 32 for low, high in nodes]

    def _checked_runs(self, end: int) -> Iterator[Run]:
        self._nodes.clear()
        at = blocks = 0
        runs = self._extents() if self._inode.flags & EXTENTS_FLAG else self._indirect(end)
        for count, run in enumerate(runs):
            if run.logical < at:
                raise self._bad("its extents overlap or are out of order")
            at = run.logical + run.count
            blocks += run.count
            if blocks > self._superblock.block_count:
                raise self._bad("it has more blocks than the file system")
            if count >= _MOST_RUNS:
                raise UnsupportedError("a file is in more pieces than the limit", where=self._view.name)
            yield run

    def _extents(self) -> Iterator[Run]:
        return self._extent_node(self._inode.block_area, None, range(1 << 32))

    def _extent_node(self, node: bytes, depth_due: Optional[int], covered: range) -> Iterator[Run]:
        """The runs below a node. The kernel looks there for the blocks ``covered``, so nothing else may be there."""
        magic, entries, most, depth = struct.unpack_from("<HHHH", node)
        if magic != _EXTENT_MAGIC or entries > most or not most or 12 + 12 * most > len(node):
            raise self._bad("a node of its extent tree is damaged")
        if depth and not entries:
            raise self._bad("its extent tree leads nowhere")
        if depth > _EXTENT_DEPTH or (depth_due is not None and depth != depth_due):
            raise self._bad(f"its extent tree has depth {depth}")
        if depth_due is not None and entries and struct.unpack_from("<I", node, 12) != (covered.start,):
            raise self._bad("the index of its extents does not say where they begin")
        for number in range(entries):
            at = 12 + 12 * number
            if depth:
                first, low, high = struct.unpack_from("<IIH", node, at)
                end = struct.unpack_from("<I", node, at + 12)[0] if number + 1 < entries else covered.stop
                if first not in covered or not first < end <= covered.stop:
                    raise self._bad("the index of its extents is not in order")
                yield from self._extent_node(self._node(low | high << 32), depth - 1, range(first, end))
                continue
            logical, count, high, low = struct.unpack_from("<IHHI", node, at)
            physical = low | high << 32
            written = count <= _UNWRITTEN
            count = count if written else count - _UNWRITTEN
            if not count or not 0 < physical <= self._superblock.block_count - count:
                raise self._bad(f"an extent of {count} blocks from block {physical} lies outside the file system")
            if logical < covered.start or logical + count > covered.stop:
                raise self._bad("the index of its extents does not lead to them")
            yield Run(logical, count, physical) if written else Run(logical, count, None, physical)

    def _indirect(self, end: int) -> Iterator[Run]:
        pointers = struct.unpack("<15I", self._inode.block_area)
        per_block = self._superblock.block_size // 4
        yield from self._pointers(pointers[:_DIRECT], 0)
        logical = _DIRECT
        for level in (1, 2, 3):
            if logical >= end:
                return
            yield from self._tree(pointers[_DIRECT - 1 + level], level, logical, end, per_block)
            logical += per_block**level

    def _tree(self, block: int, level: int, logical: int, end: int, per_block: int) -> Iterator[Run]:
        if not block:
            return
        pointers = struct.unpack(f"<{per_block}I", self._node(block))
        if level == 1:
            yield from self._pointers(pointers, logical)
            return
        below = per_block ** (level - 1)
        for number, pointer in enumerate(pointers):
            if pointer and logical + number * below < end:
                yield from self._tree(pointer, level - 1, logical + number * below, end, per_block)

    def _pointers(self, pointers: Tuple[int, ...], logical: int) -> Iterator[Run]:
        used = len(pointers) - pointers.count(0)
        if not used:
            return
        if pointers[0] and pointers[:used] == tuple(range(pointers[0], pointers[0] + used)):  # one piece, as most are
            yield self._checked(logical, used, pointers[0])
            return
        start = count = at = 0
        for number, physical in enumerate(pointers):
            if count and physical == start + count:
                count += 1
                continue
            if count:
                yield self._checked(logical + at, count, start)
            start, count, at = physical, 1 if physical else 0, number
        if count:
            yield self._checked(logical + at, count, start)

    def _checked(self, logical: int, count: int, physical: int) -> Run:
        if physical > self._superblock.block_count - count:
            raise self._bad(f"its block {logical} lies at {physical}, outside the file system")
        return Run(logical, count, physical)

    def _node(self, block: int) -> bytes:
        if not 0 < block < self._superblock.block_count:
            raise self._bad(f"its block map lies at block {block}, outside the file system")
        if block in self._nodes:
            raise self._bad(f"its block map uses block {block} twice")
        self._nodes.add(block)
        if len(self._nodes) > _MOST_NODES:
            raise UnsupportedError("a file's block map is larger than the limit", where=self._view.name)
        return self._view.read(block * self._superblock.block_size, self._superblock.block_size)

    def _bad(self, what: str) -> MalformedError:
        return MalformedError(
            f"impossible ext inode: {what}",
            where=f"{self._view.name}, inode {self._inode.number}",
            remedy="the image is damaged; fetch it again and compare its checksum",
        )


def _continues(last: Run, run: Run) -> bool:
    if last.logical + last.count != run.logical:
        return False
    if last.physical is None or run.physical is None:
        return last.physical is run.physical
    return last.physical + last.count == run.physical
