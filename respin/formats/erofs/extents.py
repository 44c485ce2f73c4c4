"""The extents of a compressed erofs file: which bytes of it are unpacked together, and from where in the image."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Optional, Tuple

from respin.byteview import ByteView
from respin.errors import UnsupportedError
from respin.formats.erofs import clusters
from respin.formats.erofs.clusters import Cluster, ClusterIndex, ClusterType
from respin.formats.erofs.inode import ErofsInode, Layout
from respin.formats.erofs.superblock import ALGORITHMS, ErofsSuperblock, malformed
from respin.limits import MiB

MOST_UNPACKED = 12 * MiB  # what the kernel takes in one extent
_MOST_PACKED = MiB
_WHOLE_IN_FRAGMENT = 1 << 63  # in the header: the rest of it is the place in the packed inode


class Form(Enum):
    """How the bytes of an extent are stored."""

    COMPRESSED = "compressed"
    STORED = "stored"
    ROTATED = "rotated"  # as they are, but each byte at its place in a block of the file, so that the end comes first
    FRAGMENT = "fragment"


class Extent(NamedTuple):
    """``length`` bytes from ``start`` of the file. They lie in ``packed`` bytes from ``place`` of the image, or, of a
    fragment, at ``place`` of the packed inode's content. ``partial``: the data unpacks to more.
    """

    start: int
    length: int
    form: Form
    place: int
    packed: int = 0
    algorithm: str = ""
    partial: bool = False


class Extents:
    """Finds the extents of one file. ``fragmented``: one of them is a fragment."""

    def __init__(self, view: ByteView, superblock: ErofsSuperblock, inode: ErofsInode) -> None:
        self._view = view
        self._superblock = superblock
        self._inode = inode
        self._block = superblock.block_size
        self._most_clusters = MOST_UNPACKED // self._block + 1
        raw = view.read(clusters.header_place(inode), clusters.HEADER.size)
        number = int.from_bytes(raw, "little")
        self._whole: Optional[Extent] = None
        if number & _WHOLE_IN_FRAGMENT:
            self._whole = Extent(0, inode.size, Form.FRAGMENT, number ^ _WHOLE_IN_FRAGMENT)
            self.fragmented = True
            return
        self._tail, self._advice, algorithms, cluster_bits = clusters.HEADER.unpack(raw)
        self.fragmented = bool(self._advice & clusters.FRAGMENT)
        self._check_settings(cluster_bits)
        self._algorithms = (algorithms & 15, algorithms >> 4)
        self._index = ClusterIndex(view, inode, self._block, self._advice)
        last = self._index.count - 1
        # Where the last extent begins: its data may be in the packed inode, or behind the index.
        special = self._advice & clusters.FRAGMENT or (self._advice & clusters.INLINE_TAIL and self._tail >> 16)
        self._last_head = self._head_of(inode.size - 1)[0] if special else last + 1

    def find(self, offset: int) -> Extent:
        """The extent that holds byte ``offset``, which must be inside the file."""
        if self._whole is not None:
            return self._whole
        number, head = self._head_of(offset)
        start = number * self._block + head.start
        length = self._end(number) - start
        if not start <= offset < start + length <= start + MOST_UNPACKED:
            raise self._bad(f"an extent of {length} bytes at {start} for byte {offset}")
        if number == self._last_head:
            if self._advice & clusters.FRAGMENT:
                high = head.block << 32 if self._inode.layout is Layout.COMPRESSED_FULL else 0
                return Extent(start, length, Form.FRAGMENT, self._tail | high)
            place, packed = self._index.behind(self._index.count - 1), self._tail >> 16
            if place % self._block + packed > self._block:
                raise self._bad("its tail leaves its block")
        else:
            place, packed = head.block * self._block, self._packed_blocks(number, head) * self._block
        if packed > _MOST_PACKED:
            raise self._bad(f"{packed} bytes for one extent")
        form, algorithm = self._form(head)
        if form is not Form.COMPRESSED and length > packed:
            raise self._bad(f"{length} bytes are stored in {packed}")
        return Extent(start, length, form, place, packed, algorithm, head.partial)

    def _check_settings(self, cluster_bits: int) -> None:
        unknown = self._inode.layout is Layout.COMPRESSED_FULL and self._advice & clusters.COMPACTED_PACKS
        if cluster_bits or unknown or self._advice >> 6:
            raise UnsupportedError(
                f"inode {self._inode.number} has an index with the settings {self._advice:#x}, {cluster_bits:#x}",
                where=self._view.name,
                finding="erofs-features",
            )
        big = self._advice & (clusters.BIG_1 | clusters.BIG_2)
        if self._inode.layout is Layout.COMPRESSED_COMPACT and big not in (0, clusters.BIG_1 | clusters.BIG_2):
            raise self._bad("large clusters of one kind only")

    def _head_of(self, offset: int) -> Tuple[int, Cluster]:
        """Number and head cluster of the extent that holds a byte."""
        number, within = divmod(offset, self._block)
        cluster = self._cluster(number)
        if cluster.is_head and within >= cluster.start:
            return number, cluster
        back = 1 if cluster.is_head else cluster.back
        for _ in range(self._most_clusters):
            if not 0 < back <= number:
                break
            number -= back
            cluster = self._cluster(number)
            if cluster.is_head:
                return number, cluster
            back = cluster.back
        raise self._bad(f"byte {offset} has no head")

    def _end(self, number: int) -> int:
        """Where the extent ends whose head is cluster ``number``: at the next head, or at the end of the file."""
        for following in range(number + 1, min(number + 1 + self._most_clusters, self._index.count)):
            cluster = self._cluster(following)
            if cluster.is_head:
                return following * self._block + cluster.start
        if number + self._most_clusters < self._index.count:
            raise self._bad("an extent without an end")
        return self._inode.size

    def _packed_blocks(self, number: int, head: Cluster) -> int:
        big = clusters.BIG_1 if head.type is ClusterType.HEAD_1 else clusters.BIG_2
        if not self._advice & big or number + 1 >= self._index.count:
            return 1
        following = self._cluster(number + 1)
        if following.is_head:
            return 1
        if not following.blocks:
            raise self._bad(f"it is not said how many blocks the extent of cluster {number} has")
        return following.blocks

    def _form(self, head: Cluster) -> Tuple[Form, str]:
        if head.type is ClusterType.STORED:
            return Form.ROTATED if self._advice & clusters.INTERLACED else Form.STORED, ""
        number = self._algorithms[head.type is ClusterType.HEAD_2]
        if number >= len(ALGORITHMS) or ALGORITHMS[number] not in self._superblock.algorithms:
            raise UnsupportedError(
                f"inode {self._inode.number} is compressed with algorithm {number}, which the image does not announce",
                where=self._view.name,
                remedy="images without zero padding (made before Linux 5.4) are not supported",
                finding="erofs-features",
            )
        return Form.COMPRESSED, ALGORITHMS[number]

    def _cluster(self, number: int) -> Cluster:
        cluster = self._index[number]
        if cluster.is_head and cluster.start >= self._block:
            raise self._bad(f"cluster {number} begins at its byte {cluster.start}")
        return cluster

    def _bad(self, what: str) -> Exception:
        return malformed(self._view, f"the index of inode {self._inode.number}: {what}")
