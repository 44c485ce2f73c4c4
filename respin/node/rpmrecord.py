"""One record of an RPM database: the header as its maker signed it, and what the installation put behind it.

rpm stores a header as its immutable region (tag 63: the first entries and the first data) with what the installation
adds behind both (rpm, lib/header.c, headerExport). A record has no magic.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import List, Tuple

from respin.errors import MalformedError
from respin.formats.rpmfile.header import BINARY, MAGIC
from respin.formats.rpmfile.tags import HEADERIMMUTABLE

_COUNTS = struct.Struct(">II")
_ENTRY = struct.Struct(">IIiI")
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}


@dataclass(frozen=True)
class Added:
    """An entry that the installation added: tag, type, number of values, its bytes up to the end of the record."""

    tag: int
    kind: int
    count: int
    data: bytes

    @property
    def value(self) -> bytes:
        """The bytes of the value: numbers big-endian; a string without its end."""
        width = _WIDTHS.get(self.kind)
        return self.data.split(b"\0", 1)[0] if width is None else self.data[: width * self.count]


def split(blob: bytes, where: str) -> Tuple[bytes, Tuple[Added, ...]]:
    """The immutable header (with magic) of a record, and the entries behind it; MalformedError without a region."""
    entries, size, inside, end = _region(blob, where)
    store = _COUNTS.size + _ENTRY.size * entries
    index = blob[_COUNTS.size : _COUNTS.size + _ENTRY.size * inside]
    immutable = MAGIC + _COUNTS.pack(inside, end) + index + blob[store : store + end]
    added: List[Added] = []
    for number in range(inside, entries):
        tag, kind, offset, count = _ENTRY.unpack_from(blob, _COUNTS.size + _ENTRY.size * number)
        if not end <= offset <= size or count > size:
            raise _malformed(f"whose entry {tag} lies elsewhere than behind the immutable region", where)
        added.append(Added(tag, kind, count, blob[store + offset :]))
    return immutable, tuple(added)


def _region(blob: bytes, where: str) -> Tuple[int, int, int, int]:
    """Entries, bytes of data, entries in the immutable region, end of its data."""
    if len(blob) >= _COUNTS.size + _ENTRY.size:
        entries, size = _COUNTS.unpack_from(blob)
        tag, kind, offset, count = _ENTRY.unpack_from(blob, _COUNTS.size)
        store = _COUNTS.size + _ENTRY.size * entries
        end = offset + _ENTRY.size
        is_region = (tag, kind, count) == (HEADERIMMUTABLE, BINARY, _ENTRY.size)
        if is_region and store + size == len(blob) and offset >= 0 and end <= size:
            _, _, backwards, _ = _ENTRY.unpack_from(blob, store + offset)
            inside = -backwards // _ENTRY.size
            if 1 <= inside <= entries:
                return entries, size, inside, end
    raise _malformed("without an immutable region", where)


def _malformed(what: str, where: str) -> MalformedError:
    return MalformedError(f"the RPM database holds a record {what}", where=where, finding="rpmdb")
