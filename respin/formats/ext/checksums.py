"""The checksums of ext4's metadata (feature metadata_csum): CRC-32C, without which the kernel shows nothing.

Linux Documentation/filesystems/ext4/checksums.rst. Covered is what belongs to an inode: its slot, the blocks of its
extent tree, its attribute block, its directory blocks.
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


@lru_cache(maxsize=1)
def _table() -> Tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return tuple(found)


def crc32c(data: bytes, value: int) -> int:
    """CRC-32C of ``data`` continued from ``value``, not inverted at the end, as the kernel has it."""
    table = _table()
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value


class Checksums:
    """Holds parts of one image against their checksums; without the feature everything is right."""

    def __init__(self, view: ByteView, superblock: ExtSuperblock) -> None:
        self.used = "metadata_csum" in superblock.features
        self._inode_size = superblock.inode_size
        self._seed = crc32c(uuid.UUID(superblock.uuid).bytes, 0xFFFFFFFF)
        if "metadata_csum_seed" in superblock.features:
            (self._seed,) = struct.unpack_from("<I", view.read(OFFSET, SIZE), _SEED)

    def slot(self, inode: ExtInode, raw: bytes) -> bool:
        """Whether the bytes of an inode's slot are right."""
        if not self.used:
            return True
        (extra,) = struct.unpack_from("<H", raw, BASE_SIZE) if self._inode_size > BASE_SIZE else (0,)
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

    def _of(self, inode: ExtInode) -> int:
        return crc32c(struct.pack("<II", inode.number, inode.generation), self._seed)

    def _holds(self, inode: ExtInode, covered: bytes, block: bytes, place: int) -> bool:
        return crc32c(covered, self._of(inode)) == int(struct.unpack_from("<I", block, place)[0])
