"""Extended attributes of ext2, ext3 and ext4: in the inode behind its fixed fields, and in one block.

Linux Documentation/filesystems/ext4/attributes.rst. POSIX ACLs are given in the format of getxattr(2), not in the
shorter one on disk.
"""

from __future__ import annotations

import struct
from typing import Callable, Dict, Iterable, Iterator, NamedTuple, Sequence, Tuple

from respin.errors import MalformedError, UnsupportedError
from respin.limits import KiB

MAGIC = 0xEA020000
INLINE_DATA = "system.data"  # the rest of inline content; not an attribute anybody set

_PREFIXES = {
    0: "",
    1: "user.",
    2: "system.posix_acl_access",
    3: "system.posix_acl_default",
    4: "trusted.",
    6: "security.",
    7: "system.",
    8: "system.richacl",
}
_ENTRY = struct.Struct("<BBHIII")
_BLOCK_HEADER = 32
_MOST_VALUE = 64 * KiB
_ACL_NAMES = ("system.posix_acl_access", "system.posix_acl_default")
_NAMED = (1, 4, 6)  # user, trusted, security
_INLINE = (7, b"data")
_ACL_USER, _ACL_GROUP = 2, 8

ValueReader = Callable[[int, int], bytes]
"""Reads a value of some size from an inode of its own (feature ea_inode)."""


def parse_in_inode(area: bytes, read_value: ValueReader, where: str) -> Dict[str, bytes]:
    """The attributes in what follows an inode's fixed fields."""
    return _parse(area, in_inode_attributes(area, where), read_value, where)


def parse_block(block: bytes, read_value: ValueReader, where: str) -> Dict[str, bytes]:
    """The attributes in an attribute block."""
    magic, _references, blocks = struct.unpack_from("<III", block)
    if magic != MAGIC or blocks != 1:
        raise _bad(where, "the attribute block is damaged")
    return _parse(block, _attributes(block, _BLOCK_HEADER, 0, where), read_value, where)


def block_order(block: bytes, where: str) -> Sequence[Tuple[int, int, bytes]]:
    """By what the kernel looks the attributes of a block up, in the order in which they stand: index, length, name."""
    return _order(block, _BLOCK_HEADER, 0, where)


def in_inode_order(area: bytes, where: str) -> Sequence[Tuple[int, int, bytes]]:
    """The same for those in an inode, whose order does not matter. Both raise MalformedError for what the kernel
    refuses or does not find: values among entries, entries without an end, a name that it would spell differently."""
    used = len(area) >= 4 and struct.unpack_from("<I", area)[0] == MAGIC
    return _order(area, 4, 4, where) if used else ()


def _order(area: bytes, at: int, values: int, where: str) -> Sequence[Tuple[int, int, bytes]]:
    found = []
    attributes = list(_attributes(area, at, values, where))
    for _ in attributes:
        length, index = area[at], area[at + 1]
        name = area[at + _ENTRY.size : at + _ENTRY.size + length]
        if b"\0" in name or not _is_found(index, name):
            raise _bad(where, f"the name {name!r} of kind {index}")
        found.append((index, length, name))
        at += _ENTRY.size + -(-length // 4) * 4
    if at + 4 > len(area):
        raise _bad(where, "its entries have no end")
    for one in attributes:
        if one.size and not one.inode and one.offset < at + 4:
            raise _bad(where, "a value lies among the entries")
        if not one.inode and one.offset + -(-one.size // 4) * 4 > len(area):  # the kernel counts in steps of four
            raise _bad(where, "a value leaves its area")
    return found


def _is_found(index: int, name: bytes) -> bool:
    """Whether the kernel looks for an attribute under that index and name; one attribute can be spelled in several
    ways, of which it knows one.
    """
    if _PREFIXES[index] in _ACL_NAMES:
        return not name
    return bool(name) if index in _NAMED else (index, name) == _INLINE


class Attribute(NamedTuple):
    """Where the value of an attribute lies: ``offset`` in its area, or in ``inode`` if that isn't 0."""

    name: str
    inode: int
    offset: int
    size: int


def in_inode_attributes(area: bytes, where: str) -> Iterator[Attribute]:
    """The attributes in what follows an inode's fixed fields, as they lie there."""
    if len(area) >= 8 and struct.unpack_from("<I", area)[0] == MAGIC:
        yield from _attributes(area, 4, 4, where)


def _parse(area: bytes, attributes: Iterable[Attribute], read_value: ValueReader, where: str) -> Dict[str, bytes]:
    found: Dict[str, bytes] = {}
    for name, inode, offset, size in attributes:
        if name in found:
            raise _bad(where, f"the attribute {name!r} is there twice")
        value = read_value(inode, size) if inode else area[offset : offset + size]
        found[name] = acl_to_xattr(value, where) if name in _ACL_NAMES else value
    return found


def _attributes(area: bytes, at: int, values: int, where: str) -> Iterator[Attribute]:
    while at + 4 <= len(area) and area[at : at + 4] != b"\0\0\0\0":
        if at + _ENTRY.size > len(area):
            raise _bad(where, "an entry leaves its area")
        name_length, index, offset, inode, size, _hash = _ENTRY.unpack_from(area, at)
        at += _ENTRY.size
        suffix = area[at : at + name_length]
        at += -(-name_length // 4) * 4
        prefix = _PREFIXES.get(index)
        if prefix is None:
            raise UnsupportedError(f"extended attributes with name index {index} are unknown", where=where)
        if size > _MOST_VALUE or len(suffix) != name_length:
            raise _bad(where, f"an attribute of {size} bytes")
        if size and not inode and values + offset + size > len(area):
            raise _bad(where, "a value leaves its area")
        name = prefix + suffix.decode("utf-8", "surrogateescape")
        if not name:
            raise _bad(where, "an attribute without a name")
        yield Attribute(name, inode, values + offset, size)


def acl_to_xattr(value: bytes, where: str) -> bytes:
    """A POSIX ACL as getxattr(2) gives it (version 2), from the form on disk (version 1)."""
    if len(value) < 4 or struct.unpack_from("<I", value)[0] != 1:
        raise _bad(where, "an access control list of an unknown version")
    entries = [struct.pack("<I", 2)]
    at = 4
    while at < len(value):
        if at + 4 > len(value):
            raise _bad(where, "an access control list is cut short")
        tag, permissions = struct.unpack_from("<HH", value, at)
        at += 4
        who = 0xFFFF_FFFF
        if tag in (_ACL_USER, _ACL_GROUP):
            if at + 4 > len(value):
                raise _bad(where, "an access control list is cut short")
            (who,) = struct.unpack_from("<I", value, at)
            at += 4
        entries.append(struct.pack("<HHI", tag, permissions, who))
    return b"".join(entries)


def _bad(where: str, what: str) -> MalformedError:
    return MalformedError(
        f"impossible ext extended attributes: {what}",
        where=where,
        remedy="the image is damaged; fetch it again and compare its checksum",
    )
