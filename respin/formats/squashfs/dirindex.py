"""The index of a large directory, by which the kernel begins a look-up in the middle of the listing.

An index entry is a byte of the listing, the metadata block it lies in and the first name there (12 bytes and the name,
behind the extended directory inode). The kernel trusts it (``get_dir_index_using_name``): one that says something else
would make it find another file, or none, under a name that a reader of the whole listing sees.
"""

from __future__ import annotations

import struct
from typing import Dict, Iterator, Tuple

from respin.errors import MalformedError
from respin.formats.squashfs.directory import ENTRY, HEADER, run_headers
from respin.formats.squashfs.inode import Inode, read_inode
from respin.formats.squashfs.metadata import Cursor, Table, split_reference
from respin.formats.squashfs.superblock import METADATA_SIZE

INDEX_ENTRY = struct.Struct("<III")


def check_index(inodes: Table, directories: Table, reference: int, inode: Inode, ids: Tuple[int, ...]) -> None:
    """MalformedError unless every entry of the index is the beginning of a run in the directory's listing.

    ``inode`` was read at ``reference``. Its listing must have been read before.
    """
    listing = inode.listing
    if not inode.index_count or listing is None:
        return
    where = f"{inodes.view.name}, inode {inode.number}"
    content = directories.cursor(listing.block, listing.offset).take(listing.size)
    names: Dict[int, bytes] = {}
    for position, _block in run_headers(content, 0, listing.size, where):
        *_rest, length = ENTRY.unpack_from(content, position + HEADER.size)
        start = position + HEADER.size + ENTRY.size
        names[position] = content[start : start + length + 1]
    blocks = _blocks(directories, listing.block, listing.offset, listing.size)
    cursor = inodes.cursor(*split_reference(reference))
    read_inode(cursor, ids, METADATA_SIZE, inode.number, where)
    for position, block, name in _entries(cursor, inode.index_count, where):
        number, _offset = divmod(listing.offset + position, METADATA_SIZE)
        if names.get(position) != name or blocks.get(number) != block:
            raise MalformedError(
                "impossible squashfs directory: its index does not lead into its listing",
                where=where,
                remedy="the image is damaged or made to deceive; fetch it again and compare its checksum",
            )


def _entries(cursor: Cursor, count: int, where: str) -> Iterator[Tuple[int, int, bytes]]:
    for _ in range(count):
        position, block, length = INDEX_ENTRY.unpack(cursor.take(INDEX_ENTRY.size))
        if length > 255:
            raise MalformedError("a directory index holds a name that is too long", where=where)
        yield position, block, cursor.take(length + 1)


def _blocks(table: Table, block: int, offset: int, size: int) -> Dict[int, int]:
    """Where the blocks of a listing begin in the table, by number. The kernel takes all but the last to be full."""
    found = {}
    number = 0
    left = offset + size
    while left > 0:
        found[number] = block
        content = table.block(block)
        left -= len(content.content)
        if left > 0 and len(content.content) != METADATA_SIZE:
            break
        block = content.end - table.start
        number += 1
    return found
