"""The inode table with one file's inode longer than before, because the file has more blocks.

The longer inode goes to the table's end: what stays in front of it is small in a nested image, so that the inodes of
one directory remain in one metadata block, as its listing demands.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence

from respin.formats.squashfs.inode import EXTENDED_FILE, FILE, HEADER, NO_XATTR, Kind
from respin.formats.squashfs.lookup import NO_FRAGMENT
from respin.formats.squashfs.tables import InodeTable, PlacedInode

_EXTENDED = 7  # what an extended type's number is above the basic one's


@dataclass(frozen=True)
class Relaid:
    """The new content of an inode table, and where each inode went: old place in the content -> new place.

    Without ``positions`` each is where it was.
    """

    content: bytes
    positions: Optional[Mapping[int, int]]


def longer_inode(
    content: bytes, placed: PlacedInode, size: int, start: int, fields: Sequence[int], more_sparse: int
) -> bytes:
    """The inode at ``placed`` for a file of ``size`` bytes with the blocks ``fields`` from byte ``start`` on.

    It has no tail end. ``more_sparse`` bytes of holes were added; only an extended inode can tell of them.
    """
    _type, permissions, uid, gid, mtime, number = HEADER.unpack_from(content, placed.position)
    inode = placed.inode
    extended = inode.extended or more_sparse > 0 or max(size, start) >= 1 << 32
    header = HEADER.pack(Kind.FILE + (_EXTENDED if extended else 0), permissions, uid, gid, mtime, number)
    if extended:
        sparse = min(max(inode.sparse + more_sparse, 0), size)
        xattr = NO_XATTR if inode.xattr is None else inode.xattr
        fixed = EXTENDED_FILE.pack(start, size, sparse, inode.nlink, NO_FRAGMENT, 0, xattr)
    else:
        fixed = FILE.pack(start, NO_FRAGMENT, 0, size)
    return header + fixed + struct.pack(f"<{len(fields)}I", *fields)


def relay(table: InodeTable, content: bytes, placed: PlacedInode, record: bytes) -> Relaid:
    """The inodes of ``content`` one behind the other, ``record`` in place of ``placed`` and at the end."""
    pieces: List[bytes] = []
    positions: Dict[int, int] = {}
    at = 0
    ends = [other.position for other in table.inodes[1:]] + [len(content)]
    for other, end in zip(table.inodes, ends):
        if other is not placed:
            positions[other.position] = at
            pieces.append(content[other.position : end])
            at += end - other.position
    positions[placed.position] = at
    return Relaid(b"".join([*pieces, record]), positions)
