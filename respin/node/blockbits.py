"""Sets of blocks of an ext image, one number for each block group, and those of them that hold its metadata."""

from __future__ import annotations

from typing import Dict, Optional, Set, Tuple

from respin.formats.ext.image import ExtImage


class Bits:
    """Sets of blocks as one number for each group, bit 0 for its first block."""

    def __init__(self, image: ExtImage) -> None:
        self._first = image.superblock.first_data_block
        self._per_group = image.superblock.blocks_per_group
        self.groups: Dict[int, int] = {}

    def add(self, first: int, count: int) -> bool:
        """Add blocks; whether none of them was there."""
        new = True
        at, end = first - self._first, first + count - self._first
        while at < end:
            group, bit = divmod(at, self._per_group)
            length = min(end - at, self._per_group - bit)
            mask = (1 << length) - 1 << bit
            found = self.groups.get(group, 0)
            new = new and not found & mask
            self.groups[group] = found | mask
            at += length
        return new

    def __getitem__(self, group: int) -> int:
        return self.groups.get(group, 0)

    def holds(self, block: int) -> bool:
        """Whether a block is in the set."""
        group, bit = divmod(block - self._first, self._per_group)
        return bool(self[group] >> bit & 1)


class FreeBlocks:
    """Whether a block is free, as the bitmaps say, or of a group whose bitmap was never written its metadata."""

    def __init__(self, image: ExtImage) -> None:
        self._image = image
        self._metadata, _ = metadata_bits(image)
        self._bitmaps: Dict[int, Optional[bytes]] = {}

    def __getitem__(self, block: int) -> bool:
        superblock = self._image.superblock
        if not superblock.first_data_block <= block < superblock.block_count:
            return False
        group, bit = divmod(block - superblock.first_data_block, superblock.blocks_per_group)
        if group not in self._bitmaps:
            groups = self._image.groups
            self._bitmaps[group] = None if groups[group].no_block_bitmap else groups.block_bitmap(group)
        bitmap = self._bitmaps[group]
        return not self._metadata.holds(block) if bitmap is None else not bitmap[bit >> 3] >> (bit & 7) & 1


def metadata_bits(image: ExtImage) -> Tuple[Bits, Optional[str]]:
    """The blocks that hold superblocks, descriptors, bitmaps and inode tables; and what is wrong with their places."""
    size = image.superblock.block_size
    bits, problem = Bits(image), None
    for part in image.metadata_ranges():
        first, end = part.offset // size, -(-(part.offset + part.length) // size)
        first = max(first, image.superblock.first_data_block)
        if end > image.superblock.block_count or not bits.add(first, end - first):
            problem = problem or f"the {part.kind} of group {part.group} lies where something else does"
    return bits, problem


def groups_with_others(image: ExtImage) -> Set[int]:
    """The block groups with metadata of other groups (flex_bg) in them.

    Who finds that the bitmap of one was never written takes only the group's own metadata for blocks in use.
    """
    superblock = image.superblock
    found: Set[int] = set()
    for part in image.metadata_ranges():
        first = part.offset // superblock.block_size - superblock.first_data_block
        last = (part.offset + part.length - 1) // superblock.block_size - superblock.first_data_block
        per_group = superblock.blocks_per_group
        found.update(group for group in range(first // per_group, last // per_group + 1) if group != part.group)
    return found
