"""Block groups of ext2, ext3 and ext4: where inode tables, bitmaps, descriptors and backups lie.

Linux Documentation/filesystems/ext4/group_descr.rst and blockgroup.rst: 32-byte and 64-byte descriptors, sparse_super,
sparse_super2, meta_bg, flex_bg. All places are byte offsets in the image.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, Iterator

from respin.byteview import ByteView
from respin.errors import MalformedError
from respin.formats.ext.superblock import OFFSET, SIZE, ExtSuperblock

_CACHED = 64
_INODE_UNINIT, _BLOCK_UNINIT = 1, 2  # of bg_flags: bitmaps that were never written
_LOW = struct.Struct("<3I4H8xH2x")  # of a descriptor's 32 bytes, without its checksums
_HIGH = struct.Struct("<3I4H12x")  # of the 32 bytes that follow in one of 64


@dataclass(frozen=True)
class Group:
    """A group's descriptor: numbers of the first block of each part, and how much is free.

    ``unused_inodes`` counts those at the table's end that were never used. With ``no_block_bitmap`` the block bitmap
    was never written: no block of the group holds content; with ``no_inode_bitmap`` no inode of it is in use.
    ``raw`` are the descriptor's bytes.
    """

    block_bitmap: int
    inode_bitmap: int
    inode_table: int
    free_blocks: int
    free_inodes: int
    directories: int
    unused_inodes: int
    no_block_bitmap: bool
    no_inode_bitmap: bool
    raw: bytes


@dataclass(frozen=True)
class MetadataRange:
    """``length`` bytes at byte ``offset`` of the image that hold ``kind`` of block group ``group``.

    ``kind`` is one of superblock, group-descriptors, reserved-descriptors, block-bitmap, inode-bitmap, inode-table.
    """

    kind: str
    group: int
    offset: int
    length: int


class Groups:
    """The group descriptors, read when needed."""

    def __init__(self, view: ByteView, superblock: ExtSuperblock) -> None:
        self._view = view
        self._superblock = superblock
        self._per_block = superblock.block_size // superblock.descriptor_size
        self._has_flags = not superblock.features.isdisjoint(("uninit_bg", "metadata_csum"))
        self._blocks: Dict[int, bytes] = {}
        self._bitmaps: Dict[int, bytes] = {}

    def __getitem__(self, number: int) -> Group:
        superblock = self._superblock
        number_in, at = divmod(number, self._per_block)
        block = self._blocks.get(number_in)
        if block is None:
            place = self._descriptor_block(number_in)
            if place >= superblock.block_count:
                raise self._bad(f"the descriptor of group {number} lies outside")
            block = self._view.read(place * superblock.block_size, superblock.block_size)
            if len(self._blocks) >= _CACHED:
                self._blocks.clear()
            self._blocks[number_in] = block
        raw = block[at * superblock.descriptor_size : (at + 1) * superblock.descriptor_size]
        *numbers, flags, unused = _LOW.unpack_from(raw)
        numbers.append(unused)
        if superblock.descriptor_size >= 64:
            shifts = (32, 32, 32, 16, 16, 16, 16)
            high = _HIGH.unpack_from(raw, _LOW.size)
            numbers = [low | up << shift for low, up, shift in zip(numbers, high, shifts)]
        block_bitmap, inode_bitmap, inode_table, free_blocks, free_inodes, directories, unused = numbers
        last = superblock.block_count - self.inode_table_blocks
        if not superblock.first_data_block < inode_table <= last:
            raise self._bad(f"the inode table of group {number} lies outside")
        if not 0 < block_bitmap < superblock.block_count or not 0 < inode_bitmap < superblock.block_count:
            raise self._bad(f"a bitmap of group {number} lies outside")
        flags = flags if self._has_flags else 0
        return Group(
            block_bitmap,
            inode_bitmap,
            inode_table,
            free_blocks,
            free_inodes,
            directories,
            unused,
            no_block_bitmap=bool(flags & _BLOCK_UNINIT),
            no_inode_bitmap=bool(flags & _INODE_UNINIT),
            raw=raw,
        )

    def holds_content(self, number: int) -> bool:
        """Whether block ``number`` is in use; of blocks that hold what :meth:`ranges` tells it may say no, too."""
        superblock = self._superblock
        group, bit = divmod(number - superblock.first_data_block, superblock.blocks_per_group)
        if not superblock.first_data_block <= number < superblock.block_count:
            raise self._bad(f"there is no block {number}")
        bitmap = self._bitmaps.get(group)
        if bitmap is None:
            bitmap = self.block_bitmap(group)
            if len(self._bitmaps) >= _CACHED:
                self._bitmaps.clear()
            self._bitmaps[group] = bitmap
        return bool(bitmap[bit // 8] >> bit % 8 & 1)

    def block_bitmap(self, number: int) -> bytes:
        """The block bitmap of a group, a whole block; zeros if it was never written."""
        found, size = self[number], self._superblock.block_size
        return bytes(size) if found.no_block_bitmap else self._view.read(found.block_bitmap * size, size)

    def inode_bitmap(self, number: int) -> bytes:
        """The inode bitmap of a group, a whole block; zeros if it was never written."""
        found, size = self[number], self._superblock.block_size
        return bytes(size) if found.no_inode_bitmap else self._view.read(found.inode_bitmap * size, size)

    def blocks_in(self, number: int) -> range:
        """The blocks of a group."""
        superblock = self._superblock
        first = superblock.first_data_block + number * superblock.blocks_per_group
        return range(first, min(first + superblock.blocks_per_group, superblock.block_count))

    @property
    def inode_table_blocks(self) -> int:
        """Blocks in each group's inode table."""
        return -(-self._superblock.inodes_per_group * self._superblock.inode_size // self._superblock.block_size)

    def ranges(self) -> Iterator[MetadataRange]:
        """Where the metadata outside of inodes lies, group by group."""
        superblock = self._superblock
        size = superblock.block_size
        descriptor_blocks = -(-superblock.group_count // self._per_block)
        old_blocks = descriptor_blocks
        if "meta_bg" in superblock.features:
            old_blocks = min(descriptor_blocks, superblock.first_meta_block_group)
        for number in range(superblock.group_count):
            first = superblock.first_data_block + number * superblock.blocks_per_group
            meta_group = number // self._per_block
            if self.has_superblock(number):
                yield MetadataRange("superblock", number, first * size if number else OFFSET, SIZE)
                at = (first + 1) * size
                if meta_group < old_blocks:  # behind these groups, each has at most the one below
                    yield MetadataRange("group-descriptors", number, at, old_blocks * size)
                if superblock.reserved_descriptor_blocks and "meta_bg" not in superblock.features:
                    length = superblock.reserved_descriptor_blocks * size
                    yield MetadataRange("reserved-descriptors", number, at + old_blocks * size, length)
            if meta_group >= old_blocks and number % self._per_block in (0, 1, self._per_block - 1):
                at = (first + self.has_superblock(number)) * size
                yield MetadataRange("group-descriptors", number, at, size)
            group = self[number]
            yield MetadataRange("block-bitmap", number, group.block_bitmap * size, size)
            yield MetadataRange("inode-bitmap", number, group.inode_bitmap * size, size)
            yield MetadataRange("inode-table", number, group.inode_table * size, self.inode_table_blocks * size)

    def has_superblock(self, number: int) -> bool:
        """Whether group ``number`` begins with the superblock or a backup of it."""
        features = self._superblock.features
        if number == 0:
            return True
        if "sparse_super2" in features:
            return number in self._superblock.backup_groups
        if number == 1 or "sparse_super" not in features:
            return True
        return any(_is_power(number, base) for base in (3, 5, 7))

    def _descriptor_block(self, number: int) -> int:
        superblock = self._superblock
        if "meta_bg" not in superblock.features or number < superblock.first_meta_block_group:
            return superblock.first_data_block + 1 + number
        group = number * self._per_block
        first = superblock.first_data_block + group * superblock.blocks_per_group
        return first + self.has_superblock(group)

    def _bad(self, what: str) -> MalformedError:
        return MalformedError(
            f"impossible ext block groups: {what}",
            where=self._view.name,
            remedy="the image is damaged; fetch it again and compare its checksum",
        )


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1
