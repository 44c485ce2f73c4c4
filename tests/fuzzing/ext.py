"""The fields of an ext2, ext3 or ext4 image, where they lie in it."""

from __future__ import annotations

import random
import struct
from typing import List, Tuple

from respin.byteview import BytesView
from respin.formats.ext import ExtImage
from respin.formats.ext.inode import EXTENTS_FLAG, ExtInode
from tests.fuzzing.fields import NAME, Field, Fields, Parts, spoil_bytes

IMAGE = "image"
_SUPERBLOCK = (
    *((0, 4, "count"), (4, 4, "count"), (8, 4, "count"), (12, 4, "count"), (16, 4, "count"), (20, 4, "first block")),
    *(
        (24, 4, "log"),
        (28, 4, "log"),
        (32, 4, "per group"),
        (36, 4, "per group"),
        (40, 4, "per group"),
        (56, 2, "magic"),
    ),
    *((58, 2, "state"), (72, 4, "creator"), (76, 4, "revision"), (84, 4, "first inode"), (88, 2, "inode size")),
    *((92, 4, "compat"), (96, 4, "incompat"), (100, 4, "ro_compat"), (206, 2, "reserved descriptors")),
    *(
        (224, 4, "inode"),
        (232, 4, "inode"),
        (254, 2, "descriptor size"),
        (260, 4, "meta group"),
        (336, 4, "count high"),
    ),
    *((340, 4, "count high"), (344, 4, "count high"), (372, 1, "log groups"), (588, 4, "backup"), (592, 4, "backup")),
)
_DESCRIPTOR = ((0, 4, "group block"), (4, 4, "group block"), (8, 4, "group block"), (18, 2, "group flags"))
_DESCRIPTOR_HIGH = ((32, 4, "group block high"), (36, 4, "group block high"), (40, 4, "group block high"))
_INODE = (
    *((0, 2, "mode"), (2, 2, "owner"), (4, 4, "size"), (16, 4, "time"), (24, 2, "owner"), (26, 2, "links")),
    *(
        (28, 4, "sectors"),
        (32, 4, "flags"),
        (104, 4, "xattr block"),
        (108, 4, "size high"),
        (118, 2, "xattr block high"),
    ),
    (120, 2, "owner high"),
)


class ExtParts:
    """An image, and what can be spoiled in it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.image = image = ExtImage.open(BytesView(data, "seed"))
        self._list: List[Field] = []
        self.areas: List[Tuple[int, int]] = [(1024, 2048)]
        self._add(1024, _SUPERBLOCK)
        superblock = image.superblock
        descriptors = next(one for one in image.metadata_ranges() if one.kind == "group-descriptors")
        for group in range(superblock.group_count):
            at = descriptors.offset + group * superblock.descriptor_size
            self._add(at, _DESCRIPTOR + (_DESCRIPTOR_HIGH if superblock.descriptor_size > 32 else ()))
            self.areas.append((at, at + superblock.descriptor_size))
        for inodes in image.used_inodes():
            for inode in inodes:
                if inode.number == 2 or inode.number >= superblock.first_inode:
                    self._inode(inode)
        self.fields = Fields(self._list)

    def spoil(self, rng: random.Random) -> Tuple[bytes, str]:
        """A damaged image, and what was done to it."""
        parts: Parts = {IMAGE: bytearray(self.data)}
        done = self.spoil_parts(parts, rng)
        image = parts[IMAGE]
        if rng.random() < 0.05:
            del image[rng.randrange(len(image)) :]
            done += "; cut"
        return bytes(image), done

    def spoil_parts(self, parts: Parts, rng: random.Random) -> str:
        """Spoil a few places; the length stays."""
        done = []
        for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
            choice = rng.randrange(10)
            if choice < 8:
                done.append(self.fields.spoil(parts, rng))
                continue
            start, end = rng.choice(self.areas)
            area = bytearray(parts[IMAGE][start:end])
            done.append(f"from {start}: {spoil_bytes(area, rng)}")
            parts[IMAGE][start:end] = bytes(area)[: end - start].ljust(end - start, b"\0")
        return "; ".join(done)

    def _inode(self, inode: ExtInode) -> None:
        superblock = self.image.superblock
        at, size = self.image.inode_location(inode.number), superblock.inode_size
        self._add(at, _INODE)
        self.areas.append((at, at + size))
        if inode.is_inline:
            if inode.is_directory:
                self._entries(at + 44, at + 100)
        elif inode.flags & EXTENTS_FLAG:
            self._extents(at + 40)
        elif inode.is_file or inode.is_directory or (inode.is_symlink and inode.size >= 60):
            self._add(at + 40, tuple((4 * number, 4, "pointer") for number in range(15)))
        if size > 128:
            extra = struct.unpack_from("<H", self.data, at + 128)[0]
            self._add(at, ((128, 2, "extra size"),))
            if struct.unpack_from("<I", self.data, at + 128 + extra)[0] == 0xEA020000:
                self._add(at + 128 + extra, ((0, 4, "xattr magic"),))
                self._xattrs(at + 132 + extra, at + size)
        for offset, length in self.image.mapping_ranges(inode):
            self.areas.append((offset, offset + length))
            if offset == inode.xattr_block * superblock.block_size:
                self._add(offset, ((0, 4, "xattr magic"), (4, 4, "references"), (8, 4, "xattr blocks")))
                self._xattrs(offset + 32, offset + length)
            elif inode.flags & EXTENTS_FLAG:
                self._extents(offset)
            else:
                used = [n for n in range(length // 4) if any(self.data[offset + 4 * n : offset + 4 * n + 4])]
                self._add(offset, tuple((4 * n, 4, "pointer") for n in {0, *used, length // 4 - 1}))
        if inode.is_directory and not inode.is_inline:
            for piece in self.image.data_ranges(inode):
                if piece.offset is not None:
                    self.areas.append((piece.offset, piece.offset + piece.length))
                    for block in range(piece.offset, piece.offset + piece.length, superblock.block_size):
                        self._entries(block, block + superblock.block_size)

    def _extents(self, at: int) -> None:
        header = ((0, 2, "extent magic"), (2, 2, "extent count"), (4, 2, "extent count"), (6, 2, "extent depth"))
        self._add(at, header)
        _magic, count, _most, depth = struct.unpack_from("<4H", self.data, at)
        leaf = ((0, 4, "logical"), (4, 2, "length"), (6, 2, "physical high"), (8, 4, "physical"))
        inner = ((0, 4, "logical"), (4, 4, "physical"), (8, 2, "physical high"))
        for number in range(count):
            self._add(at + 12 + 12 * number, inner if depth else leaf)

    def _entries(self, at: int, end: int) -> None:
        while at + 8 <= end:
            inode, length, name, _kind = struct.unpack_from("<IHBB", self.data, at)
            self._add(at, ((0, 4, "inode"), (4, 2, "entry size"), (6, 1, "name size"), (7, 1, "type")))
            if inode and name:
                self._add(at, ((8, name, NAME),))
            at += max(length, 8)

    def _xattrs(self, at: int, end: int) -> None:
        while at + 16 <= end and any(self.data[at : at + 4]):
            self._add(at, ((0, 1, "xattr name size"), (1, 1, "xattr kind"), (2, 2, "xattr place"), (4, 4, "inode")))
            self._add(at, ((8, 4, "xattr value size"), (16, self.data[at], "xattr name")))
            at += 16 + -(-self.data[at] // 4) * 4

    def _add(self, at: int, layout: Tuple[Tuple[int, int, str], ...]) -> None:
        self._list += [Field(IMAGE, at + offset, width, role) for offset, width, role in layout]
