"""Which inodes depend on which bytes of a root image, so that a comparison need only look at what changed bytes touch.

An inode depends on its slot in the inode table, on the blocks of its block map, on its attribute block and on its
content. Where two images interpret inode numbers alike and all of these are the same bytes in both, the inode is the
same in both: kind, attributes, names in it and content.
"""

from __future__ import annotations

import stat
import threading
from array import array
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from respin.byteview import ByteView
from respin.errors import RespinError
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ExtInode
from respin.formats.ext.plain import PlainInode
from respin.formats.ext.superblock import same_but_for_size
from respin.formats.squashfs.nested import NestedView
from respin.node.metadatacopy import MetadataCopy

STEP = 1 << 20
_THREADS = 2
_MOST_PLACES = 8_000_000  # inodes beyond are compared in full
_KINDS = frozenset((stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK))
UNKNOWN, FILE, DIRECTORY = 0, 1, 2

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

    def narrowed(self, before: ByteView, after: ByteView, step: int) -> "Ranges":
        """The pieces of ``step`` bytes in the ranges in which the two views do differ.

        What lies behind the end of the first is left out: nothing of the first depends on it.
        """
        found: List[Range] = []
        for start, end in ((start, min(end, before.size)) for start, end in self):
            for piece in range(start, end, STEP):
                old, new = (view.read(piece, min(STEP, end - piece)) for view in (before, after))
                if old != new:
                    found += [
                        (piece + at, min(piece + len(old), piece + at + step))
                        for at in range(0, len(old), step)
                        if old[at : at + step] != new[at : at + step]
                    ]
        return Ranges(found)


class Directory(NamedTuple):
    """A directory's size in bytes and the numbers of the inodes that have names in it."""

    size: int
    children: "array[int]"


