"""The header structure: an index of typed entries and a store of data, all numbers big-endian.

Strict where rpm is, and in the main header stricter: the immutable region must cover every entry and all data, so that
nothing outside what was signed can be mistaken for part of it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, List, Mapping, NoReturn, Optional, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.rpmfile import tags
from respin.limits import LIMITS

MAGIC = b"\x8e\xad\xe8\x01\0\0\0\0"
INTRO_SIZE = 16
_ENTRY = struct.Struct(">IIiI")
CHAR, INT8, INT16, INT32, INT64, STRING, BINARY, STRING_ARRAY, I18N_STRING = range(1, 10)
_WINDOW = 4096  # bytes of strings that are looked at together; a package can have a hundred thousand
_WIDTH = {CHAR: 1, INT8: 1, INT16: 2, INT32: 4, INT64: 8, BINARY: 1}
_FORMAT = {CHAR: "B", INT8: "B", INT16: "H", INT32: "I", INT64: "Q"}


@dataclass(frozen=True)
class Entry:
    """One entry: its type, how many values and which bytes of the store they take."""

    kind: int
    count: int
    start: int
    end: int


class Header:
    """A header at byte ``start`` of a file, up to ``end``; ``raw`` is all of it, the 16-byte intro included."""

    def __init__(self, raw: bytes, start: int, entries: Mapping[int, Entry], store: int, where: str) -> None:
        self.raw = raw
        self.start = start
        self.entries = entries
        self._store = store
        self._where = where

    @property
    def end(self) -> int:
        return self.start + len(self.raw)

    @classmethod
    def parse(cls, view: ByteView, start: int, *, signature: bool) -> "Header":
        """The header at byte ``start`` of ``view``.

        Raises MalformedError for whatever breaks the structure: bad magic, lengths beyond the limits or the file,
        entries outside the store, overlapping, misaligned or doubled, unterminated strings, an incomplete region.
        Raises UnsupportedError for headers without a region, as rpm 3 wrote them.
        """
        which = "signature header" if signature else "header"
        where = f"{view.name}: {which} at byte {start}"
        magic, index_length, store_length = struct.unpack(">8sII", view.read(start, INTRO_SIZE))
        limit = LIMITS.rpm_signature_header if signature else LIMITS.rpm_header
        if magic != MAGIC:
            _refuse("it does not start with the header magic", where)
        if not 1 <= index_length <= LIMITS.rpm_header_entries or not 1 <= store_length <= limit:
            _refuse(f"{index_length} entries and {store_length} bytes of data are out of bounds", where)
        raw = view.read(start, INTRO_SIZE + _ENTRY.size * index_length + store_length)
        store = INTRO_SIZE + _ENTRY.size * index_length
        entries = _entries(raw, store, where)
        _check_region(raw, store, index_length, signature=signature, where=where)
        return cls(raw, start, entries, store, where)

    def __contains__(self, tag: int) -> bool:
        return tag in self.entries

    def string(self, tag: int, default: str = "") -> str:
        """The value of a string tag (the first one of a translated string)."""
        if tag not in self.entries:
            return default
        if self.entries[tag].kind not in (STRING, I18N_STRING):
            self._wrong_type(tag)
        return self._texts(tag)[0]

    def strings(self, tag: int) -> Tuple[str, ...]:
        """The values of a string or string array tag; () when it is missing."""
        if tag not in self.entries:
            return ()
        if self.entries[tag].kind not in (STRING, STRING_ARRAY):
            self._wrong_type(tag)
        return tuple(self._texts(tag))

    def integers(self, tag: int) -> Tuple[int, ...]:
        """The values of an integer tag, unsigned; () when it is missing."""
        if tag not in self.entries:
            return ()
        entry = self.entries[tag]
        if entry.kind not in _FORMAT:
            self._wrong_type(tag)
        return struct.unpack(f">{entry.count}{_FORMAT[entry.kind]}", self._bytes(entry))

    def integer(self, tag: int) -> Optional[int]:
        """The one value of an integer tag; None when it is missing."""
        values = self.integers(tag)
        if len(values) > 1:
            _refuse(f"tag {tag} has {len(values)} values where one is expected", self._where)
        return values[0] if values else None

    def binary(self, tag: int) -> Optional[bytes]:
        """The value of a binary tag; None when it is missing."""
        if tag not in self.entries:
            return None
        if self.entries[tag].kind != BINARY:
            self._wrong_type(tag)
        return self._bytes(self.entries[tag])

    def _bytes(self, entry: Entry) -> bytes:
        return self.raw[self._store + entry.start : self._store + entry.end]

    def _texts(self, tag: int) -> List[str]:
        entry = self.entries[tag]
        return [text.decode("utf-8", "surrogateescape") for text in self._bytes(entry)[:-1].split(b"\0")]

    def _wrong_type(self, tag: int) -> NoReturn:
        _refuse(f"tag {tag} has type {self.entries[tag].kind}, which it must not have", self._where)


def _entries(raw: bytes, store: int, where: str) -> Dict[int, Entry]:
    entries: Dict[int, Entry] = {}
    size = len(raw) - store
    previous_end = 0
    trailer_start = trailer_end = size
    for number, (tag, kind, offset, count) in enumerate(_ENTRY.iter_unpack(raw[INTRO_SIZE:store])):
        region = number == 0 and tag in (tags.HEADERSIGNATURES, tags.HEADERIMMUTABLE, tags.HEADERIMAGE)
        if tag in entries:
            _refuse(f"tag {tag} stands there twice", where)
        if not 0 <= offset <= size or not 1 <= count <= size:
            _refuse(f"tag {tag} lies outside the header's data", where)
        if kind in _WIDTH:
            if offset % _WIDTH[kind]:
                _refuse(f"tag {tag} is not aligned", where)
            end = offset + _WIDTH[kind] * count
        elif kind in (STRING, STRING_ARRAY, I18N_STRING):
            if kind == STRING and count != 1:
                _refuse(f"tag {tag} is one string with count {count}", where)
            end = _end_of_strings(raw, store + offset, count, tag, where) - store
        else:
            _refuse(f"tag {tag} has the unknown type {kind}", where)
        if end > size:
            _refuse(f"tag {tag} lies outside the header's data", where)
        if region:
            trailer_start, trailer_end = offset, end
        elif offset < previous_end or (offset < trailer_end and end > trailer_start):
            _refuse(f"tag {tag} overlaps the data of another", where)
        else:
            previous_end = end
        entries[tag] = Entry(kind, count, offset, end)
    return entries


def _end_of_strings(raw: bytes, position: int, count: int, tag: int, where: str) -> int:
    while True:
        window = raw[position : position + _WINDOW]
        if not window:
            _refuse(f"a string of tag {tag} has no end", where)
        ends = window.count(b"\0")
        if ends >= count:
            return position + len(window) - len(window.split(b"\0", count)[count])
        count -= ends
        position += len(window)


def _check_region(raw: bytes, store: int, index_length: int, *, signature: bool, where: str) -> None:
    """The region must be the first entry; in the main header its trailer ends the data and counts every entry.

    In a signature header entries may follow behind the region (rpm appends file signatures so): nothing there is
    signed either way.
    """
    wanted = tags.HEADERSIGNATURES if signature else tags.HEADERIMMUTABLE
    tag, kind, offset, count = _ENTRY.unpack_from(raw, INTRO_SIZE)
    if tag != wanted:
        raise UnsupportedError(
            "it has no immutable region, as packages of rpm 3 and older",
            where=where,
            remedy="ask the author for a package built by rpm 4 or newer",
        )
    end = store + offset + _ENTRY.size
    if kind != BINARY or count != _ENTRY.size or end > len(raw):
        _refuse("the region's entry is malformed", where)
    trailer_tag, trailer_kind, trailer_offset, trailer_count = _ENTRY.unpack_from(raw, store + offset)
    # rpm wrote HEADERIMAGE into trailers of signature headers
    trailer_tags = (wanted, tags.HEADERIMAGE) if signature else (wanted,)
    if trailer_tag not in trailer_tags or trailer_kind != BINARY or trailer_count != _ENTRY.size:
        _refuse("the region's trailer is malformed", where)
    if trailer_offset % _ENTRY.size or not 1 <= -trailer_offset // _ENTRY.size <= index_length:
        _refuse("the region's trailer is malformed", where)
    if not signature and (end != len(raw) or -trailer_offset != _ENTRY.size * index_length):
        _refuse("there are entries or data outside the immutable region, which nobody signed", where)


def _refuse(what: str, where: str) -> NoReturn:
    raise MalformedError(what, where=where, remedy="the RPM is damaged or was tampered with; fetch it again")
