"""Bytes of a changed ext image that no file has: they are the vendor's, or zeros.

A second superblock there would be found by what looks for superblocks at fixed places, from a device's end for one
(md, other RAID): blkid, and with it mount and udev, may then take the root for something else.
"""

from __future__ import annotations

from typing import Collection, Iterator, Optional, Tuple

from respin.byteview import is_zero
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ExtInode
from respin.node.blockbits import FreeBlocks
from respin.node.ranges import Ranges


def unreached(before: ExtImage, after: ExtImage, numbers: Collection[int], changed: Ranges) -> Optional[str]:
    """What is wrong with free blocks and with what follows the ends of files; None if nothing is.

    ``numbers`` are the inodes that may differ, ``changed`` the blocks of ``before`` in which bytes do.
    """
    size, old = after.superblock.block_size, before.superblock.block_count
    free = FreeBlocks(after)
    blocks = [number for start, end in changed for number in range(start // size, -(-end // size))]
    for number in (*blocks, *range(old, after.superblock.block_count)):
        if free[number] and not is_zero(after.view.read(number * size, size)):
            return f"block {number} is free, and what it holds is not the vendor's"
    for number in sorted(numbers):
        if number > after.superblock.inode_count or not after.slot(number).links:
            continue
        for at, length in _behind(after, after.inode(number)):
            new = after.view.read(at, length)
            if not is_zero(new) and (at + length > before.view.size or new != before.view.read(at, length)):
                return f"what follows the end of inode {number} in its last block is not the vendor's"
    return None


def _behind(image: ExtImage, inode: ExtInode) -> Iterator[Tuple[int, int]]:
    """Byte offset and length of what lies behind a file's end in its last block."""
    size = image.superblock.block_size
    if not inode.is_file or inode.is_inline or not inode.size % size:
        return
    last = inode.size // size * size
    position = 0
    for offset, length in image.data_ranges(inode):
        if offset is not None and position <= last < position + length:
            yield offset + last - position + inode.size % size, size - inode.size % size
        position += length
