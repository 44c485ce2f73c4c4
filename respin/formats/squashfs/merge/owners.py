"""The id table and the xattr table of a merged image: the vendor's entries keep their numbers, new ones follow."""

from __future__ import annotations

import struct
from typing import Dict, List, Mapping, Optional, Tuple

from respin.errors import UnsupportedError
from respin.formats.squashfs.image import SquashfsImage
from respin.formats.squashfs.merge.changes import split_xattr
from respin.formats.squashfs.merge.grown import GrownTable, grown_lookup
from respin.formats.squashfs.metadata import Table
from respin.formats.squashfs.superblock import UNCOMPRESSED_IDS, UNCOMPRESSED_XATTRS
from respin.formats.squashfs.xattr import ENTRY_SIZE, HEADER_SIZE, read_xattr_table
from respin.limits import MiB
from respin.segments import Segment, total

MOST_IDS = 0xFFFF
_MOST_KNOWN = 16 * MiB  # of the vendor's lists that are looked through for an equal one
_LIST = 256  # what a list takes without its values

_Attributes = Tuple[Tuple[str, bytes], ...]


class Ids:
    """User and group ids by index."""

    def __init__(self, image: SquashfsImage) -> None:
        self._image = image
        self._index: Dict[int, int] = {}
        for index, number in enumerate(image.ids):
            self._index.setdefault(number, index)
        self._count = len(image.ids)
        self._added: List[int] = []

    @property
    def count(self) -> int:
        """How many there are."""
        return self._count

    def index(self, number: int) -> int:
        """The index of an id; UnsupportedError when there is no room for it in the table."""
        found = self._index.get(number)
        if found is None:
            if self._count >= MOST_IDS:
                raise UnsupportedError(
                    f"the files have more than {MOST_IDS} different owners and groups, which squashfs cannot hold",
                    where=self._image.view.name,
                    finding="squashfs-ids",
                )
            found = self._index[number] = self._count
            self._added.append(number)
            self._count += 1
        return found

    def write(self, position: int) -> Tuple[List[Segment], int]:
        """The table for byte ``position``: segments, and where its index begins."""
        image = self._image
        return grown_lookup(
            *(image.view, image.codec, image.superblock.id_table, image.superblock.id_count, 4),
            position=position,
            edits={},
            added=struct.pack(f"<{len(self._added)}I", *self._added),
            store=bool(image.superblock.flags & UNCOMPRESSED_IDS),
        )


class XattrLists:
    """Lists of extended attributes by index."""

    def __init__(self, image: SquashfsImage) -> None:
        self._image = image
        start = image.superblock.xattr_table
        self._vendor = None if start is None else read_xattr_table(image.view, start)
        self._count = 0 if self._vendor is None else self._vendor.count
        self._store = bool(image.superblock.flags & UNCOMPRESSED_XATTRS)
        values: Optional[Table] = None
        if self._vendor is not None and self._vendor.count:
            values = Table(image.view, image.codec, self._vendor.values_start, self._vendor.id_blocks[0])
        self._values = GrownTable(image.codec, values, store=self._store)
        self._added: List[bytes] = []
        self._known: Optional[Dict[_Attributes, int]] = None

    @property
    def count(self) -> int:
        """How many there are."""
        return self._count

    def index(self, attributes: Mapping[str, bytes], path: str) -> Optional[int]:
        """The index of a list, None for none. A list that is there is used again."""
        if not attributes:
            return None
        if self._known is None:
            self._known = self._vendors()
        key = tuple(sorted(attributes.items()))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._count
            self._count += 1
            self._add(key, path)
        return found

    def write(self, position: int) -> Tuple[List[Segment], Optional[int]]:
        """The tables for byte ``position``: segments, and where the one begins that the superblock names."""
        if not self._count:
            return [], None
        segments = self._values.finish()
        table, start = grown_lookup(
            *(
                self._image.view,
                self._image.codec,
                self._entries_start(),
                0 if self._vendor is None else self._vendor.count,
            ),
            ENTRY_SIZE,
            position=position + total(segments),
            edits={},
            added=b"".join(self._added),
            store=self._store,
            header=struct.pack("<QII", position, self._count, 0),
        )
        return segments + table, start

    def _vendors(self) -> Dict[_Attributes, int]:
        """The vendor's lists, or as many as are worth their memory."""
        known: Dict[_Attributes, int] = {}
        room = _MOST_KNOWN
        for number in range(self._count):
            attributes = self._image.xattr_list(number)
            room -= _LIST + sum(len(value) for value in attributes.values())
            if room < 0:
                break
            known.setdefault(tuple(sorted(attributes.items())), number)
        return known

    def _entries_start(self) -> Optional[int]:
        return self._vendor.start + HEADER_SIZE if self._vendor is not None and self._vendor.count else None

    def _add(self, attributes: _Attributes, path: str) -> None:
        packed = b""
        for name, value in attributes:
            prefix, short = split_xattr(name, path)
            packed += struct.pack("<HH", prefix, len(short)) + short + struct.pack("<I", len(value)) + value
        block, offset = self._values.place
        self._added.append(struct.pack("<QII", block << 16 | offset, len(attributes), len(packed)))
        self._values.append(packed)
