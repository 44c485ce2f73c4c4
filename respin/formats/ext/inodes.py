"""The inodes of an ext image and everything that hangs on one: content, link target, extended attributes, places."""

from __future__ import annotations

from collections import OrderedDict
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from respin.byteview import ByteView, is_zero
from respin.errors import MalformedError, UnsupportedError
from respin.formats.ext.content import DataRange, ExtFileView, data_ranges
from respin.formats.ext.groups import Groups
from respin.formats.ext.inode import (
    BLOCK_AREA,
    BLOCK_AREA_SIZE,
    EA_INODE_FLAG,
    EXTENTS_FLAG,
    REFUSED_FLAGS,
    ExtInode,
    Slot,
    parse_inode,
    parse_slot,
)
from respin.formats.ext.mapping import BlockMap, Run, one_piece
from respin.formats.ext.plain import PlainInode, PlainSlots
from respin.formats.ext.superblock import ExtSuperblock
from respin.formats.ext.xattr import INLINE_DATA, in_inode_attributes, parse_block, parse_in_inode
from respin.limits import LIMITS, KiB

_CHUNK = 32 * KiB  # of inode tables, read at once
_CACHED_CHUNKS = 256
_MOST_TARGET = 4096


class Inodes:
    """Reads inodes by number."""

    def __init__(self, view: ByteView, superblock: ExtSuperblock) -> None:
        self.view = view
        self.superblock = superblock
        self.groups = Groups(view, superblock)
        self._chunks: "OrderedDict[int, bytes]" = OrderedDict()
        self._tables: Dict[int, int] = {}  # group -> byte where its inode table begins
        self._large_directories = "large_dir" in superblock.features
        self._huge_files = "huge_file" in superblock.features

    def location(self, number: int) -> int:
        """The byte in the image where inode ``number`` lies; it has ``superblock.inode_size`` bytes."""
        if not 1 <= number <= self.superblock.inode_count:
            raise self._bad(number, f"there are only {self.superblock.inode_count}")
        group, index = divmod(number - 1, self.superblock.inodes_per_group)
        table = self._tables.get(group)
        if table is None:
            table = self._tables[group] = self.groups[group].inode_table * self.superblock.block_size
        return table + index * self.superblock.inode_size

    def read(self, number: int) -> ExtInode:
        """Inode ``number``. Raises MalformedError for a deleted one, UnsupportedError for encrypted and such."""
        chunk, at = self._chunk(number)
        inode = self._parse(chunk, at, number)
        if inode.flags & REFUSED_FLAGS:
            raise UnsupportedError(
                f"inode {number} is encrypted, case-folded or fs-verity protected (flags {inode.flags:#x})",
                where=self.view.name,
                finding="ext-features",
            )
        return inode

    def slot(self, number: int) -> Slot:
        """What the slot of inode ``number`` says of whether it is in use."""
        chunk, at = self._chunk(number)
        return parse_slot(chunk, at)

    def _chunk(self, number: int) -> Tuple[bytes, int]:
        """A piece of an inode table with inode ``number``, and where in it that lies."""
        offset = self.location(number)
        start = offset - offset % _CHUNK  # inodes and chunks are powers of two, so none straddles a boundary
        chunk = self._chunks.get(start)
        if chunk is None:
            chunk = self.view.read(start, min(_CHUNK, self.view.size - start))
            self._chunks[start] = chunk
            if len(self._chunks) > _CACHED_CHUNKS:
                self._chunks.popitem(last=False)
        else:
            self._chunks.move_to_end(start)
        return chunk, offset - start

    def in_use(self, first_group: int) -> Iterator[int]:
        """The numbers of all inodes from a group on whose link count is not 0, whatever else stands there."""
        size = self.superblock.inode_size
        for number, _location, chunk in self._pieces(first_group):
            yield from (number + at // size for at in range(0, len(chunk), size) if parse_slot(chunk, at).links)

    def used(self) -> Iterator[List[ExtInode]]:
        """All inodes in use, a piece of an inode table at a time; those that :meth:`read` would refuse are left out."""
        size = self.superblock.inode_size
        for number, _location, chunk in self._pieces():
            places = (at for at in range(0, len(chunk), size) if chunk[at] or chunk[at + 1])  # i_mode
            yield self._parse_all(chunk, number, places)

    def sorted(self) -> Iterator[Tuple[List[PlainInode], List[ExtInode]]]:
        """The same, with the plain ones told from the others."""
        slots = PlainSlots(self.superblock)
        for number, location, chunk in self._pieces():
            plain, places = slots.sort(chunk, number, location)
            yield plain, self._parse_all(chunk, number, places)

    def _pieces(self, first_group: int = 0) -> Iterator[Tuple[int, int, bytes]]:
        """The inode tables a piece at a time, but for empty ones: number of the first inode, byte in the image."""
        size, per_group = self.superblock.inode_size, self.superblock.inodes_per_group
        for group in range(first_group, self.superblock.group_count):
            first = group * per_group + 1
            table = self.location(first)
            for start in range(0, per_group * size, _CHUNK):
                chunk = self.view.read(table + start, min(_CHUNK, per_group * size - start))
                if not is_zero(chunk):
                    yield first + start // size, table + start, chunk

    def _parse_all(self, chunk: bytes, number: int, places: Iterable[int]) -> List[ExtInode]:
        inodes = (self._parse(chunk, at, number + at // self.superblock.inode_size) for at in places)
        return [inode for inode in inodes if inode.nlink and not inode.flags & REFUSED_FLAGS]

    def data_ranges(self, inode: ExtInode) -> List[DataRange]:
        """Where the content lies, in order; the lengths add up to the inode's size.

        For inline files and short symbolic links that is in the inode itself.
        """
        return self.places(inode)[0]

    def places(self, inode: ExtInode) -> Tuple[List[DataRange], List[Tuple[int, int]]]:
        """Where the content lies, and (byte offset, length) of the blocks that say so and of the attribute block."""
        size = self.superblock.block_size
        described = [(inode.xattr_block * size, size)] if inode.xattr_block else []
        if inode.is_inline:
            return self._inline_ranges(inode), described
        if _is_fast(inode):
            return [DataRange(self.location(inode.number) + BLOCK_AREA, inode.size)], described
        first = one_piece(inode, self.superblock)
        if first is not None:
            return [DataRange(first * size, inode.size)], described
        block_map = BlockMap(self.view, self.superblock, inode)
        ranges = data_ranges(block_map.runs(), inode.size, size)
        return ranges, described + [(block * size, size) for block in block_map.visited]

    def map_blocks(self, inode: ExtInode) -> List[int]:
        """The byte offsets of the first blocks that :meth:`places` will read for the block map."""
        if inode.is_inline or _is_fast(inode) or one_piece(inode, self.superblock) is not None:
            return []
        return [
            block * self.superblock.block_size
            for block in BlockMap(self.view, self.superblock, inode).roots()
            if 0 < block < self.superblock.block_count
        ]

    def file_view(self, inode: ExtInode, name: Optional[str] = None) -> ExtFileView:
        """Random access to the content of a regular file, directory or symbolic link."""
        if not (inode.is_file or inode.is_directory or inode.is_symlink):
            raise UnsupportedError(f"inode {inode.number} has no content", where=self.view.name)
        return ExtFileView(self.view, name or f"{self.view.name}, inode {inode.number}", self.data_ranges(inode))

    def read_content(self, inode: ExtInode, limit: int = LIMITS.small_file) -> bytes:
        """The whole content if that is at most ``limit`` bytes, else UnsupportedError."""
        if inode.size > limit:
            raise UnsupportedError(
                f"it has {inode.size} bytes, more than the limit of {limit}",
                where=f"{self.view.name}, inode {inode.number}",
            )
        return self.file_view(inode).read(0, inode.size)

    def link_target(self, inode: ExtInode) -> bytes:
        """What a symbolic link points at."""
        if not inode.is_symlink:
            raise UnsupportedError(f"inode {inode.number} is not a symbolic link", where=self.view.name)
        if not 0 < inode.size <= _MOST_TARGET:
            raise self._bad(inode.number, f"its link target has {inode.size} bytes")
        target = self.file_view(inode).read(0, inode.size)
        if b"\0" in target:
            raise self._bad(inode.number, "its link target holds a NUL")
        return target

    def xattrs(self, inode: ExtInode) -> Mapping[str, bytes]:
        """The extended attributes by full name; POSIX ACLs in the format of getxattr(2)."""
        if not inode.xattr_block and not inode.extended[:4].strip(b"\0"):
            return {}
        where = f"{self.view.name}, inode {inode.number}"
        found = parse_in_inode(inode.extended, self._read_value, where)
        if inode.xattr_block:
            if inode.xattr_block >= self.superblock.block_count:
                raise self._bad(inode.number, f"its attribute block is {inode.xattr_block}")
            size = self.superblock.block_size
            more = parse_block(self.view.read(inode.xattr_block * size, size), self._read_value, where)
            if not found.keys().isdisjoint(more):
                raise self._bad(inode.number, "an extended attribute is there twice")
            found.update(more)
        found.pop(INLINE_DATA, None)
        return found

    def mapping_ranges(self, inode: ExtInode) -> List[Tuple[int, int]]:
        """(byte offset, length) of what describes the inode outside its slot: block map nodes, attribute block."""
        size = self.superblock.block_size
        blocks: List[int] = []
        if not inode.is_inline and not _is_fast(inode) and (inode.is_file or inode.is_directory or inode.is_symlink):
            blocks += BlockMap(self.view, self.superblock, inode).nodes()
        if inode.xattr_block:
            blocks.append(inode.xattr_block)
        return [(block * size, size) for block in sorted(blocks)]

    def allocation(self, inode: ExtInode) -> Tuple[List[Run], List[int]]:
        """The runs of blocks that content takes, unwritten or beyond the end, too, and the blocks of the map."""
        if inode.is_inline or _is_fast(inode) or not (inode.is_file or inode.is_directory or inode.is_symlink):
            return [], []
        block_map = BlockMap(self.view, self.superblock, inode)
        return list(block_map.allocated()), block_map.visited

    def _parse(self, chunk: bytes, at: int, number: int) -> ExtInode:
        return parse_inode(
            chunk[at : at + self.superblock.inode_size],
            number,
            block_size=self.superblock.block_size,
            large_directories=self._large_directories,
            huge_files=self._huge_files,
        )

    def _inline_ranges(self, inode: ExtInode) -> List[DataRange]:
        location = self.location(inode.number)
        head = min(inode.size, BLOCK_AREA_SIZE)
        ranges = [DataRange(location + BLOCK_AREA, head)] if head else []
        rest = inode.size - head
        if rest:
            where = f"{self.view.name}, inode {inode.number}"
            for name, value_inode, offset, size in in_inode_attributes(inode.extended, where):
                if name == INLINE_DATA and not value_inode and size >= rest:
                    area = location + self.superblock.inode_size - len(inode.extended)
                    return [*ranges, DataRange(area + offset, rest)]
            raise self._bad(inode.number, "its inline content is incomplete")
        return ranges

    def _read_value(self, number: int, size: int) -> bytes:
        inode = self.read(number)
        if not inode.flags & EA_INODE_FLAG or inode.size != size or not inode.is_file:
            raise self._bad(number, "an extended attribute's value is said to be in it")
        return self.file_view(inode).read(0, size)

    def _bad(self, number: int, what: str) -> MalformedError:
        return MalformedError(
            f"impossible ext inode: {what}",
            where=f"{self.view.name}, inode {number}",
            remedy="the image is damaged; fetch it again and compare its checksum",
        )


def _is_fast(inode: ExtInode) -> bool:
    """Whether it is a symbolic link whose target lies in the inode."""
    return inode.is_symlink and inode.size < BLOCK_AREA_SIZE and not inode.flags & EXTENTS_FLAG
