"""Would the kernel show what is read here? It is stricter than a reader of trees, and finds names in another way.

An inode with a wrong checksum cannot be opened, a name that the directory's index does not lead to cannot be found, a
link's target lies where the count of its blocks says. In a file system that somebody else wrote, all of that would take
a file away that every listing has.
"""

from __future__ import annotations

import stat
import struct
from typing import Dict, List, Optional, Sequence

from respin.errors import MalformedError, UnsupportedError
from respin.formats.ext.checksums import Checksums
from respin.formats.ext.directory import parse_directory
from respin.formats.ext.htree import INDEX_FLAG, Index
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import BASE_SIZE, BLOCK_AREA_SIZE, EA_INODE_FLAG, EXTENTS_FLAG, ExtInode
from respin.formats.ext.superblock import OFFSET, SIZE
from respin.formats.ext.xattr import INLINE_DATA, block_order, in_inode_attributes, in_inode_order
from respin.limits import LIMITS

FINDING = "not-as-the-kernel"
# What is noted with a name, by the type bits of st_mode (Linux Documentation/filesystems/ext4/directory.rst).
NOTED_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
_HASH_SEED, _FLAGS = 236, 352
_UNSIGNED_HASH = 2
_TAIL = 8
_STEP = 1 << 20


class Shown:
    """Checks inodes of one image; what is not asked for is not looked at."""

    def __init__(self, image: ExtImage) -> None:
        self._image = image
        self._features = image.superblock.features
        self._checksums = Checksums(image.view, image.superblock)
        raw = image.view.read(OFFSET, SIZE)
        self._seed = struct.unpack_from("<4I", raw, _HASH_SEED)
        self._unsigned = bool(struct.unpack_from("<I", raw, _FLAGS)[0] & _UNSIGNED_HASH)

    def require(self, inode: ExtInode, *, slot: bool = True) -> None:
        """Raise MalformedError unless the kernel would show what this inode, which has a name, is said to be.

        Without ``slot`` its own bytes are not judged: they are known.
        """
        try:
            problem = (self._slot(inode) if slot else None) or self._outside(inode)
        except MalformedError as error:
            raise self._refused(inode.number, error.what) from error
        if problem is None and inode.is_directory and not inode.is_inline:
            problem = self._directory(inode)
        if problem is not None:
            raise self._refused(inode.number, problem)

    def require_type(self, number: int, noted: int) -> None:
        """Raise MalformedError unless the type ``noted`` with a name is that of inode ``number``, to which it leads.

        readdir(3) tells it, and who looks for files passes over what it calls something else.
        """
        kind = stat.S_IFMT(self._image.inode(number).mode)
        if "filetype" in self._features and noted != NOTED_TYPES.get(kind):
            raise self._refused(number, f"a name says that it is of type {noted}")

    def _refused(self, number: int, problem: str) -> MalformedError:
        return MalformedError(
            f"the kernel would not show this as it is read: {problem}",
            where=f"{self._image.view.name}, inode {number}",
            remedy="the image is damaged or made to deceive; do not use it",
            finding=FINDING,
        )

    def _slot(self, inode: ExtInode) -> Optional[str]:
        size = self._image.superblock.inode_size
        raw = self._image.view.read(self._image.inode_location(inode.number), size)
        (extra,) = struct.unpack_from("<H", raw, BASE_SIZE) if size > BASE_SIZE else (0,)
        if extra % 4 or BASE_SIZE + extra > size:
            return f"its fixed fields take {extra} bytes more"
        if not self._checksums.slot(inode, raw):
            return "its checksum is wrong"
        if inode.flags & EA_INODE_FLAG:
            return "it is said to be an attribute's value"
        if inode.flags & EXTENTS_FLAG and "extent" not in self._features:
            return "it has extents, and the file system has none"
        where = f"{self._image.view.name}, inode {inode.number}"
        in_inode_order(inode.extended, where)
        names = [one.name for one in in_inode_attributes(inode.extended, where)]
        if inode.is_inline and ("inline_data" not in self._features or INLINE_DATA not in names):
            return "it is said to have its content in itself"
        if inode.is_inline and inode.is_directory and inode.size != BLOCK_AREA_SIZE + self._inline_rest(inode, where):
            return f"its names take other than {inode.size} bytes"  # the kernel goes by what there is
        return self._target(inode) if inode.is_symlink and not inode.is_inline else None

    @staticmethod
    def _inline_rest(inode: ExtInode, where: str) -> int:
        """How much of inline content lies in an attribute."""
        return sum(one.size for one in in_inode_attributes(inode.extended, where) if one.name == INLINE_DATA)

    def _target(self, inode: ExtInode) -> Optional[str]:
        """Whether the kernel finds the same target of a link; it wants it to end in its inode or its first block."""
        if self._is_fast(inode) != _is_read_as_fast(inode):
            return f"its target of {inode.size} bytes does not lie where its {inode.sectors} sectors say"
        fast = _is_read_as_fast(inode)
        if inode.block_area[inode.size] if fast else inode.size >= self._image.superblock.block_size:
            return f"its target does not end after {inode.size} bytes"
        return None

    def _is_fast(self, inode: ExtInode) -> bool:
        """Whether the kernel takes a link's target from the inode (ext4_inode_is_fast_symlink)."""
        if "ea_inode" in self._features:
            return 0 < inode.size < BLOCK_AREA_SIZE
        attributes = self._image.superblock.block_size // 512 if inode.xattr_block else 0
        return inode.sectors == attributes

    def _outside(self, inode: ExtInode) -> Optional[str]:
        """What describes the inode outside its slot."""
        size, view = self._image.superblock.block_size, self._image.view
        if inode.xattr_block:
            block = view.read(inode.xattr_block * size, size)
            if not self._checksums.attribute_block(inode.xattr_block, block):
                return "the checksum of its attributes is wrong"
            order = block_order(block, f"{view.name}, inode {inode.number}")
            if list(order) != sorted(order):
                return "its attributes are not in the order in which they are looked up"
        if inode.flags & EXTENTS_FLAG and not inode.is_inline and self._checksums.used:
            nodes = [one for one in self._image.mapping_ranges(inode) if one[0] != inode.xattr_block * size]
            if not all(self._checksums.extent_block(inode, view.read(*node)) for node in nodes):
                return "the checksum of its extents is wrong"
        return None

    def _directory(self, inode: ExtInode) -> Optional[str]:
        indexed = bool(inode.flags & INDEX_FLAG) and "dir_index" in self._features
        if not indexed and not self._checksums.used:
            return None
        blocks = self._blocks(inode)
        names: Dict[int, Sequence[bytes]] = {}
        size = self._image.superblock.block_size
        for number, block in enumerate(blocks):
            if block is None:
                continue
            if indexed and (not number or struct.unpack_from("<IH", block) == (0, size & 0xFFFF)):
                continue
            if not self._checksums.directory_block(inode, block):
                return "the checksum of its names is wrong"
            names[number] = list(self._names(inode, block))
        if not indexed:
            return None
        names[0] = list(self._names(inode, blocks[0])) if blocks and blocks[0] is not None else []
        index = Index(
            lambda number: blocks[number] if number < len(blocks) else None,
            lambda block, start: self._checksums.index_block(inode, block, start),
            self._seed,
            unsigned=self._unsigned,
            large="large_dir" in self._features,
            tail=_TAIL if self._checksums.used else 0,
        )
        return index.problem(names)

    def _blocks(self, inode: ExtInode) -> List[Optional[bytes]]:
        if inode.size > LIMITS.ext_directory:
            raise UnsupportedError(
                f"the directory has {inode.size} bytes, more than the limit",
                where=f"{self._image.view.name}, directory inode {inode.number}",
            )
        size = self._image.superblock.block_size
        found: List[Optional[bytes]] = []
        for offset, length in self._image.data_ranges(inode):
            if offset is None:
                found += [None] * (length // size)
                continue
            for at in range(offset, offset + length, _STEP):
                piece = self._image.view.read(at, min(_STEP, offset + length - at))
                found += [piece[start : start + size] for start in range(0, len(piece), size)]
        return found

    def _names(self, inode: ExtInode, block: bytes) -> Sequence[bytes]:
        superblock = self._image.superblock
        entries = parse_directory(
            [block],
            inode_count=superblock.inode_count,
            first_inode=superblock.first_inode,
            has_file_type="filetype" in superblock.features,
            where=f"{self._image.view.name}, directory inode {inode.number}",
        )
        return tuple(entries)


def _is_read_as_fast(inode: ExtInode) -> bool:
    return inode.size < BLOCK_AREA_SIZE and not inode.flags & EXTENTS_FLAG
