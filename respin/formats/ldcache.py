"""The dynamic linker's cache, ``/etc/ld.so.cache``: glibc's "new" format (glibc elf/cache.c), read only.

Covered: the header ``glibc-ld.so.cache1.1`` alone or behind an old ``ld.so-1.7.0`` part, and its entries in order.
Integers are little endian; string offsets count from the start of the new header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Tuple

from respin.errors import MalformedError

_OLD_MAGIC = b"ld.so-1.7.0\0"
_NEW_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sII20x")
_ENTRY = struct.Struct("<iIIIQ")


@dataclass(frozen=True)
class CacheEntry:
    """What the linker finds for a library name: ``flags`` are ABI bits, ``hwcap`` the hardware variant."""

    name: bytes
    path: bytes
    flags: int
    hwcap: int


def parse(data: bytes, where: str) -> Tuple[CacheEntry, ...]:
    """The cache's entries in the order in which the linker compares them; MalformedError if it isn't one."""
    start = 0
    if data.startswith(_OLD_MAGIC):
        if len(data) < 16:
            raise MalformedError("the linker cache is truncated", where=where)
        start = 16 + 12 * int.from_bytes(data[12:16], "little")
        start += -start % 8
    if len(data) < start + _HEADER.size or not data.startswith(_NEW_MAGIC, start):
        raise MalformedError("this is not a linker cache of glibc's new format", where=where)
    _, count, _ = _HEADER.unpack_from(data, start)
    table = start + _HEADER.size
    if count * _ENTRY.size > len(data) - table:
        raise MalformedError(f"the linker cache claims {count} entries and is too short for them", where=where)
    entries = []
    for index in range(count):
        flags, key, value, _, hwcap = _ENTRY.unpack_from(data, table + index * _ENTRY.size)
        entries.append(CacheEntry(_string(data, start + key, where), _string(data, start + value, where), flags, hwcap))
    return tuple(entries)


def _string(data: bytes, offset: int, where: str) -> bytes:
    end = data.find(b"\0", offset, offset + 4096)
    if offset > len(data) or end < 0:
        raise MalformedError("the linker cache has a string outside the file", where=where)
    return data[offset:end]
