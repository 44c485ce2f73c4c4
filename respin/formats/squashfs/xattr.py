"""Squashfs extended attributes: key/value lists in metadata blocks, and a table that finds each list.

``fs/squashfs/xattr.c`` and ``xattr_id.c`` of the kernel. Values may lie elsewhere in the table (type bit 0x100).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, Mapping, Tuple

from respin.byteview import ByteView
from respin.errors import UnsupportedError
from respin.formats.squashfs import lookup
from respin.formats.squashfs.codec import Codec
from respin.formats.squashfs.metadata import Table, malformed, split_reference
from respin.formats.squashfs.superblock import SIZE
from respin.limits import KiB

ENTRY_SIZE = 16
HEADER_SIZE = 16
_PREFIXES = {0: "user.", 1: "trusted.", 2: "security."}
_PREFIX, _OUT_OF_LINE = 0xFF, 0x100
_MOST_VALUE = 64 * KiB  # the kernel's XATTR_SIZE_MAX
_MOST_LIST = 1024


@dataclass(frozen=True)
class XattrTable:
    """Where the xattr table lies: byte offsets of the key/value blocks and of the look-up table's blocks."""

    start: int
    values_start: int
    count: int
    id_blocks: Tuple[int, ...]


def read_xattr_table(view: ByteView, start: int) -> XattrTable:
    """Parse the xattr table's header at byte ``start``."""
    values_start, count, _unused = struct.unpack("<QII", view.read(start, HEADER_SIZE))
    id_blocks = lookup.index(view, start + HEADER_SIZE, count, ENTRY_SIZE)
    if (count and not SIZE <= values_start < min(id_blocks)) or any(offset >= start for offset in id_blocks):
        raise malformed(view, start, "the xattr table's parts overlap")
    return XattrTable(start, values_start, count, id_blocks)


class Xattrs:
    """The xattr lists of an image, by the index that inodes carry."""

    def __init__(self, view: ByteView, codec: Codec, start: int) -> None:
        self._view = view
        self.table = read_xattr_table(view, start)
        self._entries = b""
        self._codec = codec
        if self.table.count:
            self._values = Table(view, codec, self.table.values_start, self.table.id_blocks[0])

    def __getitem__(self, number: int) -> Mapping[str, bytes]:
        """The attributes by full name (``security.selinux``)."""
        if not 0 <= number < self.table.count:
            raise malformed(self._view, self.table.start, f"an inode names xattr list {number} of {self.table.count}")
        if not self._entries:
            self._entries = lookup.content(
                self._view, self._codec, self.table.start + HEADER_SIZE, self.table.count, ENTRY_SIZE
            )
        reference, count, _size = struct.unpack_from("<QII", self._entries, number * ENTRY_SIZE)
        if count > _MOST_LIST:
            raise malformed(self._view, self.table.start, f"an inode has {count} extended attributes")
        cursor = self._values.cursor(*split_reference(reference))
        found: Dict[str, bytes] = {}
        for _ in range(count):
            kind, length = struct.unpack("<HH", cursor.take(4))
            prefix = _PREFIXES.get(kind & _PREFIX)
            if kind & ~(_PREFIX | _OUT_OF_LINE):  # Linux leaves out what it does not know
                raise malformed(self._view, self.table.start, f"an extended attribute is of kind {kind:#x}")
            if prefix is None:
                raise UnsupportedError(f"extended attributes of kind {kind} are unknown", where=self._view.name)
            if length > 255:
                raise malformed(self._view, self.table.start, "an extended attribute's name is too long")
            name = prefix + cursor.take(length).decode("utf-8", "surrogateescape")
            (size,) = struct.unpack("<I", cursor.take(4))
            if kind & _OUT_OF_LINE:
                if size != 8:
                    raise malformed(self._view, self.table.start, "an out-of-line reference has not 8 bytes")
                (elsewhere,) = struct.unpack("<Q", cursor.take(8))
                value_cursor = self._values.cursor(*split_reference(elsewhere))
                (size,) = struct.unpack("<I", value_cursor.take(4))
            else:
                value_cursor = cursor
            if size > _MOST_VALUE:
                raise malformed(self._view, self.table.start, f"an extended attribute has {size} bytes")
            if name in found:
                raise malformed(self._view, self.table.start, f"the extended attribute {name!r} is there twice")
            found[name] = value_cursor.take(size)
        return found
