"""What is known of two root images before both trees are read: which inodes are the same in both, and what to look at
below a directory that is.
"""

from __future__ import annotations

from typing import Callable, Iterator, List, Protocol, Sequence, Tuple

from respin.errors import RespinError
from respin.formats.ext.image import ExtImage
from respin.node.ranges import Ranges
from respin.node.touched import Touched, in_use
from respin.node.treeindex import DIRECTORY, UNKNOWN, TreeIndex

# Gets what is entered for messages, its inode number, its bytes, its depth, and how many names are in it.
Enter = Callable[[str, int, int, int, int], None]
Below = Tuple[str, int, int]  # path, inode number, depth


class UnsureError(Exception):
    """It turns out that too little is known; nothing is wrong with the images yet."""


class Sameness(Protocol):
    """What a comparison asks."""

    def is_same(self, number: int) -> bool:
        """Whether the inode of that number is surely the same in both images: kind, attributes, names, content."""

    def below(self, path: str, number: int, depth: int, enter: Enter) -> Iterator[Below]:
        """What may differ below the directory at ``path``, which is the same itself, anywhere."""

    def require_new(self, number: int) -> None:
        """Called for what a name leads to in the second image that led elsewhere, or was not there, in the first.

        Raises UnsureError when that cannot be judged without reading more.
        """


class NothingSame:
    """Nothing is known, so both trees are read in full."""

    def is_same(self, number: int) -> bool:
        return False

    def below(self, path: str, number: int, depth: int, enter: Enter) -> Iterator[Below]:
        return iter(())

    def require_new(self, number: int) -> None:
        pass


class ByIndex:
    """By an index of the first image: what none of the changed bytes touches is the same."""

    def __init__(self, before: ExtImage, after: ExtImage, changed: Ranges, index: TreeIndex) -> None:
        self._before = before
        self._index = index
        most = 1 + max(before.superblock.inode_count, after.superblock.inode_count)
        self._same = index.same(after, changed).ljust(most, bytes((UNKNOWN,)))

    def is_same(self, number: int) -> bool:
        return self._same[number] != UNKNOWN

    def below(self, path: str, number: int, depth: int, enter: Enter) -> Iterator[Below]:
        todo: List[Tuple[Tuple[int, ...], int]] = [((number,), depth)] if self._same[number] == DIRECTORY else []
        while todo:
            trail, depth = todo.pop()
            directory = self._index.directories[trail[-1]]
            enter(f"directory inode {trail[-1]}", trail[-1], directory.size, depth, len(directory.children))
            kinds = bytes(map(self._same.__getitem__, directory.children))
            if DIRECTORY in kinds:
                below = (child for kind, child in zip(kinds, directory.children) if kind == DIRECTORY)
                todo += [((*trail, child), depth + 1) for child in below]
            if UNKNOWN in kinds:
                prefix = self._path(path, trail).rstrip("/")
                for entry in self._before.scan(self._before.inode(trail[-1])).values():
                    if self._same[entry.inode] == UNKNOWN:
                        yield f"{prefix}/{entry.name}", entry.inode, depth + 1

    def require_new(self, number: int) -> None:
        pass

    def _path(self, path: str, trail: Sequence[int]) -> str:
        """The path of the last directory of ``trail``; each lies in the one before, ``path`` is that of the first."""
        for parent, child in zip(trail, trail[1:]):
            names = self._before.scan(self._before.inode(parent)).values()
            path = f"{path.rstrip('/')}/{next(entry.name for entry in names if entry.inode == child)}"
        return path


class ByTouch:
    """By what the changed bytes touch, the names of all of that being known."""

    def __init__(self, before: ExtImage, touched: Touched) -> None:
        self._before = before
        self._touched = touched

    def is_same(self, number: int) -> bool:
        return number not in self._touched.numbers

    def below(self, path: str, number: int, depth: int, enter: Enter) -> Iterator[Below]:
        names = self._touched.below.get(path)
        if names is None:
            return
        inode = self._before.inode(number)
        entries = self._before.scan(inode)
        enter(path, number, inode.size, depth, len(entries))
        for name in sorted(names):
            found = entries.get(name.encode("utf-8", "surrogateescape"))
            if found is not None:
                yield f"{path.rstrip('/')}/{name}", found.inode, depth + 1

    def require_new(self, number: int) -> None:
        """A second name of something that is not accounted for, or a directory of the first image somewhere else,
        whose content nobody has looked at there.
        """
        if number > self._before.superblock.inode_count or not in_use(self._before, number):
            return
        try:
            directory = self._before.inode(number).is_directory
        except RespinError as error:
            raise UnsureError from error
        if directory or self.is_same(number):
            raise UnsureError
