"""Extended attributes of erofs: behind the inode, and shared between inodes in an area of their own."""

from __future__ import annotations

import struct
from typing import Dict, List, Mapping, Tuple

from respin.byteview import ByteView
from respin.errors import UnsupportedError
from respin.formats.erofs.inode import ErofsInode
from respin.formats.erofs.superblock import ErofsSuperblock, malformed

_PREFIXES: Mapping[int, str] = {
    1: "user.",
    2: "system.posix_acl_access",
    3: "system.posix_acl_default",
    4: "trusted.",
    6: "security.",
}
_LONG = 0x80
_HEADER, _HEADER_COUNT = 12, 4
_ENTRY = struct.Struct("<BBH")

LongPrefixes = Tuple[str, ...]


def read_xattrs(
    view: ByteView, superblock: ErofsSuperblock, inode: ErofsInode, prefixes: LongPrefixes
) -> Dict[str, bytes]:
    """The attributes of ``inode`` by full name, as getxattr(2) gives them."""
    if not inode.xattr_size:
        return {}
    area = view.read(inode.xattrs, inode.xattr_size)
    shared = area[_HEADER_COUNT]
    at = _HEADER + 4 * shared
    if at > len(area):
        raise malformed(view, f"inode {inode.number} has {shared} shared attributes in {len(area)} bytes")
    found: List[Tuple[str, bytes]] = []
    for (number,) in struct.iter_unpack("<I", area[_HEADER:at]):
        place = superblock.xattrs + 4 * number
        name_length, _, value_length = _ENTRY.unpack(view.read(place, _ENTRY.size))
        found.append(_entry(view, view.read(place, _ENTRY.size + name_length + value_length), 0, prefixes))
    while at + _ENTRY.size <= len(area):
        found.append(_entry(view, area, at, prefixes))
        name_length, _, value_length = _ENTRY.unpack_from(area, at)
        at += -(-(_ENTRY.size + name_length + value_length) // 4) * 4
    result = dict(found)
    if len(result) < len(found):
        raise malformed(view, f"inode {inode.number} has an extended attribute twice")
    return result


def read_prefixes(holder: ByteView, count: int, at: int) -> LongPrefixes:
    """The long prefixes of names from byte ``at`` of ``holder``: each a length, a short prefix's number, more text."""
    found = []
    for _ in range(count):
        at = -(-at // 4) * 4
        length = int.from_bytes(holder.read(at, 2), "little")
        text = holder.read(at + 2, length)
        at += 2 + length
        if not text or length > 256:
            raise malformed(holder, "a prefix of attribute names without a beginning, or too long")
        found.append(_short(holder, text[0]) + _text(text[1:]))
    return tuple(found)


def _entry(view: ByteView, area: bytes, at: int, prefixes: LongPrefixes) -> Tuple[str, bytes]:
    name_length, index, value_length = _ENTRY.unpack_from(area, at)
    start = at + _ENTRY.size
    end = start + name_length + value_length
    if end > len(area):
        raise malformed(view, "an extended attribute leaves its place")
    if index & _LONG:
        number = index & ~_LONG
        if number >= len(prefixes):
            raise malformed(view, f"an extended attribute has the prefix {number} of {len(prefixes)}")
        prefix = prefixes[number]
    else:
        prefix = _short(view, index)
    name = area[start : start + name_length]
    if b"\0" in name:
        raise malformed(view, "the name of an extended attribute holds a NUL")
    return prefix + _text(name), area[start + name_length : end]


def _short(view: ByteView, index: int) -> str:
    if index not in _PREFIXES:
        raise UnsupportedError(
            f"an extended attribute has a name of the unknown kind {index}", where=view.name, finding="erofs-features"
        )
    return _PREFIXES[index]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
