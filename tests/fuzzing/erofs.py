"""The fields of an erofs image, where they lie in it. Its metadata is not compressed; its checksum is switched off."""

from __future__ import annotations

import random
import struct
from typing import List, Tuple

from respin.byteview import BytesView
from respin.formats.erofs import ErofsImage
from respin.formats.erofs.clusters import header_place
from respin.formats.erofs.inode import ErofsInode, Layout
from respin.formats.erofs.superblock import OFFSET
from tests.fuzzing.fields import NAME, Field, Fields, Parts, spoil_bytes

IMAGE = "image"
_CHECKSUM = 1  # among the compatible features
_SUPERBLOCK = (
    *((8, 4, "compatible"), (12, 1, "block bits"), (13, 1, "slots"), (14, 2, "inode"), (16, 8, "inode count")),
    *((24, 8, "time"), (36, 4, "blocks"), (40, 4, "block"), (44, 4, "block"), (80, 4, "features")),
    *((84, 2, "algorithms"), (86, 2, "devices"), (88, 2, "devices"), (90, 1, "directory bits"), (91, 1, "prefixes")),
    *((92, 4, "prefix start"), (96, 8, "inode")),
)
_COMPACT = (
    *((0, 2, "format"), (2, 2, "xattr count"), (4, 2, "mode"), (6, 2, "links"), (8, 4, "size"), (12, 4, "time")),
    *((16, 4, "block"), (24, 2, "owner"), (26, 2, "owner")),
)
_EXTENDED = (
    *((0, 2, "format"), (2, 2, "xattr count"), (4, 2, "mode"), (8, 8, "size"), (16, 4, "block"), (24, 4, "owner")),
    *((28, 4, "owner"), (32, 8, "time"), (40, 4, "time"), (44, 4, "links")),
)


class ErofsParts:
    """An image, and what can be spoiled in it."""

    def __init__(self, data: bytes) -> None:
        plain = bytearray(data)
        plain[OFFSET + 8] &= ~_CHECKSUM
        self.data = bytes(plain)
        self._image = image = ErofsImage.open(BytesView(self.data, "seed"))
        self._list: List[Field] = []
        self._areas: List[Tuple[int, int]] = [(OFFSET, OFFSET + 128)]
        self._add(OFFSET, _SUPERBLOCK)
        for _path, inode in image.walk():
            self._inode(inode)
        self.fields = Fields(self._list)

    def spoil(self, rng: random.Random) -> Tuple[bytes, str]:
        """A damaged image, and what was done to it."""
        parts: Parts = {IMAGE: bytearray(self.data)}
        image, done = parts[IMAGE], []
        for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
            choice = rng.randrange(10)
            if choice < 7:
                done.append(self.fields.spoil(parts, rng))
                continue
            start, end = rng.choice(self._areas) if choice < 9 else (OFFSET, len(image))
            area = bytearray(image[start:end])
            done.append(f"from {start}: {spoil_bytes(area, rng)}")
            image[start:end] = bytes(area)[: end - start].ljust(end - start, b"\0")
        if rng.random() < 0.05:
            del image[rng.randrange(len(image)) :]
            done.append("cut")
        return bytes(image), "; ".join(done)

    def _inode(self, inode: ErofsInode) -> None:
        superblock = self._image.superblock
        at = superblock.meta + 32 * inode.number
        self._add(at, _EXTENDED if self.data[at] & 1 else _COMPACT)
        self._areas.append((at, inode.behind))
        self._xattrs(inode)
        if inode.layout in (Layout.COMPRESSED_COMPACT, Layout.COMPRESSED_FULL):
            clusters = -(-inode.size // superblock.block_size)
            header = header_place(inode)
            self._add(header, ((0, 4, "tail"), (4, 2, "advice"), (6, 1, "algorithm"), (7, 1, "cluster bits")))
            compact = inode.layout is Layout.COMPRESSED_COMPACT
            begin = header + (8 if compact else 16)
            step = 4 if compact else 8
            self._add(begin, tuple((step * n, 4, "cluster") for n in range(clusters)))
            if not compact:
                self._add(begin, tuple((step * n + 4, 4, "cluster block") for n in range(clusters)))
            self._areas.append((header, begin + step * clusters))
        elif inode.layout is Layout.CHUNKS:
            chunk = superblock.block_size << (inode.content & 31)
            width = 8 if inode.content & 32 else 4
            table = -(-inode.behind // width) * width
            count = -(-inode.size // chunk)
            self._add(table, tuple((width * (n + 1) - 4, 4, "chunk") for n in range(count)))
        if inode.is_directory and inode.layout in (Layout.PLAIN, Layout.INLINE):
            self._directory(inode)

    def _directory(self, inode: ErofsInode) -> None:
        size = self._image.superblock.block_size
        whole = (max(0, inode.size - 1) if inode.layout is Layout.INLINE else inode.size) // size * size
        for start in range(0, inode.size, size):
            place = inode.content * size + start if start < whole else inode.behind
            end = min(size, inode.size - start)
            (names,) = struct.unpack_from("<H", self.data, place + 8)
            starts = [struct.unpack_from("<H", self.data, place + at + 8)[0] for at in range(0, names, 12)]
            for number, name in enumerate(starts):
                entry = ((0, 8, "inode"), (8, 2, "name place"), (10, 1, "type"))
                self._add(place + 12 * number, entry)
                last = starts[number + 1] if number + 1 < len(starts) else end
                self._add(place + name, ((0, last - name, NAME),))
            self._areas.append((place, place + end))

    def _xattrs(self, inode: ErofsInode) -> None:
        if not inode.xattr_size:
            return
        at, end = inode.xattrs, inode.behind
        shared = self.data[at + 4]
        self._add(at, ((4, 1, "shared count"), *((12 + 4 * n, 4, "shared") for n in range(shared))))
        at += 12 + 4 * shared
        while at + 4 <= end:
            name, _index, value = struct.unpack_from("<BBH", self.data, at)
            self._add(at, ((0, 1, "xattr name size"), (1, 1, "xattr kind"), (2, 2, "xattr value size")))
            at += -(-(4 + name + value) // 4) * 4

    def _add(self, at: int, layout: Tuple[Tuple[int, int, str], ...]) -> None:
        self._list += [Field(IMAGE, at + offset, width, role) for offset, width, role in layout]
