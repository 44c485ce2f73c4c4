"""Directories of ext2, ext3 and ext4, read linearly: hash-indexed (htree) blocks look like unused entries.

Linux Documentation/filesystems/ext4/directory.rst. ``.`` and ``..`` are left out.
"""

from __future__ import annotations

import struct
from typing import Dict, Iterable, NamedTuple, Tuple

from respin.errors import MalformedError, UnsupportedError

MOST_ENTRIES = 500_000
_DIRECTORY = 2  # the type that is noted with the name of a directory
_SHORTEST = 12  # record that the kernel takes; it leaves the rest of the block out where one is shorter
_ENTRY = struct.Struct("<IHBB")
_DOTS = {b".": 0, b"..": 12}  # where in the first block they stand


class ExtEntry(NamedTuple):
    """A name in a directory (surrogateescape), its inode, and the type noted with it (0: not noted)."""

    name: str
    inode: int
    file_type: int


def parse_directory(
    pieces: Iterable[bytes], *, inode_count: int, first_inode: int, has_file_type: bool, where: str
) -> Dict[bytes, ExtEntry]:
    """The entries by raw name, in the order of the blocks.

    ``pieces`` are whole directory blocks (or the areas of an inline directory). Raises MalformedError for entries that
    leave their block, names with a slash or NUL, names that are there twice, and inodes that can't have a name.
    """
    entries: Dict[bytes, ExtEntry] = {}
    unpack = _ENTRY.unpack_from
    for number, piece in enumerate(pieces):
        at, end = 0, len(piece)
        while at + 8 <= end:
            inode, length, name_length, file_type = unpack(piece, at)
            if length in (0, 0xFFFF) and end == 0x10000:
                length = 0x10000
            if not has_file_type:
                name_length |= file_type << 8
                file_type = 0
            if length < _SHORTEST or length & 3 or at + length > end or 8 + name_length > length:
                raise _bad(where, f"an entry of {length} bytes with a name of {name_length}")
            if inode:
                name = piece[at + 8 : at + 8 + name_length]
                if name in _DOTS:
                    if number or at != _DOTS[name]:
                        raise _bad(where, f"the name {name!r} a second time")
                else:
                    if not first_inode <= inode <= inode_count:
                        raise _bad(where, f"the name {name!r} belongs to inode {inode} of {inode_count}")
                    if not name or len(name) > 255 or b"/" in name or b"\0" in name or name in entries:
                        raise _bad(where, f"the name {name!r}")
                    if len(entries) >= MOST_ENTRIES:
                        raise UnsupportedError(f"the directory has more than {MOST_ENTRIES} names", where=where)
                    entries[name] = ExtEntry(name.decode("utf-8", "surrogateescape"), inode, file_type)
            at += length
        if at != end:
            raise _bad(where, "entries don't fill their block")
    return entries


def parse_dots(block: bytes, where: str, *, has_file_type: bool) -> Tuple[int, int]:
    """The inode numbers of ``.`` and ``..`` in the first ``block`` of a directory; MalformedError if it lacks them."""
    if len(block) >= 24:
        (itself, length, *mine), (above, _, *other) = (_ENTRY.unpack_from(block, at) for at in (0, 12))
        kind = _DIRECTORY if has_file_type else 0  # the upper half of the length, then
        if length == 12 and (mine, other) == ([1, kind], [2, kind]) and (block[8:9], block[20:22]) == (b".", b".."):
            return itself, above
    raise _bad(where, "it does not begin with itself and the directory above")


def inline_areas(block_area: bytes, rest: bytes, size: int) -> Tuple[bytes, ...]:
    """The areas of an inline directory: behind the parent's number in i_block, and the ``system.data`` attribute."""
    areas = [block_area[4:60]]
    if size > 60:
        areas.append(rest[: size - 60])
    return tuple(areas)


def _bad(where: str, what: str) -> MalformedError:
    return MalformedError(
        f"impossible ext directory: {what}",
        where=where,
        remedy="the image is damaged; fetch it again and compare its checksum",
    )
