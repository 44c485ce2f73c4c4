"""rpm's ndb: ``Packages.db``, which holds package headers by number (rpm, lib/backend/ndb/rpmpkg.c), little-endian.

A header of 32 bytes and pages of slots stand in front; each slot names a blob, counted in units of 16 bytes, and each
blob has a head, a checksum and a tail of its own.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Dict, List, Mapping, Tuple

from respin.errors import MalformedError
from respin.limits import LIMITS

_MAGIC, _SLOT, _HEAD, _TAIL = b"RpmP", b"Slot", b"BlbS", b"BlbE"
_HEADER = struct.Struct("<4sIIII12x")
_SLOT_LAYOUT = struct.Struct("<4sIII")
_HEAD_LAYOUT = struct.Struct("<4sIII")
_TAIL_LAYOUT = struct.Struct("<II4s")
_UNIT, _PAGE = 16, 4096


@dataclass(frozen=True)
class Packages:
    """The headers (without magic) by record number, the number of the next one, and the count of changes so far."""

    headers: Mapping[int, bytes]
    next_number: int
    generation: int


def read_packages(data: bytes, where: str) -> Packages:
    """Everything in a ``Packages.db``. Raises MalformedError for whatever rpm would not have written."""
    if len(data) < _PAGE or len(data) % _UNIT:
        raise _bad(where, f"it has {len(data)} bytes")
    magic, version, generation, pages, next_number = _HEADER.unpack_from(data)
    if magic != _MAGIC or version or not 0 < pages <= len(data) // _PAGE:
        raise _bad(where, f"its header is {data[:20].hex()}")
    slots: List[Tuple[int, int, int]] = []
    for at in range(_HEADER.size, pages * _PAGE, _SLOT_LAYOUT.size):
        mark, number, start, count = _SLOT_LAYOUT.unpack_from(data, at)
        if mark != _SLOT:
            raise _bad(where, f"at byte {at} there is no slot")
        if start:
            slots.append((start, count, number))
    headers: Dict[int, bytes] = {}
    end = pages * _PAGE // _UNIT
    for start, count, number in sorted(slots):
        if start < end or not count or (start + count) * _UNIT > len(data):
            raise _bad(where, f"record {number} lies at {start * _UNIT}, over another or outside")
        end = start + count
        if number in headers or not 0 < number < next_number:
            raise _bad(where, f"there is a record number {number}, a second one or above {next_number}")
        headers[number] = _blob(data[start * _UNIT : end * _UNIT], number, where)
    return Packages(headers, next_number, generation)


def _blob(blob: bytes, number: int, where: str) -> bytes:
    mark, own, _generation, length = _HEAD_LAYOUT.unpack_from(blob)
    fits = -(-(_HEAD_LAYOUT.size + length + _TAIL_LAYOUT.size) // _UNIT) * _UNIT == len(blob)
    if mark != _HEAD or own != number or not fits or length > LIMITS.rpm_header:
        raise _bad(where, f"the head of record {number} is {blob[:16].hex()}")
    check, again, mark = _TAIL_LAYOUT.unpack_from(blob, len(blob) - _TAIL_LAYOUT.size)
    if mark != _TAIL or again != length or check != zlib.adler32(blob[: -_TAIL_LAYOUT.size]):
        raise _bad(where, f"the checksum of record {number} does not fit")
    return blob[_HEAD_LAYOUT.size : _HEAD_LAYOUT.size + length]


def _bad(where: str, what: str) -> MalformedError:
    return MalformedError(
        f"the RPM database is damaged: {what}",
        where=where,
        remedy="fetch the image again and compare its checksum",
        finding="rpmdb",
    )
