"""Edits that make descriptors, directory records, system use entries and path tables name the new blocks.

ECMA-119 sections 8.4 and 9.1 to 9.4; SUSP's CE; RRIP's CL and PL. RE names no block.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Iterator, Mapping, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError
from respin.formats.iso9660.blockmap import BlockMap
from respin.formats.iso9660.descriptors import Volume
from respin.formats.iso9660.fields import BLOCK, to_both32
from respin.formats.iso9660.patches import Edit
from respin.formats.iso9660.records import DirectoryRecord
from respin.formats.iso9660.tree import Node, Tree
from respin.limits import LIMITS

_POINTERS = (b"CE", b"CL", b"PL")


@dataclass(frozen=True)
class Moves:
    """The block map, replaced files (first block to new size), and rebuilt directories (old block to new, size)."""

    blocks: BlockMap
    replaced: Mapping[int, int]
    directories: Mapping[int, Tuple[int, int]]

    def directory(self, block: int) -> int:
        """The new block of the directory at ``block``."""
        moved = self.directories.get(block)
        return moved[0] if moved is not None else self.blocks.block(block)

    def extent(self, record: DirectoryRecord) -> Tuple[int, int]:
        """The new first block and data length of a record's extent."""
        if record.is_directory:
            moved = self.directories.get(record.extent)
            return moved if moved is not None else (self.blocks.block(record.extent), record.size)
        if not record.size:
            return self.blocks.approximate(record.extent), 0
        return self.blocks.block(record.extent), self.replaced.get(record.extent, record.size)


def node_edits(node: Node, moves: Moves, where: str) -> Iterator[Edit]:
    """Edits for one directory record and its system use entries."""
    record = node.record
    lba, size = moves.extent(record)
    if lba != record.extent:
        yield Edit(record.offset + 2, to_both32(lba), "directory record: extent")
    if size != record.size:
        yield Edit(record.offset + 10, to_both32(size), "directory record: data length")
    for entry in node.entries:
        if entry.signature in _POINTERS:
            block = entry.block(where)
            new = moves.blocks.block(block) if entry.signature == b"CE" else moves.directory(block)
            if new != block:
                yield Edit(entry.offset + 4, to_both32(new), f"system use entry {entry.signature.decode('ascii')}")


def descriptor_edits(volume: Volume, moves: Moves, space_size: int) -> Iterator[Edit]:
    """Edits for a primary or supplementary descriptor: space size, path tables, root directory record."""
    start = volume.descriptor.lba * BLOCK
    yield Edit(start + 80, to_both32(space_size), "volume descriptor: space size")
    for table in volume.path_tables:
        block = struct.pack(">L" if table.big_endian else "<L", moves.blocks.block(table.lba))
        yield Edit(start + table.field, block, "volume descriptor: path table")
    moved = moves.directories.get(volume.root_extent, (moves.directory(volume.root_extent), volume.root_size))
    yield Edit(start + 158, to_both32(moved[0]) + to_both32(moved[1]), "volume descriptor: root directory")


def path_table_edits(view: ByteView, volume: Volume, tree: Tree, moves: Moves) -> Iterator[Edit]:
    """Edits for the path tables of a descriptor (9.4).

    Raises MalformedError for a table that leaves its bounds or names a directory that the tree doesn't have.
    """
    size = volume.path_table_size
    for table in volume.path_tables:
        where = f"{view.name}, path table at block {table.lba}"
        if size > LIMITS.iso_path_table:
            raise MalformedError(f"a path table of {size} bytes; the limit is {LIMITS.iso_path_table}", where=where)
        data = view.read(table.lba * BLOCK, size)
        order = ">L" if table.big_endian else "<L"
        at = 0
        while at < size:
            length = 8 + data[at] + data[at] % 2
            if not data[at] or at + length > size:
                raise MalformedError(f"the record at byte {at} leaves the path table", where=where)
            block = int(struct.unpack_from(order, data, at + 2)[0])
            if block not in tree.directories:
                raise MalformedError(f"the path table names block {block}, where no directory is", where=where)
            new = moves.directory(block)
            if new != block:
                yield Edit(table.lba * BLOCK + at + 2, struct.pack(order, new), "path table")
            at += length
