"""Do the names in a changed ext image come out even with the link counts, if they do in the one that it was made of?

Only directories among the inodes that may differ have other names than before, so the others need not be read: what
they gain and lose is held against how the link counts changed. Linux Documentation/filesystems/ext4: inodes.rst,
directory.rst.
"""

from __future__ import annotations

from collections import Counter
from typing import Collection, Dict, Mapping, Optional, Set

from respin.formats.ext.directory import ExtEntry
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import EA_INODE_FLAG, ROOT, ExtInode

_MOST = 65_000  # links that the kernel counts
_OVERFLOWN = 1  # the link count of a directory with more directories in it than can be counted (feature dir_nlink)


class LinkCounts:
    """Compares ``before`` and ``after``, in which only inodes with these ``numbers`` may differ."""

    def __init__(self, before: ExtImage, after: ExtImage, numbers: Collection[int]) -> None:
        self._images = before, after
        self._numbers = frozenset(numbers)
        self._values = "ea_inode" in before.superblock.features  # of attributes, in inodes without names
        self._names: "Counter[int]" = Counter()  # by which the number of names of an inode changes
        self._directories: "Counter[int]" = Counter()  # by which the number of directories in a directory changes
        self._parents: Dict[int, int] = {}  # of directories that got a name
        self._rooted: Set[int] = {ROOT}  # directories from which ``..`` leads to the root

    def problem(self) -> Optional[str]:
        """What does not come out even; None if all does."""
        for number in sorted(self._numbers):
            self._count(number)
        for number in sorted({*self._names, *self._directories, *self._numbers}):
            problem = self._links(number)
            if problem is not None:
                return f"inode {number} {problem}"
        for number in sorted({*self._parents, *self._numbers}):
            problem = self._above(number)
            if problem is not None:
                return f"directory inode {number} {problem}"
        return None

    def _count(self, number: int) -> None:
        """Note what a directory gains and loses: names that are new, or lead elsewhere or to what may differ itself."""
        old, new = (self._entries(image, number) for image in self._images)
        for image, mine, others, sign in ((self._images[0], old, new, -1), (self._images[1], new, old, 1)):
            for name, entry in mine.items():
                other = others.get(name)
                if other is not None and other.inode == entry.inode and entry.inode not in self._numbers:
                    continue
                self._names[entry.inode] += sign
                inode = self._inode(image, entry.inode)
                if inode is not None and inode.is_directory:
                    self._directories[number] += sign
                    if sign > 0:
                        self._parents[entry.inode] = number
        self._count_other_kind(number)

    def _count_other_kind(self, number: int) -> None:
        """Note that a directory became something else under its name: what is above it has one directory less, and
        need not differ itself where names note no types. (The other way round, ``..`` tells.)
        """
        old, new = (self._inode(image, number) for image in self._images)
        if old is not None and new is not None and old.is_directory and not new.is_directory:
            above = self._images[0].dots(old)[1]
            if above not in self._numbers:
                self._directories[above] -= 1

    def _entries(self, image: ExtImage, number: int) -> Mapping[bytes, ExtEntry]:
        inode = self._inode(image, number)
        return image.scan(inode) if inode is not None and inode.is_directory else {}

    def _links(self, number: int) -> Optional[str]:
        old, new = (self._inode(image, number) for image in self._images)
        names = self._names_of(old, number) + self._names[number]
        if names != self._names_of(new, number):
            return f"has {names} names, and a link count of {0 if new is None else new.nlink}"
        if new is None or not new.is_directory:
            return None
        had = old.nlink if old is not None and old.is_directory else 2
        links = had + self._directories[number]
        if had == _OVERFLOWN or (new.nlink == _OVERFLOWN and links >= _MOST):
            return None if "dir_nlink" in self._images[1].superblock.features else "has a link count of 1"
        return None if new.nlink == links else f"has a link count of {new.nlink} instead of {links}"

    def _above(self, number: int) -> Optional[str]:
        """Whether what a directory names as itself and above itself is right, and leads to the root."""
        before, after = self._images
        inode = self._inode(after, number)
        if inode is None or not inode.is_directory:
            return None
        itself, above = after.dots(inode)
        parent = self._parents.get(number)
        if parent is None:
            old = self._inode(before, number)
            parent = ROOT if number == ROOT else before.dots(old)[1] if old is not None and old.is_directory else None
        if (itself, above) != (number, parent):
            return f"calls itself {itself} and what is above it {above} instead of {parent}"
        seen = {number}
        while above not in self._rooted:
            if above in seen:
                return "lies in itself"
            seen.add(above)
            next_one = self._inode(after, above)
            if next_one is None or not next_one.is_directory:
                return f"lies in inode {above}, which is no directory"
            above = after.dots(next_one)[1]
        self._rooted |= seen
        return None

    @staticmethod
    def _inode(image: ExtImage, number: int) -> Optional[ExtInode]:
        """An inode in use, else None."""
        known = 0 < number <= image.superblock.inode_count
        return image.inode(number) if known and image.slot(number).links else None

    def _names_of(self, inode: Optional[ExtInode], number: int) -> int:
        """How many names lead to an inode, by what it says itself."""
        is_value = inode is not None and inode.flags & EA_INODE_FLAG and self._values
        if inode is None or number == ROOT or is_value:
            return 0
        return 1 if inode.is_directory else inode.nlink
