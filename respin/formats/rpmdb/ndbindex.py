"""rpm's ndb: ``Index.db``, which holds one index for each tag (rpm, lib/backend/ndb/rpmxdb.c and rpmidx.c).

The file is pages, the first of them slots that say which pages an index has. An index is a hash table of (key, record,
position), open addressing, with the keys behind it. A row that rpm would not find where its hash leads is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, List, Mapping, Tuple

from respin.errors import MalformedError

IndexRow = Tuple[bytes, int, int]
"""Key, record number, position among the record's values."""

_MAGIC, _SLOT, _INDEX_MAGIC = b"RpmX", b"Slo", b"RpmI"
_HEADER = struct.Struct("<4sIIIII8x")
_SLOT_LAYOUT = struct.Struct("<3sBIII")
_INDEX_HEADER = struct.Struct("<4sIIIIIIIII24x")
_MULTIPLIER, _WORD = 0x5BD1E995, 0xFFFF_FFFF
_DELETED = _WORD


@dataclass(frozen=True)
class Indexes:
    """The rows of each index by the tag whose values it has, and the count of changes of the packages it knows of."""

    rows: Mapping[int, Tuple[IndexRow, ...]]
    generation: int


def read_indexes(data: bytes, where: str) -> Indexes:
    """Everything in an ``Index.db``. Raises MalformedError for whatever rpm would not have written."""
    if len(data) < _HEADER.size:
        raise _bad(where, f"it has {len(data)} bytes")
    magic, version, _changes, pages, size, generation = _HEADER.unpack_from(data)
    known_size = size in (1 << bits for bits in range(9, 17))
    if magic != _MAGIC or version or not known_size or not pages or pages * size > len(data):
        raise _bad(where, f"its header is {data[:24].hex()}")
    areas: List[Tuple[int, int, int]] = []
    for at in range(_HEADER.size, pages * size, _SLOT_LAYOUT.size):
        mark, kind, tag, start, count = _SLOT_LAYOUT.unpack_from(data, at)
        if mark != _SLOT:
            raise _bad(where, f"at byte {at} there is no slot")
        if start and kind:
            raise _bad(where, f"the index of tag {tag} is being rebuilt")
        if start:
            areas.append((start if count else pages, count, tag))
    rows: Dict[int, Tuple[IndexRow, ...]] = {}
    end = pages
    for start, count, tag in sorted(areas):
        if start < end or (start + count) * size > len(data) or tag in rows:
            raise _bad(where, f"the index of tag {tag} lies at page {start}, over another or outside")
        end = start + count
        rows[tag] = _index(data[start * size : end * size], f"{where}, tag {tag}") if count else ()
    return Indexes(rows, generation)


def _index(data: bytes, where: str) -> Tuple[IndexRow, ...]:
    if len(data) < _INDEX_HEADER.size:
        raise _bad(where, f"an index of {len(data)} bytes")
    magic, version, _, slots, _, _, mask, key_end, _, _ = _INDEX_HEADER.unpack_from(data)
    keys = _INDEX_HEADER.size + 12 * slots
    if magic != _INDEX_MAGIC or version or not slots or slots & slots - 1 or keys + key_end > len(data):
        raise _bad(where, f"the header of an index is {data[:40].hex()}")
    table = struct.unpack_from(f"<{2 * slots}I", data, _INDEX_HEADER.size)
    overflow = _INDEX_HEADER.size + 8 * slots
    rows: List[IndexRow] = []
    known: Dict[int, bytes] = {}  # keys by what a slot says of them
    offsets: Dict[bytes, int] = {}
    for place in range(slots):
        word, value = table[2 * place : 2 * place + 2]
        if word in (0, _DELETED):
            continue
        key = known.get(word)
        if key is None:
            key = known[word] = _key(data, keys, word & ~mask & _WORD, key_end, where)
            if offsets.setdefault(key, word) != word or (hash_of(key) ^ word) & mask:
                raise _bad(where, "a key is there twice, or with another hash")
        _reach(table, slots, hash_of(key), place, where)
        rows.append((key, *_record(value, data, overflow + 4 * place)))
    if len(set(rows)) != len(rows):
        raise _bad(where, "a row is there twice")
    return tuple(rows)


def _reach(table: Tuple[int, ...], slots: int, value: int, place: int, where: str) -> None:
    """Go the way that rpm goes from a key's hash; no free slot may come before ``place``."""
    here, step = value & slots - 1, 7
    for _ in range(slots):
        if here == place:
            return
        if not table[2 * here]:
            break
        here, step = here + step & slots - 1, step + 1
    raise _bad(where, "a row lies where rpm does not look for it")


def _key(data: bytes, keys: int, offset: int, end: int, where: str) -> bytes:
    at = keys + offset
    size, length = 1, data[at] if 0 < offset < end else 0
    if length == 255:
        size, length = 3, int.from_bytes(data[at + 1 : at + 3], "little")
        if length == 0xFFFF:
            size, length = 7, int.from_bytes(data[at + 3 : at + 7], "little")
    if not 0 < offset < end or offset + size + length > end:
        raise _bad(where, f"a key lies at {offset} of {end}")
    return data[at + size : at + size + length]


def _record(value: int, data: bytes, overflow: int) -> Tuple[int, int]:
    """Record number and position, which share a word when they are small."""
    if value & 0x8000_0000:
        return int.from_bytes(data[overflow : overflow + 4], "little"), value & 0x7FFF_FFFF
    if value & 0x4000_0000:
        return value & 0xFF_FFFF, (value & 0x3FFF_FFFF) >> 24
    return value & 0xF_FFFF, value >> 20


def hash_of(key: bytes) -> int:
    """Where rpm begins to look for a key: a variant of MurmurHash."""
    value = len(key) * _MULTIPLIER & _WORD
    whole = len(key) & ~3
    for (word,) in struct.iter_unpack("<I", key[:whole]):
        value = (value + word) * _MULTIPLIER & _WORD
        value ^= value >> 16
    if len(key) > whole:
        value = (value + int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _WORD
        value ^= value >> 16
    value = value * _MULTIPLIER & _WORD
    value ^= value >> 10
    value = value * _MULTIPLIER & _WORD
    return value ^ value >> 17


def _bad(where: str, what: str) -> MalformedError:
    return MalformedError(
        f"the RPM database is damaged: {what}",
        where=where,
        remedy="fetch the image again and compare its checksum",
        finding="rpmdb",
    )
