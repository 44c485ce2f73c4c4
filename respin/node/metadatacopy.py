"""A sparse file that holds the metadata of a root image, each byte at its place, and nothing of the files' content.

It is what e2fsck reads of an image. Checked natively, in such a file, it costs a fraction of a check that has every
block decompressed behind FUSE.
"""

from __future__ import annotations

import stat
from typing import Sequence, Tuple

from respin.byteview import is_zero
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ExtInode
from respin.spool import SparseSpool

_STEP = 1 << 20
_JOURNAL = 8

Place = Tuple[int, int]  # offset, length


class MetadataCopy:
    """Copies from ``root`` to ``spool``, which is empty; holes stay holes."""

    def __init__(self, root: ExtImage, spool: SparseSpool) -> None:
        self._root = root
        self._spool = spool
        spool.resize(root.view.size)
        self._first_free = root.superblock.first_inode

    @property
    def sufficient(self) -> bool:
        """Whether all is copied that e2fsck wants to see: values of attributes in inodes of their own are not."""
        return "ea_inode" not in self._root.superblock.features

    def keep_groups(self) -> None:
        """Copy what lies outside of inodes: superblocks, descriptors, bitmaps, inode tables."""
        for part in self._root.metadata_ranges():
            self.keep(part.offset, part.length)

    def keep_inode(self, inode: ExtInode, content: Sequence[Place], described: Sequence[Place]) -> None:
        """Copy what is metadata of ``inode``: where its content lies, its attributes, the names in a directory."""
        for offset, length in described:
            self.keep(offset, length)
        kind = stat.S_IFMT(inode.mode)
        if kind in (stat.S_IFDIR, stat.S_IFLNK) or (inode.number < self._first_free and inode.number != _JOURNAL):
            for offset, length in content:
                self.keep(offset, length)
        elif inode.number == _JOURNAL and content:
            self.keep(content[0][0], self._root.superblock.block_size)  # the journal's own superblock

    def keep(self, offset: int, length: int) -> None:
        """Copy ``length`` bytes at ``offset``."""
        view = self._root.view
        for at in range(offset, offset + length, _STEP):
            piece = view.read(at, min(_STEP, offset + length - at))
            if not is_zero(piece):
                self._spool.write(at, piece)
