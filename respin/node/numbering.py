"""What the inode numbers of an ext image stand for in another one that was made of it."""

from __future__ import annotations

from array import array
from typing import Iterator, Optional

from respin.errors import RespinError
from respin.formats.ext.image import ExtImage
from respin.formats.ext.superblock import same_but_for_size
from respin.node.ranges import Ranges


class Numbering:
    """Where the slots of an image's inodes lie. The image itself is not kept."""

    def __init__(self, root: ExtImage) -> None:
        self._superblock = root.superblock
        self._size = root.view.size
        self._tables = _inode_tables(root, root.superblock.group_count)

    def holds_in(self, after: ExtImage) -> bool:
        """Whether an inode number, a block number and the bytes of a slot mean the same in ``after``.

        They do in one that was grown, too, as far as the first image goes, if the inode tables stayed where they were.
        """
        if not same_but_for_size(self._superblock, after.superblock) or self._size > after.view.size:
            return False
        return self._tables is not None and self._tables == _inode_tables(after, self._superblock.group_count)

    def slots(self, changed: Ranges) -> Iterator[int]:
        """The numbers of the inodes whose slots are touched."""
        size, per_group = self._superblock.inode_size, self._superblock.inodes_per_group
        for group, table in enumerate(self._tables or ()):
            for start, end in changed.within(table, table + per_group * size):
                first, last = (start - table) // size, (end - 1 - table) // size
                yield from range(group * per_group + 1 + first, group * per_group + 2 + last)


def _inode_tables(root: ExtImage, count: int) -> "Optional[array[int]]":
    """Where the inode tables of the first ``count`` block groups begin; None if that cannot be known."""
    try:
        return array("Q", (root.inode_table(group) for group in range(count)))
    except RespinError:
        return None
