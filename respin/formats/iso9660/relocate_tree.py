"""Edits that make descriptors, directory records, system use entries and path tables name the new blocks.

ECMA-119 sections 8.4 and 9.1 to 9.4; SUSP's CE; RRIP's CL and PL. RE names no block.
"""

from __future__ import annotations

import struct
from typing import Iterator, Mapping, NamedTuple, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.iso9660.blockmap import BlockMap
from respin.formats.iso9660.descriptors import Volume
from respin.formats.iso9660.fields import BLOCK, to_both32
from respin.formats.iso9660.patches import Edit
from respin.formats.iso9660.records import DirectoryRecord
from respin.formats.iso9660.tree import Node, Tree
from respin.limits import LIMITS

_POINTERS = (b"CE", b"CL", b"PL")
MAX_BLOCKS = 0xFFFFFFFF
"""In a volume (8.4.8)."""


class Moves(NamedTuple):
    """The block map, replaced files (first block to new size), and rebuilt directories (old block to new, size).

    Block numbers count from the start of the image.
    """

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


def node_edits(node: Node, moves: Moves, base: int, where: str) -> Iterator[Edit]:
    """Edits for one directory record and its system use entries, in a volume that begins at block ``base``.

    Only for numbers that change.
    """
    record = node.record
    lba, size = moves.extent(record)
    if lba != record.extent:
        yield Edit(record.offset + 2, to_both32(lba - base), "directory record: extent")
    if size != record.size:
        yield Edit(record.offset + 10, to_both32(size), "directory record: data length")
    if node.entries:
        yield from entry_edits(node, moves, base, where)


def entry_edits(node: Node, moves: Moves, base: int, where: str) -> Iterator[Edit]:
    """Edits for the system use entries of a record that name blocks which move."""
    for entry in node.entries:
        if entry.signature in _POINTERS:
            block = entry.block(where) + base
            new = moves.blocks.block(block) if entry.signature == b"CE" else moves.directory(block)
            if new != block:
                what = f"system use entry {entry.signature.decode('ascii')}"
                yield Edit(entry.offset + 4, to_both32(new - base), what)


def descriptor_edits(volume: Volume, moves: Moves) -> Iterator[Edit]:
    """Edits for a primary or supplementary descriptor: space size, path tables, root directory record.

    Every space size grows by what the image grows by. Where it counts from and what it covers differs: xorriso lets
    some descriptors cover what is appended, and copies count from their session's start.
    """
    start, base = volume.descriptor.lba * BLOCK, volume.base
    space_size = volume.space_size + moves.blocks.total
    if not 0 <= space_size <= MAX_BLOCKS:
        raise UnsupportedError(
            f"the volume descriptor at block {volume.descriptor.lba} says that its volume has {volume.space_size}"
            f" blocks, and the image is to grow by {moves.blocks.total}",
            finding="unsupported-layout",
        )
    yield Edit(start + 80, to_both32(space_size), "volume descriptor: space size")
    for table in volume.path_tables:
        block = struct.pack(">L" if table.big_endian else "<L", moves.blocks.block(table.lba) - base)
        yield Edit(start + table.field, block, "volume descriptor: path table")
    moved = moves.directories.get(volume.root_extent, (moves.directory(volume.root_extent), volume.root_size))
    yield Edit(start + 158, to_both32(moved[0] - base) + to_both32(moved[1]), "volume descriptor: root directory")


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
            block = int(struct.unpack_from(order, data, at + 2)[0]) + volume.base
            if block not in tree.directories:
                raise MalformedError(f"the path table names block {block}, where no directory is", where=where)
            new = moves.directory(block)
            if new != block:
                yield Edit(table.lba * BLOCK + at + 2, struct.pack(order, new - volume.base), "path table")
            at += length
