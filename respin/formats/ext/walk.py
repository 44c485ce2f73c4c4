"""What keeps a walk through the directories of an ext image from going on for ever."""

from __future__ import annotations

from typing import Set

from respin.errors import MalformedError, UnsupportedError
from respin.formats.ext.superblock import ExtSuperblock
from respin.limits import LIMITS


class WalkGuard:
    """Counts what one walk through one image meets; ``where`` is the image's name for messages."""

    def __init__(self, superblock: ExtSuperblock, where: str) -> None:
        # Names can outnumber inodes (hard links), but a directory's block belongs to it alone.
        self._names_left = min(8 * superblock.inode_count + 65536, LIMITS.ext_inodes)
        self._blocks_left = superblock.block_count
        self._block_size = superblock.block_size
        self._seen: Set[int] = set()
        self._where = where

    def enter(self, path: str, number: int, size: int, depth: int) -> None:
        """Call before directory ``number`` of ``size`` bytes is read; ``depth`` is 1 for the top.

        Raises MalformedError when a directory is reached twice or the tree is deeper or larger than the limits.
        """
        self._blocks_left -= size // self._block_size
        if number in self._seen or depth > LIMITS.ext_depth or self._blocks_left < 0:
            raise MalformedError(
                "the directories of the ext file system form a loop or are too deep", where=f"{self._where}:{path}"
            )
        self._seen.add(number)

    def found(self, names: int) -> None:
        """Call with the number of names in a directory that was read; UnsupportedError beyond the limit."""
        self._names_left -= names
        if self._names_left < 0:
            raise UnsupportedError("the tree has more names than the limit", where=self._where)
