"""Rewriting the tables of a small squashfs after its data moved: same content, new offsets.

As long as no inode changes its length, metadata blocks keep their content boundaries; a block whose content did not
change is copied as it is. Only the byte at which a block starts can move, and with it every reference to it. When an
inode is longer, the inode table is packed anew, and references follow the inodes.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from respin.errors import MalformedError, UnsupportedError
from respin.formats.squashfs import lookup
from respin.formats.squashfs.codec import Codec, encode
from respin.formats.squashfs.directory import read_runs
from respin.formats.squashfs.image import SquashfsImage
from respin.formats.squashfs.inode import Inode, Kind, read_block_list, read_inode, skip_index
from respin.formats.squashfs.lookup import Fragments
from respin.formats.squashfs.metadata import BytesCursor, MetadataBlock, split_reference
from respin.formats.squashfs.superblock import ABSENT, METADATA_SIZE, UNCOMPRESSED_INODES
from respin.formats.squashfs.xattr import HEADER_SIZE, read_xattr_table
from respin.limits import LIMITS
from respin.segments import Copy, Data, Segment, total


@dataclass(frozen=True)
class PlacedInode:
    """An inode of the inode table: offset of its bytes and of what follows its fixed part, and its data's range."""

    position: int
    behind: int
    inode: Inode
    data_start: int
    data_end: int
    stored: bool  # whether any block takes space


@dataclass(frozen=True)
class InodeTable:
    """The whole inode table: its blocks, its content and every inode in it."""

    blocks: Tuple[MetadataBlock, ...]
    content: bytes
    inodes: Tuple[PlacedInode, ...]

    def find(self, image: SquashfsImage, number: int) -> PlacedInode:
        """The inode with this number."""
        found = [placed for placed in self.inodes if placed.inode.number == number]
        if len(found) != 1:
            raise MalformedError(f"the squashfs has {len(found)} inodes of number {number}", where=image.view.name)
        return found[0]


def read_inode_table(image: SquashfsImage) -> InodeTable:
    """Parse every inode of a small image. Raises MalformedError unless they fill the table exactly."""
    where = f"{image.view.name}, inode table"
    if not image.is_small:
        raise UnsupportedError("the squashfs is not a nested image", where=image.view.name, finding="flat-squashfs")
    blocks: List[MetadataBlock] = []
    size = 0
    for block in image.inode_table.blocks():
        blocks.append(block)
        size += len(block.content)
        if size > LIMITS.squashfs_table // 8:
            raise UnsupportedError("the inode table is larger than the limit", where=where)
    content = b"".join(block.content for block in blocks)
    cursor = BytesCursor(content, where)
    placed: List[PlacedInode] = []
    data_end = image.superblock.inode_table
    while cursor.position < len(content):
        position = cursor.position
        inode = read_inode(cursor, image.ids, image.block_size, image.superblock.inode_count, where)
        behind = cursor.position
        start = end = 0
        stored = False
        if inode.kind is Kind.FILE:
            data = read_block_list(cursor, inode, image.block_size, data_end, where)
            start, end, stored = data.start, data.end, data.end > data.start
            if stored and start < image.options.data_start:
                raise MalformedError("a file's data starts before the data region", where=where)
        else:
            skip_index(cursor, inode)
        placed.append(PlacedInode(position, behind, inode, start, end, stored))
        if len(placed) > image.superblock.inode_count:
            break
    if len(placed) != image.superblock.inode_count:
        raise MalformedError(
            f"the inode table holds {len(placed)} inodes, the superblock says {image.superblock.inode_count}",
            where=where,
        )
    return InodeTable(tuple(blocks), content, tuple(placed))


Pack = Callable[[int, bytes, bool], bytes]
"""Makes a metadata block that goes to a byte of the new image from its content: compressed, unless that is True."""


