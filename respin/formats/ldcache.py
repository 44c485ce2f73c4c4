"""The dynamic linker's cache, ``/etc/ld.so.cache``: glibc's "new" format (glibc elf/cache.c), read only.

Covered: the header ``glibc-ld.so.cache1.1`` alone or behind an old ``ld.so-1.7.0`` part, and its entries in order.
Integers are little endian; string offsets count from the start of the new header.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Sequence, Tuple

from respin.errors import MalformedError

_OLD_MAGIC = b"ld.so-1.7.0\0"
_NEW_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sIIB19x")
_BYTE_ORDERS = (0, 2)  # not said (before glibc 2.33), little-endian; a cache of another order is not looked at
_DIGITS = re.compile(rb"([0-9]+)")
_ENTRY = struct.Struct("<iIIIQ")


@dataclass(frozen=True)
class CacheEntry:
    """What the linker finds for a library name: ``flags`` are ABI bits, ``hwcap`` the hardware variant.

    On a kernel older than ``osversion`` a linker before glibc 2.36 passes the entry over.
    """

    name: bytes
    path: bytes
    flags: int
    hwcap: int
    osversion: int = 0


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
    _, count, _, order = _HEADER.unpack_from(data, start)
    if order not in _BYTE_ORDERS:
        raise MalformedError("the linker cache is of another byte order", where=where)
    table = start + _HEADER.size
    if count * _ENTRY.size > len(data) - table:
        raise MalformedError(f"the linker cache claims {count} entries and is too short for them", where=where)
    entries = []
    for index in range(count):
        flags, key, value, osversion, hwcap = _ENTRY.unpack_from(data, table + index * _ENTRY.size)
        name, path = (_string(data, start + offset, where) for offset in (key, value))
        entries.append(CacheEntry(name, path, flags, hwcap, osversion))
    return tuple(entries)


def in_search_order(entries: Sequence[CacheEntry]) -> bool:
    """Whether the names descend as glibc compares them: the linker searches by halving, and would miss one."""
    keys = [_key(entry.name) for entry in entries]
    return all(one >= other for one, other in zip(keys, keys[1:]))


def _key(name: bytes) -> Tuple[Tuple[int, int], ...]:
    """Orders as _dl_cache_libcmp: numbers by value and behind every other character, which count as signed ones."""
    found = []
    for piece in _DIGITS.split(name):
        if piece[:1].isdigit():
            found.append((1, int(piece)))
        else:
            found += [(0, letter - 256 if letter > 127 else letter) for letter in piece]
    return (*found, (0, 0))


def _string(data: bytes, offset: int, where: str) -> bytes:
    end = data.find(b"\0", offset, offset + 4096)
    if offset > len(data) or end < 0:
        raise MalformedError("the linker cache has a string outside the file", where=where)
    return data[offset:end]
