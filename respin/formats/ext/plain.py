"""Inodes whose own slot says where all of their content lies, found without an object for each.

Most files of most images lie in one piece, and most links in their inode. For these, a few comparisons on the numbers
in the slot come to what :class:`respin.formats.ext.mapping.BlockMap` and the parser of attributes would find. Whatever
is not so plain, or makes no sense, is left to them.
"""

from __future__ import annotations

import struct
from typing import List, NoReturn, Optional, Set, Tuple

from respin.errors import MalformedError, RespinError
from respin.formats.ext.inode import (
    BASE_SIZE,
    BLOCK_AREA,
    BLOCK_AREA_SIZE,
    EA_INODE_FLAG,
    EXTENTS_FLAG,
    INLINE_DATA_FLAG,
    REFUSED_FLAGS,
)
from respin.formats.ext.superblock import ExtSuperblock
from respin.formats.ext.xattr import parse_in_inode

_FORMAT, _FILE, _LINK = 0xF000, 0x8000, 0xA000  # of i_mode
_SPECIAL = REFUSED_FLAGS | INLINE_DATA_FLAG | EA_INODE_FLAG
_DIRECT = 12
_ZEROS = (0,) * _DIRECT
_NO_EXTENT, _ONE_EXTENT = 0xF30A, 0xF30A | 1 << 16  # eh_magic, eh_entries
_LONGEST_EXTENT = 0x8000
_MOST_EXTENTS = 4  # for which an inode has room
# i_mode, i_size, i_links_count, i_flags, twelve of i_block, i_file_acl, i_size_high, its high half
_SLOT = "<H2xI18xH4xI4x12I16xII4x2xH8x"
_EXTRA = "H26xII"  # i_extra_isize, and what stands behind 28 and behind 32 bytes of further fields
_WITH_EXTRA = 256
_MOST_KNOWN = 4096

# Number, and from which to which byte of the image the content lies; an empty file has none.
PlainInode = Tuple[int, int, int]


class PlainSlots:
    """Tells the plain inodes of one image's inode tables from the others."""

    def __init__(self, superblock: ExtSuperblock) -> None:
        self._size = size = superblock.inode_size
        self._block_size = superblock.block_size
        self._block_count = superblock.block_count
        self._first = superblock.first_inode
        self._has_extra = size >= _WITH_EXTRA
        layout = _SLOT + _EXTRA if self._has_extra else _SLOT
        self._slot = struct.Struct(f"{layout}{size - struct.calcsize(layout)}x")
        self._known: Set[bytes] = set()  # attributes that make sense; a few labels are on all files

    def sort(self, chunk: bytes, number: int, location: int) -> Tuple[List[PlainInode], List[int]]:
        """The plain regular files and symbolic links among the slots in ``chunk``, and where in it the others begin.

        The first slot is that of inode ``number``, at byte ``location`` of the image. Unused ones are left out.
        """
        plain: List[PlainInode] = []
        others: List[int] = []
        size, block_size = self._size, self._block_size
        for index, slot in enumerate(self._slot.iter_unpack(chunk)):
            mode, length, links, flags = slot[:4]
            if not mode:
                continue
            at = index * size
            start: Optional[int] = None
            if flags & _SPECIAL or not links or number + index < self._first:
                pass
            elif mode & _FORMAT == _FILE and not slot[17]:
                blocks = -(-length // block_size)
                first = self._one_extent(slot, blocks) if flags & EXTENTS_FLAG else self._one_piece(slot, blocks)
                start = None if first is None else first * block_size
            elif mode & _FORMAT == _LINK and 0 < length < BLOCK_AREA_SIZE and not flags & EXTENTS_FLAG:
                area = at + BLOCK_AREA
                start = location + area if b"\0" not in chunk[area : area + length] else None
            if start is not None and self._attributes_are_plain(slot, chunk, at):
                plain.append((number + index, start, start + length))
            else:
                others.append(at)
        return plain, others

    def _one_piece(self, slot: Tuple[int, ...], count: int) -> Optional[int]:
        """The first of ``count`` blocks, by direct pointers that name them one after the other; 0 of an empty file."""
        first = slot[4]
        if count > _DIRECT or slot[4 + count : 16] != _ZEROS[count:]:
            return None
        if count and not 0 < first <= self._block_count - count:
            return None
        return first if count < 2 or slot[4 : 4 + count] == tuple(range(first, first + count)) else None

    def _one_extent(self, slot: Tuple[int, ...], count: int) -> Optional[int]:
        """The same by the root of an extent tree, if that is all of it and has one written extent with all blocks."""
        header, depth, logical, length = slot[4], slot[5] >> 16, slot[7], slot[8] & 0xFFFF
        first = slot[9] | slot[8] >> 16 << 32
        if depth or not 0 < slot[5] & 0xFFFF <= _MOST_EXTENTS:
            return None
        if header == _NO_EXTENT and not count:
            return 0
        if header != _ONE_EXTENT or logical:
            return None
        fits = 0 < count <= length <= _LONGEST_EXTENT and 0 < first <= self._block_count - length
        return first if fits else None

    def _attributes_are_plain(self, slot: Tuple[int, ...], chunk: bytes, at: int) -> bool:
        """Whether there are none, or some in the inode that make sense."""
        if slot[16] or slot[18]:
            return False
        if not self._has_extra:
            return True
        extra = slot[19]
        if not extra or (extra == 32 and not slot[21]) or (extra == 28 and not slot[20]):
            return True
        if extra not in (28, 32):
            return False
        area = chunk[at + BASE_SIZE + extra : at + self._size]
        return area in self._known or self._understood(area)

    def _understood(self, area: bytes) -> bool:
        try:
            parse_in_inode(area, _elsewhere, "")
        except RespinError:
            return False
        if len(self._known) < _MOST_KNOWN:
            self._known.add(area)
        return True


def _elsewhere(number: int, size: int) -> NoReturn:
    raise MalformedError(f"a value lies in inode {number}")
