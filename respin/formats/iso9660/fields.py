"""Numbers and dates of ECMA-119: sections 7.2 and 7.3 (numerical values), 8.4.26.1 and 9.1.5 (dates)."""

from __future__ import annotations

import struct
from datetime import datetime, timezone
from typing import Optional

from respin.errors import MalformedError

BLOCK = 2048
"""Bytes in a logical block; the only size that bootable media use."""

SECTOR = 512
"""Bytes in a sector of partition tables and of El Torito load sizes."""

SECTORS = BLOCK // SECTOR
SYSTEM_AREA = 16
"""Blocks before the first volume descriptor (ECMA-119, 6.2.1)."""

_LITTLE_32, _BIG_32 = struct.Struct("<L"), struct.Struct(">L")


def blocks_for(size: int) -> int:
    """How many blocks ``size`` bytes occupy."""
    return -(-size // BLOCK)


def round_up(value: int, step: int) -> int:
    """The smallest multiple of ``step`` that is not less than ``value``."""
    return -(-value // step) * step


def both16(data: bytes, offset: int, where: str) -> int:
    """A 16-bit number recorded little-endian, then big-endian (7.2.3); MalformedError when the two disagree."""
    return same(struct.unpack_from("<H", data, offset)[0], struct.unpack_from(">H", data, offset + 2)[0], where)


def both32(data: bytes, offset: int, where: str) -> int:
    """A 32-bit number recorded little-endian, then big-endian (7.3.3); MalformedError when the two disagree."""
    return same(_LITTLE_32.unpack_from(data, offset)[0], _BIG_32.unpack_from(data, offset + 4)[0], where)


def to_both32(value: int) -> bytes:
    """``value`` as 7.3.3 records it, 8 bytes."""
    return _LITTLE_32.pack(value) + _BIG_32.pack(value)


def epoch(date: bytes) -> Optional[int]:
    """A 17-byte volume date (8.4.26.1: 16 digits, offset from GMT in quarters of an hour) as seconds since 1970.

    None when the date is not specified or is not a date.
    """
    digits = date[:16]
    if len(date) != 17 or not digits.isdigit() or not digits.strip(b"0"):
        return None
    year, month, day, hour, minute, second = (
        int(digits[start:end]) for start, end in ((0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14))
    )
    try:
        start_of_minute = datetime(year, month, day, hour, minute, tzinfo=timezone.utc)
    except ValueError:
        return None
    offset = int.from_bytes(date[16:17], "big", signed=True)
    if second > 60 or not -48 <= offset <= 56:
        return None
    return int(start_of_minute.timestamp()) + second - offset * 15 * 60


def same(little: int, big: int, where: str) -> int:
    """The number that was recorded as ``little`` and as ``big``; MalformedError when they disagree."""
    if little != big:
        raise MalformedError(
            f"a number recorded in both byte orders differs: {little} and {big}",
            where=where,
            remedy="the image is damaged or was written by a faulty program; compare its checksum with the vendor's",
        )
    return little