class TableWriter:
    """Collects the tables of the new image; ``position`` is the byte where the next one goes.

    ``pack`` makes the blocks of what changed; by default they are compressed as the image's are.
    """

    def __init__(self, image: SquashfsImage, position: int, pack: Optional[Pack] = None) -> None:
        self.segments: List[Segment] = []
        self.position = position
        self._image = image
        self._pack = pack or (lambda _position, content, store: pack_metadata(image.codec, content, store=store))
        self._moved: Dict[int, int] = {}  # inode references: old -> new

    def reference(self, reference: int) -> int:
        """An inode reference as it must be now."""
        moved = self._moved.get(reference)
        if moved is None:
            block, within = split_reference(reference)
            raise MalformedError(
                f"a reference points at byte {within} of the metadata block at byte {block} of the inode table,"
                " where no inode starts",
                where=self._image.view.name,
            )
        return moved

    def inodes(self, table: InodeTable, content: bytes, positions: Optional[Mapping[int, int]] = None) -> int:
        """Write the inode table; returns where it starts.

        The new ``content`` has the length of the old, or ``positions`` says where each inode went: old place in the
        content -> new place.
        """
        start = self.position
        store = bool(self._image.superblock.flags & UNCOMPRESSED_INODES)
        old = [block.offset - self._image.superblock.inode_table for block in table.blocks]
        bounds = new_bounds = [0, *accumulate(len(block.content) for block in table.blocks)]
        if positions is None:
            new = [offset - start for _block, offset in self._blocks(table.blocks, content, store)]
        else:
            new, new_bounds = [], list(range(0, len(content), METADATA_SIZE))
            for at in new_bounds:
                new.append(self.position - start)
                self._add(Data(self._pack(self.position, content[at : at + METADATA_SIZE], store)))
        for placed in table.inodes:
            position = placed.position if positions is None else positions[placed.position]
            self._moved[_reference(placed.position, bounds, old)] = _reference(position, new_bounds, new)
        return start

    def directories(self, table: InodeTable) -> int:
        """Write the directory table; returns where it starts. UnsupportedError when it has several blocks."""
        where = f"{self._image.view.name}, directory table"
        blocks = list(self._image.directory_table.blocks())
        if len(blocks) > 1:
            raise UnsupportedError(
                "the directory table has several metadata blocks: this is not a plain nested image", where=where
            )
        content = b"".join(block.content for block in blocks)
        new = bytearray(content)
        for placed in table.inodes:
            listing = placed.inode.listing
            if listing is None or not listing.size:
                continue
            if listing.block:
                raise MalformedError("a directory lies outside the directory table", where=where)
            for run in read_runs(content, listing.offset, listing.size, where):
                references = [self.reference(run.block << 16 | offset) for _, offset in run.entries]
                blocks_of_run = {reference >> 16 for reference in references}
                if len(blocks_of_run) > 1:
                    raise UnsupportedError(
                        "the inodes of one directory would move apart: this is not a plain nested image", where=where
                    )
                struct.pack_into("<I", new, run.position + 4, blocks_of_run.pop())
                for (position, _), reference in zip(run.entries, references):
                    struct.pack_into("<H", new, position, reference & 0xFFFF)
        start = self.position
        self._blocks(blocks, bytes(new), bool(self._image.superblock.flags & UNCOMPRESSED_INODES))
        return start

    def fragments(self, position: Callable[[int], int], rewritten: Mapping[int, Tuple[int, int]]) -> int:
        """Write the fragment table: blocks at ``position(old)``, or ``rewritten[number]`` (offset, size on disk)."""
        superblock = self._image.superblock
        assert superblock.fragment_table is not None

        def change(number: int, entry: bytes) -> bytes:
            offset, size, unused = struct.unpack("<QII", entry)
            offset, size = rewritten.get(number, (position(offset), size))
            return struct.pack("<QII", offset, size, unused)

        return self._lookup(superblock.fragment_table, superblock.fragment_count, Fragments.ENTRY_SIZE, change)

    def exports(self) -> int:
        """Write the export table: inode references by inode number."""
        superblock = self._image.superblock
        assert superblock.export_table is not None

        def change(_number: int, entry: bytes) -> bytes:
            (reference,) = struct.unpack("<Q", entry)
            return entry if reference == ABSENT else struct.pack("<Q", self.reference(reference))

        return self._lookup(superblock.export_table, superblock.inode_count, 8, change)

    def ids(self) -> int:
        """Copy the id table."""
        superblock = self._image.superblock
        return self._lookup(superblock.id_table, superblock.id_count, 4, lambda _number, entry: entry)

    def xattrs(self) -> int:
        """Copy the xattr table; its references count from its own start."""
        assert self._image.superblock.xattr_table is not None
        table = read_xattr_table(self._image.view, self._image.superblock.xattr_table)
        shift = 0
        if table.count:
            shift = self.position - table.values_start
            self._add(Copy(table.values_start, table.start - table.values_start))
        start = self.position
        header = struct.pack("<QII", table.values_start + shift, table.count, 0)
        self._add(Data(header + struct.pack(f"<{len(table.id_blocks)}Q", *(at + shift for at in table.id_blocks))))
        assert total(self.segments[-1:]) == HEADER_SIZE + 8 * len(table.id_blocks)
        return start

    def _lookup(self, start: int, count: int, entry_size: int, change: Callable[[int, bytes], bytes]) -> int:
        blocks = lookup.blocks(self._image.view, self._image.codec, start, count, entry_size)
        old = b"".join(block.content for block in blocks)
        entries = [change(n, old[n * entry_size : (n + 1) * entry_size]) for n in range(count)]
        offsets = [offset for _block, offset in self._blocks(blocks, b"".join(entries), False)]
        index = self.position
        self._add(Data(struct.pack(f"<{len(offsets)}Q", *offsets)))
        return index

    def _blocks(self, blocks: Sequence[MetadataBlock], content: bytes, store: bool) -> List[Tuple[MetadataBlock, int]]:
        """Write metadata blocks with new content, copying those that did not change; where each one went."""
        written = []
        at = 0
        for block in blocks:
            new = content[at : at + len(block.content)]
            at += len(new)
            written.append((block, self.position))
            if new == block.content:
                self._add(Copy(block.offset, block.stored))
            else:
                self._add(Data(self._pack(self.position, new, store)))
        return written

    def _add(self, segment: Segment) -> None:
        self.segments.append(segment)
        self.position += segment.length


def _reference(position: int, bounds: Sequence[int], starts: Sequence[int]) -> int:
    """What finds the inode at ``position`` of a table's content, whose blocks hold what begins at ``bounds``."""
    number = bisect_right(bounds, position) - 1
    return starts[number] << 16 | position - bounds[number]


def pack_metadata(codec: Codec, content: bytes, *, store: bool = False) -> bytes:
    """A metadata block with its header."""
    data, compressed = encode(codec, content, metadata=True, store=store)
    return struct.pack("<H", len(data) | (0 if compressed else 0x8000)) + data
