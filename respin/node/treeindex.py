"""Which inodes depend on which bytes of a root image, so that a comparison need only look at what changed bytes touch.

An inode depends on its slot in the inode table, on the blocks of its block map, on its attribute block and on its
content. Where two images interpret inode numbers alike and all of these are the same bytes in both, the inode is the
same in both: kind, attributes, names in it and content.
"""

from __future__ import annotations

import stat
from array import array
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Dict, List, NamedTuple, Sequence, Set, Tuple

from respin.errors import RespinError
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ExtInode
from respin.formats.ext.plain import PlainInode
from respin.formats.squashfs.nested import NestedView
from respin.node.numbering import Numbering
from respin.node.ranges import Ranges

_THREADS = 2
_MOST_PLACES = 8_000_000  # inodes beyond are compared in full
_KINDS = frozenset((stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK))
UNKNOWN, FILE, DIRECTORY = 0, 1, 2


class Directory(NamedTuple):
    """A directory's size in bytes and the numbers of the inodes that have names in it."""

    size: int
    children: "array[int]"


class TreeIndex:
    """What every inode in use of one image depends on. Compact: a few dozen bytes for each. The image is not kept."""

    def __init__(self, root: ExtImage) -> None:
        self._numbering = Numbering(root)
        self.kinds = bytearray(root.superblock.inode_count + 1)
        self.directories: Dict[int, Directory] = {}
        self._starts = array("Q")
        self._ends = array("Q")
        self._owners = array("Q")
        # An attribute's value in an inode of its own would be one more thing to depend on.
        if "ea_inode" not in root.superblock.features:
            self._fill(root)

    def same(self, after: ExtImage, changed: Ranges) -> bytearray:
        """For each inode number what it is (FILE, DIRECTORY) if it is surely the same in ``after``, else UNKNOWN.

        ``changed`` are the only places where the bytes of the two images differ.
        """
        if not self._numbering.holds_in(after):
            return bytearray(len(self.kinds))
        kinds = bytearray(self.kinds)
        for number in changed.touching(self._starts, self._ends):
            kinds[self._owners[number]] = UNKNOWN
        for number in self._numbering.slots(changed):
            kinds[number] = UNKNOWN
        return kinds

    def _fill(self, root: ExtImage) -> None:
        view = root.view
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="tree") as pool:
            for plain, inodes in root.sorted_inodes():
                if len(self._owners) < _MOST_PLACES:
                    self._add_plain(plain)
                if isinstance(view, NestedView):
                    _fetch(root, view, inodes, pool)
                for inode in inodes:
                    if len(self._owners) < _MOST_PLACES:
                        self._add(root, inode)

    def _add_plain(self, inodes: Sequence[PlainInode]) -> None:
        """Files and links whose slots say all: nothing else has to be read."""
        for number, start, end in inodes:
            self.kinds[number] = FILE
            if end > start:
                self._starts.append(start)
                self._ends.append(end)
                self._owners.append(number)

    def _add(self, root: ExtImage, inode: ExtInode) -> None:
        """Everything that a comparison in full would read of the inode is read here once, so that damage shows."""
        kind = stat.S_IFMT(inode.mode)
        if kind not in _KINDS:
            return
        content: List[Tuple[int, int]] = []
        try:
            root.xattrs(inode)
            if inode.is_symlink:
                root.readlink(inode)
            if inode.is_file or inode.is_directory or inode.is_symlink:
                ranges, described = root.places(inode)
                content = [(offset, length) for offset, length in ranges if offset is not None]
            else:
                described = root.mapping_ranges(inode)
            entries = root.scan(inode) if inode.is_directory else None
        except RespinError:
            return  # it is compared in full if a name leads to it, and the error told then
        for start, length in (*content, *described):
            self._starts.append(start)
            self._ends.append(start + length)
            self._owners.append(inode.number)
        if entries is not None:
            self.directories[inode.number] = Directory(inode.size, array("I", (one.inode for one in entries.values())))
        self.kinds[inode.number] = FILE if entries is None else DIRECTORY


def _fetch(root: ExtImage, view: NestedView, inodes: Sequence[ExtInode], pool: ThreadPoolExecutor) -> None:
    """Decompress what the block maps of ``inodes`` lie in, with all processors; the view keeps it for a while."""
    blocks: Set[int] = set()
    for inode in inodes:
        if stat.S_IFMT(inode.mode) in (stat.S_IFREG, stat.S_IFDIR):
            maps = [offset // view.block_size for offset in root.map_blocks(inode)]
            blocks.update(maps or _first_block(root, inode, view.block_size))
    if len(blocks) > 1:
        wanted = sorted(blocks)[: view.cached_blocks]
        for _ in pool.map(lambda part: _quietly(view, part), [wanted[i::_THREADS] for i in range(_THREADS)]):
            pass


def _first_block(root: ExtImage, inode: ExtInode, block_size: int) -> List[int]:
    """Where a directory's names are to be read, when that is known without reading."""
    if not stat.S_ISDIR(inode.mode):
        return []
    try:
        ranges = root.data_ranges(inode)
    except RespinError:
        return []
    return [offset // block_size for offset, _ in ranges[:1] if offset is not None]


def _quietly(view: NestedView, numbers: Sequence[int]) -> None:
    """Read blocks; what is wrong with one is told by who needs it."""
    for number in numbers:
        with suppress(RespinError):
            view.block(number)
