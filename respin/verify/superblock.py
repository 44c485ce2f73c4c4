"""The superblock of the root's file system against the vendor's: nothing but counters differs, unless it was grown.

A reader of trees does not see what a mount would do first: replay a journal, delete orphans. So every byte that is not
named here has to be the vendor's, the journal and the file of orphans are, and a grown file system fills its image
exactly, in whole block groups.
"""

from __future__ import annotations

import struct
from typing import Iterator, Tuple

from respin.byteview import ByteView
from respin.formats.ext import superblock
from respin.formats.ext.image import ExtImage
from respin.formats.ext.superblock import ExtSuperblock
from respin.node.ranges import Ranges
from respin.node.rootimage import NestedRoot
from respin.verify.differs import altered

# Linux Documentation/filesystems/ext4/super.rst, as (offset, length).
# What writing changes: free blocks and inodes, time of the last write, the upper half of the free blocks, KiB written,
# checksum.
_COUNTERS = ((12, 8), (48, 4), (344, 4), (376, 8), (1020, 4))
# What growing changes besides: inodes, blocks, reserved blocks, reserved descriptor blocks, upper halves of the numbers
# of blocks, blocks of overhead (0: not counted), groups with a backup (sparse_super2).
_SIZES = ((0, 12), (206, 2), (336, 8), (584, 12))
# Inode numbers of the journal and of the file of orphans, and the features without which they mean nothing.
_HIDDEN_FILES = ((224, "has_journal"), (640, "orphan_file"))
_STEP = 1 << 20


def require_same_hidden_files(output: ExtImage, base: ExtImage, changed: Ranges) -> None:
    """Raise VerificationError unless the files that only a mount reads are the vendor's, byte for byte.

    The two images differ nowhere but in ``changed``. A kernel that cannot write to the image replays what stands in the
    journal, whatever the superblock says.
    """
    raw = base.view.read(superblock.OFFSET, superblock.SIZE)
    for offset, feature in _HIDDEN_FILES:
        (number,) = struct.unpack_from("<I", raw, offset)
        if not number or feature not in base.superblock.features:
            continue
        if output.inode_location(number) != base.inode_location(number):
            raise altered(output.view, output.inode_location(number), f"inode {number} is somewhere else")
        for start, length in _places(base, number):
            for at in range(start, start + length, _STEP):
                count = min(_STEP, start + length - at)
                if changed.touch(at, at + count) and output.view.read(at, count) != base.view.read(at, count):
                    what = f"the {'journal' if feature == 'has_journal' else 'file of orphans'} is not the vendor's"
                    raise altered(output.view, at, what)


def _places(image: ExtImage, number: int) -> Iterator[Tuple[int, int]]:
    """Where an inode, what describes it and its content lie."""
    yield image.inode_location(number), image.superblock.inode_size
    inode = image.inode(number)
    yield from image.mapping_ranges(inode)
    for offset, length in image.data_ranges(inode):
        if offset is not None:
            yield offset, length


def require_same_superblock(output: NestedRoot, base: NestedRoot) -> None:
    """Raise VerificationError unless the output's superblock is the vendor's, or that of the same, grown."""
    mine, theirs = output.tree.superblock, base.tree.superblock
    require_same_around(output.nested, base.nested, theirs.block_size)
    if output.inner_size == base.inner_size:
        require_same_bytes(output.nested, base.nested, grown=False)
        return
    require_same_bytes(output.nested, base.nested, grown=True)
    if mine.block_count * mine.block_size != output.inner_size or output.inner_size < base.inner_size:
        raise altered(output.nested, superblock.OFFSET, "the root's file system does not fill its image")
    whole = (mine.block_count - mine.first_data_block) % mine.blocks_per_group == 0
    if not whole or mine.block_count <= theirs.block_count or not _same_share(mine, theirs):
        raise altered(output.nested, superblock.OFFSET, "the root's file system was not grown as respin grows it")


def require_same_around(output: ByteView, base: ByteView, block_size: int) -> None:
    """Raise VerificationError unless what lies before the superblock, and in its block behind it, is the vendor's.

    No file system writes there, and there others have their superblocks: a mount that is not told the type of the root
    may take it for one of these.
    """
    for start, end in ((0, superblock.OFFSET), (superblock.OFFSET + superblock.SIZE, block_size)):
        pieces = [view.read(start, max(0, end - start)) for view in (output, base)]
        if pieces[0] != pieces[1]:
            place = start + next(i for i, (a, b) in enumerate(zip(*pieces)) if a != b)
            raise altered(
                output, place, "what lies around the superblock of the root's file system is not the vendor's"
            )


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
