"""The checksums of ext4's metadata (feature metadata_csum): CRC-32C, without which the kernel shows nothing.

Linux Documentation/filesystems/ext4/checksums.rst. Covered is what belongs to an inode: its slot, the blocks of its
extent tree, its attribute block, its directory blocks; and what the file system notes about itself: superblock, group
descriptors (with CRC-16 under the older feature uninit_bg) and bitmaps.
"""

from __future__ import annotations

import struct
import uuid
from functools import lru_cache
from typing import Tuple

from respin.byteview import ByteView
from respin.formats.ext.inode import BASE_SIZE, ExtInode
from respin.formats.ext.superblock import OFFSET, SIZE, ExtSuperblock

TAIL_SIZE = 12
_TAIL = struct.pack("<IHBB", 0, TAIL_SIZE, 0, 0xDE)
_LOW, _HIGH = 124, 130  # i_checksum_lo and _hi
_SEED = 624  # s_checksum_seed
_SUPERBLOCK_SUM, _DESCRIPTOR_SUM = 1020, 30  # s_checksum, bg_checksum
_BLOCK_BITMAP_SUM, _INODE_BITMAP_SUM = (24, 56), (26, 58)  # lower and upper half


_CRC32C, _CRC16 = 0x82F63B78, 0xA001  # polynomials, lowest power last


@lru_cache(maxsize=2)
def _table(polynomial: int) -> Tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
        found.append(value)
    return tuple(found)


def crc32c(data: bytes, value: int) -> int:
    """CRC-32C of ``data`` continued from ``value``, not inverted at the end, as the kernel has it."""
    return _crc(data, value, _CRC32C)


def _crc(data: bytes, value: int, polynomial: int) -> int:
    table = _table(polynomial)
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value


class Checksums:
    """Holds parts of one image against their checksums; without the feature everything is right."""

    def __init__(self, view: ByteView, superblock: ExtSuperblock) -> None:
        self.used = "metadata_csum" in superblock.features
        self._superblock = superblock
        self._view = view
        self._uuid = uuid.UUID(superblock.uuid).bytes
        self._seed = crc32c(self._uuid, 0xFFFFFFFF)
        if "metadata_csum_seed" in superblock.features:
            (self._seed,) = struct.unpack_from("<I", view.read(OFFSET, SIZE), _SEED)

    def slot(self, inode: ExtInode, raw: bytes) -> bool:
        """Whether the bytes of an inode's slot are right."""
        if not self.used:
            return True
        (extra,) = struct.unpack_from("<H", raw, BASE_SIZE) if self._superblock.inode_size > BASE_SIZE else (0,)
        plain = bytearray(raw)
        plain[_LOW : _LOW + 2] = bytes(2)
        (wanted,) = struct.unpack_from("<H", raw, _LOW)
        mask = 0xFFFF
        if extra >= 4:
            plain[_HIGH : _HIGH + 2] = bytes(2)
            wanted |= struct.unpack_from("<H", raw, _HIGH)[0] << 16
            mask = 0xFFFFFFFF
        return crc32c(bytes(plain), self._of(inode)) & mask == int(wanted)

    def extent_block(self, inode: ExtInode, block: bytes) -> bool:
        """Whether a block of an extent tree is right."""
        end = 12 + 12 * struct.unpack_from("<H", block, 4)[0]
        return not self.used or (end + 4 <= len(block) and self._holds(inode, block[:end], block, end))

    def attribute_block(self, number: int, block: bytes) -> bool:
        """Whether the attribute block with that number is right."""
        value = crc32c(block[:16] + bytes(4) + block[20:], crc32c(struct.pack("<Q", number), self._seed))
        return not self.used or value == struct.unpack_from("<I", block, 16)[0]

    def directory_block(self, inode: ExtInode, block: bytes) -> bool:
        """Whether a block of names is right."""
        end = len(block) - TAIL_SIZE
        return not self.used or (
            block[end : end + 8] == _TAIL and self._holds(inode, block[:end], block, end + TAIL_SIZE - 4)
        )

    def index_block(self, inode: ExtInode, block: bytes, start: int) -> bool:
        """Whether a block of a directory's index is right, whose entries begin at ``start``."""
        limit, count = struct.unpack_from("<HH", block, start)
        tail = start + 8 * limit
        if not self.used or tail + 8 > len(block):
            return not self.used
        covered = block[: start + 8 * count] + block[tail : tail + 4] + bytes(4)
        return self._holds(inode, covered, block, tail + 4)

    def superblock(self) -> bool:
        """Whether the superblock is right."""
        raw = self._view.read(OFFSET, SIZE)
        wanted = struct.unpack_from("<I", raw, _SUPERBLOCK_SUM)[0]
        return not self.used or crc32c(raw[:_SUPERBLOCK_SUM], 0xFFFFFFFF) == wanted

    def descriptor(self, number: int, raw: bytes) -> bool:
        """Whether the descriptor of group ``number`` is right."""
        start, end = struct.pack("<I", number) + raw[:_DESCRIPTOR_SUM], raw[_DESCRIPTOR_SUM + 2 :]
        if self.used:
            value = crc32c(start + bytes(2) + end, self._seed) & 0xFFFF
        elif "uninit_bg" in self._superblock.features:
            value = _crc(self._uuid + start + end, 0xFFFF, _CRC16)
        else:
            return True
        return value == int(struct.unpack_from("<H", raw, _DESCRIPTOR_SUM)[0])

    def block_bitmap(self, descriptor: bytes, bitmap: bytes) -> bool:
        """Whether the block bitmap of a group with that descriptor is right."""
        return self._bitmap(descriptor, bitmap[: self._superblock.blocks_per_group // 8], _BLOCK_BITMAP_SUM)

    def inode_bitmap(self, descriptor: bytes, bitmap: bytes) -> bool:
        """Whether the inode bitmap of a group with that descriptor is right."""
        return self._bitmap(descriptor, bitmap[: self._superblock.inodes_per_group // 8], _INODE_BITMAP_SUM)

    def _bitmap(self, descriptor: bytes, covered: bytes, places: Tuple[int, int]) -> bool:
        if not self.used:
            return True
        value = crc32c(covered, self._seed)
        halves = [value & 0xFFFF, value >> 16][: 2 if len(descriptor) >= 64 else 1]
        return all(struct.unpack_from("<H", descriptor, at)[0] == half for at, half in zip(places, halves))

    def _of(self, inode: ExtInode) -> int:
        return crc32c(struct.pack("<II", inode.number, inode.generation), self._seed)

    def _holds(self, inode: ExtInode, covered: bytes, block: bytes, place: int) -> bool:
        return crc32c(covered, self._of(inode)) == int(struct.unpack_from("<I", block, place)[0])