class TreeIndex:
    """What every inode in use of one image depends on. Compact: a few dozen bytes for each.

    ``metadata`` gets a copy of all that is read for it and of the rest of the file system's metadata. ``stopped`` set
    by another thread ends the reading early; the index is of no use then.
    """

    def __init__(
        self, root: ExtImage, metadata: Optional[MetadataCopy] = None, stopped: Optional[threading.Event] = None
    ) -> None:
        self.root = root
        self.kinds = bytearray(root.superblock.inode_count + 1)
        self.directories: Dict[int, Directory] = {}
        self._starts = array("Q")
        self._ends = array("Q")
        self._owners = array("Q")
        self._metadata = metadata
        # An attribute's value in an inode of its own would be one more thing to depend on.
        if "ea_inode" not in root.superblock.features:
            self._fill(stopped or threading.Event())

    def same(self, after: ExtImage, changed: Ranges) -> bytearray:
        """For each inode number what it is (FILE, DIRECTORY) if it is surely the same in ``after``, else UNKNOWN.

        ``changed`` are the only places where the bytes of the two images differ.
        """
        if not self._interpreted_alike(after):
            return bytearray(len(self.kinds))
        kinds = bytearray(self.kinds)
        for start, end, owner in zip(self._starts, self._ends, self._owners):
            if changed.touch(start, end):
                kinds[owner] = UNKNOWN
        for number in self._slots(changed):
            kinds[number] = UNKNOWN
        return kinds

    def _fill(self, stopped: threading.Event) -> None:
        view = self.root.view
        if self._metadata is not None:
            self._metadata.keep_groups()
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="tree") as pool:
            for plain, inodes in self.root.sorted_inodes():
                if stopped.is_set():
                    return
                if len(self._owners) < _MOST_PLACES:
                    self._add_plain(plain)
                if isinstance(view, NestedView):
                    self._fetch(view, inodes, pool)
                for inode in inodes:
                    if len(self._owners) < _MOST_PLACES:
                        self._add(inode)

    def _fetch(self, view: NestedView, inodes: Sequence[ExtInode], pool: ThreadPoolExecutor) -> None:
        """Decompress what the block maps of ``inodes`` lie in, with all processors; the view keeps it for a while."""
        blocks: Set[int] = set()
        for inode in inodes:
            if stat.S_IFMT(inode.mode) in (stat.S_IFREG, stat.S_IFDIR):
                blocks.update(offset // view.block_size for offset in self.root.map_blocks(inode))
            if stat.S_ISDIR(inode.mode):
                blocks.update(self._first_block(inode, view.block_size))
        if len(blocks) > 1:
            wanted = sorted(blocks)[: view.cached_blocks]
            for _ in pool.map(lambda part: _quietly(view, part), [wanted[i::_THREADS] for i in range(_THREADS)]):
                pass

    def _first_block(self, inode: ExtInode, block_size: int) -> List[int]:
        """Where a directory's names are to be read, when that is known without reading."""
        if self.root.map_blocks(inode):
            return []
        try:
            ranges = self.root.data_ranges(inode)
        except RespinError:
            return []
        return [offset // block_size for offset, _ in ranges[:1] if offset is not None]

    def _add_plain(self, inodes: Sequence[PlainInode]) -> None:
        """Files and links whose slots say all: nothing else has to be read, and e2fsck wants to see nothing else."""
        for number, start, end in inodes:
            self.kinds[number] = FILE
            if end > start:
                self._starts.append(start)
                self._ends.append(end)
                self._owners.append(number)

    def _add(self, inode: ExtInode) -> None:
        """Everything that a comparison in full would read of the inode is read here once, so that damage shows."""
        kind = stat.S_IFMT(inode.mode)
        if kind not in _KINDS:
            return
        content: List[Tuple[int, int]] = []
        try:
            self.root.xattrs(inode)
            if inode.is_symlink:
                self.root.readlink(inode)
            if inode.is_file or inode.is_directory or inode.is_symlink:
                ranges, described = self.root.places(inode)
                content = [(offset, length) for offset, length in ranges if offset is not None]
            else:
                described = self.root.mapping_ranges(inode)
            entries = self.root.scan(inode) if inode.is_directory else None
        except RespinError:
            return  # it is compared in full if a name leads to it, and the error told then
        if self._metadata is not None:
            self._metadata.keep_inode(inode, content, described)
        for start, length in (*content, *described):
            self._starts.append(start)
            self._ends.append(start + length)
            self._owners.append(inode.number)
        if entries is not None:
            self.directories[inode.number] = Directory(inode.size, array("I", (one.inode for one in entries.values())))
        self.kinds[inode.number] = FILE if entries is None else DIRECTORY

    def _interpreted_alike(self, after: ExtImage) -> bool:
        """Whether an inode number, a block number and the bytes of a slot mean the same in both images.

        They do in one that was grown, too, as far as the first one goes, if the inode tables stayed where they were.
        """
        mine, theirs = self.root.superblock, after.superblock
        if not same_but_for_size(mine, theirs) or self.root.view.size > after.view.size:
            return False
        try:
            groups = range(mine.group_count)
            return all(self.root.inode_table(group) == after.inode_table(group) for group in groups)
        except RespinError:
            return False

    def _slots(self, changed: Ranges) -> Iterable[int]:
        """The numbers of the inodes whose slots are touched."""
        superblock = self.root.superblock
        size, per_group = superblock.inode_size, superblock.inodes_per_group
        for group in range(superblock.group_count):
            table = self.root.inode_table(group)
            for start, end in changed:
                if start < table + per_group * size and end > table:
                    first, last = max(0, start - table) // size, min(per_group - 1, (end - 1 - table) // size)
                    yield from range(group * per_group + 1 + first, group * per_group + 2 + last)


def _quietly(view: NestedView, numbers: Sequence[int]) -> None:
    """Read blocks; what is wrong with one is told by who needs it."""
    for number in numbers:
        with suppress(RespinError):
            view.block(number)
