"""The content of a file in an erofs image as random-access bytes, however it is stored."""

from __future__ import annotations

from collections import OrderedDict
from typing import Callable, Tuple

from respin.byteview import ByteView, read_pieces
from respin.errors import UnsupportedError
from respin.formats.erofs.codec import CorruptClusterError, unpack
from respin.formats.erofs.extents import Extent, Extents, Form
from respin.formats.erofs.inode import ErofsInode, Layout
from respin.formats.erofs.superblock import ErofsSuperblock, malformed
from respin.limits import MiB

_HOLE = 0xFFFF_FFFF
_CHUNK_BITS, _CHUNK_INDEXES, _CHUNK_KNOWN = 0x1F, 0x20, 0x3F
CACHE = 4 * MiB


class PlainView:
    """Content that is not compressed: whole blocks somewhere, a tail behind the inode, or chunks."""

    def __init__(self, image: ByteView, superblock: ErofsSuperblock, inode: ErofsInode, name: str) -> None:
        self._image = image
        self._name = name
        self._inode = inode
        self._block = superblock.block_size
        self._chunk = 0
        self._inline = inode.size
        if inode.layout is Layout.CHUNKS:
            if inode.content & 0xFFFF & ~_CHUNK_KNOWN:
                raise UnsupportedError(
                    f"inode {inode.number} has chunks of the unknown format {inode.content & 0xFFFF:#x}",
                    where=image.name,
                    finding="erofs-features",
                )
            self._chunk = self._block << (inode.content & _CHUNK_BITS)
            self._width = 8 if inode.content & _CHUNK_INDEXES else 4
            self._table = -(-inode.behind // self._width) * self._width
            self._check(self._table, -(-inode.size // self._chunk) * self._width)
            return
        if inode.layout is Layout.INLINE:
            self._inline = max(0, inode.size - 1) // self._block * self._block
            tail = inode.size - self._inline
            if inode.behind % self._block + tail > self._block:
                raise malformed(image, f"the tail of inode {inode.number} leaves its block")
            self._check(inode.behind, tail)
        if inode.content != _HOLE:
            self._check(inode.content * self._block, self._inline)

    @property
    def size(self) -> int:
        return self._inode.size

    @property
    def name(self) -> str:
        return self._name

    def read(self, offset: int, length: int) -> bytes:
        return read_pieces(self, offset, length, self._piece)

    def _piece(self, offset: int, length: int) -> bytes:
        place, count = self._locate(offset)
        count = min(count, length)
        return bytes(count) if place is None else self._image.read(place, count)

    def _locate(self, offset: int) -> Tuple["int | None", int]:
        """Where in the image a byte lies, None for a hole, and how many lie there together."""
        inode = self._inode
        if self._chunk:
            number, within = divmod(offset, self._chunk)
            entry = self._image.read(self._table + number * self._width, self._width)
            block = int.from_bytes(entry[-4:], "little")
            if block != _HOLE and entry[2:-4].strip(b"\0"):
                raise malformed(self._image, f"a chunk of inode {inode.number} lies on another device")
            place = None if block == _HOLE else block * self._block + within
            return place, self._chunk - within
        if offset < self._inline:
            place = None if inode.content == _HOLE else inode.content * self._block + offset
            return place, self._inline - offset
        return inode.behind + offset - self._inline, inode.size - offset

    def _check(self, place: int, length: int) -> None:
        if length and place + length > self._image.size:
            raise malformed(self._image, f"the content of inode {self._inode.number} leaves the image")


class CompressedView:
    """Content that is compressed; what was unpacked last is kept. ``packed`` gives the content of the packed inode."""

    def __init__(
        self,
        image: ByteView,
        superblock: ErofsSuperblock,
        inode: ErofsInode,
        name: str,
        packed: Callable[[], ByteView],
        cache_size: int,
    ) -> None:
        self._image = image
        self._superblock = superblock
        self._inode = inode
        self._name = name
        self._packed = packed
        self._extents = Extents(image, superblock, inode) if inode.size else None
        self._cache: "OrderedDict[int, Tuple[Extent, bytes]]" = OrderedDict()
        self._room = cache_size
        self._block = superblock.block_size
        self._last: "Tuple[Extent, bytes] | None" = None

    @property
    def size(self) -> int:
        return self._inode.size

    @property
    def name(self) -> str:
        return self._name

    @property
    def is_fragmented(self) -> bool:
        """Whether a part of it, or all, lies in the packed inode."""
        return self._extents is not None and self._extents.fragmented

    def read(self, offset: int, length: int) -> bytes:
        return read_pieces(self, offset, length, self._piece)

    def _piece(self, offset: int, length: int) -> bytes:
        if self._last is not None:
            extent, content = self._last
            within = offset - extent.start
            if 0 <= within < extent.length:
                return content[within : within + length]
        assert self._extents is not None
        extent = self._extents.find(offset)
        within = offset - extent.start
        if extent.form is Form.FRAGMENT:
            return self._packed().read(extent.place + within, min(length, extent.length - within))
        found = self._cache.get(extent.start)
        if found is None:
            found = self._cache[extent.start] = extent, self._unpack(extent)
            self._room -= extent.length
            while self._room < 0 and len(self._cache) > 1:
                self._room += self._cache.popitem(last=False)[1][0].length
        else:
            self._cache.move_to_end(extent.start)
        self._last = found
        return found[1][within : within + length]

    def _unpack(self, extent: Extent) -> bytes:
        cluster = self._image.read(extent.place, extent.packed)
        if extent.form is Form.STORED:
            return cluster[: extent.length]
        if extent.form is Form.ROTATED:
            turn = extent.start % self._block
            front = cluster[turn : min(turn + extent.length, self._block)]
            content = front + cluster[: extent.length - len(front)]
            if extent.packed > self._block or len(content) < extent.length:
                raise malformed(self._image, f"inode {self._inode.number} rotates {extent.packed} bytes")
            return content
        try:
            return unpack(
                extent.algorithm,
                cluster,
                extent.length,
                partial=extent.partial,
                dictionary=self._superblock.dictionary,
            )
        except CorruptClusterError as error:
            raise malformed(
                self._image, f"the {extent.algorithm} data at byte {extent.place}, of {self._name}: {error}"
            ) from error
