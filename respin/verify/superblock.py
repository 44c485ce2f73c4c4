"""The superblock of the root's file system against the vendor's: nothing but counters differs, unless it was grown.

A reader of trees does not see what a mount would do first: replay a journal, delete orphans. So every byte that is not
named here has to be the vendor's, and a grown file system fills its image exactly, in whole block groups.
"""

from __future__ import annotations

from respin.byteview import ByteView
from respin.formats.ext import superblock
from respin.formats.ext.superblock import ExtSuperblock
from respin.node.rootimage import NestedRoot
from respin.verify.differs import altered

# Linux Documentation/filesystems/ext4/super.rst, as (offset, length).
# What writing changes: free blocks and inodes, time of the last write, the upper half of the free blocks, KiB written,
# checksum.
_COUNTERS = ((12, 8), (48, 4), (344, 4), (376, 8), (1020, 4))
# What growing changes besides: inodes, blocks, reserved blocks, reserved descriptor blocks, upper halves of the numbers
# of blocks, blocks of overhead (0: not counted), groups with a backup (sparse_super2).
_SIZES = ((0, 12), (206, 2), (336, 8), (584, 12))


def require_same_superblock(output: NestedRoot, base: NestedRoot) -> None:
    """Raise VerificationError unless the output's superblock is the vendor's, or that of the same, grown."""
    mine, theirs = output.tree.superblock, base.tree.superblock
    if output.inner_size == base.inner_size:
        require_same_bytes(output.nested, base.nested, grown=False)
        return
    require_same_bytes(output.nested, base.nested, grown=True)
    if mine.block_count * mine.block_size != output.inner_size or output.inner_size < base.inner_size:
        raise altered(output.nested, superblock.OFFSET, "the root's file system does not fill its image")
    whole = (mine.block_count - mine.first_data_block) % mine.blocks_per_group == 0
    if not whole or mine.block_count <= theirs.block_count or not _same_share(mine, theirs):
        raise altered(output.nested, superblock.OFFSET, "the root's file system was not grown as respin grows it")


def _same_share(mine: ExtSuperblock, theirs: ExtSuperblock) -> bool:
    """Whether as large a part of all blocks is reserved for root as in the vendor's."""
    return abs(mine.reserved_blocks - theirs.reserved_blocks * mine.block_count // theirs.block_count) <= 1


def require_same_bytes(output: ByteView, base: ByteView, *, grown: bool) -> None:
    """Raise VerificationError at the first byte that differs and is none of those that writing, or growing, changes."""
    mine, theirs = (bytearray(view.read(superblock.OFFSET, superblock.SIZE)) for view in (output, base))
    for offset, length in _COUNTERS + (_SIZES if grown else ()):
        mine[offset : offset + length] = theirs[offset : offset + length] = bytes(length)
    if mine != theirs:
        place = next(i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b)
        raise altered(output, superblock.OFFSET + place, "the superblock of the root's file system is not the vendor's")
