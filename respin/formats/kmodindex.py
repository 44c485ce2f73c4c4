"""The binary indexes that depmod(8) writes and modprobe(8) looks names up in: ``modules.dep.bin`` and its kin.

A tree of prefixes, big-endian (kmod, libkmod/libkmod-index.c): a node has a piece of the key, nodes that follow by one
more character, and values with priorities. Covered: version 2.1 of the format, read as a whole.
"""

from __future__ import annotations

import re
import struct
from typing import FrozenSet, List, Set, Tuple

from respin.errors import MalformedError

_MAGIC, _VERSION = 0xB007F457, 0x00020001
_PREFIX, _VALUES, _CHILDREN, _PLACE = 0x80000000, 0x40000000, 0x20000000, 0x0FFFFFFF
_LONGEST_KEY = 4096
_BRACKETS = re.compile(rb"\[[^]]*\]")

Item = Tuple[bytes, bytes]
"""A key and one of its values."""


def read_index(data: bytes, where: str) -> FrozenSet[Item]:
    """Every key with each of its values. Raises MalformedError for whatever depmod would not have written."""
    if len(data) < 12 or struct.unpack_from(">II", data) != (_MAGIC, _VERSION):
        raise _bad("it has another beginning", where)
    (root,) = struct.unpack_from(">I", data, 8)
    found: Set[Item] = set()
    seen: Set[int] = set()
    todo: List[Tuple[bytes, int]] = [(b"", root)]
    try:
        while todo:
            key, reference = todo.pop()
            at = reference & _PLACE
            if at in seen or len(key) > _LONGEST_KEY:
                raise _bad("its nodes form a loop, or are shared", where)
            seen.add(at)
            if reference & _PREFIX:
                end = data.index(b"\0", at)
                key, at = key + data[at:end], end + 1
            if reference & _CHILDREN:
                first, last = data[at], data[at + 1]
                at += 2
                for letter in range(first, last + 1):
                    (child,) = struct.unpack_from(">I", data, at)
                    at += 4
                    if child:
                        todo.append((key + bytes((letter,)), child))
            if reference & _VALUES:
                (count,) = struct.unpack_from(">I", data, at)
                at += 4
                for _ in range(count):
                    end = data.index(b"\0", at + 4)
                    found.add((key, data[at + 4 : end]))
                    at = end + 1
    except (struct.error, ValueError, IndexError) as error:
        raise _bad("its nodes leave the file", where) from error
    return frozenset(found)


def normal(alias: bytes) -> bytes:
    """An alias as it is looked up: with underscores for dashes, but not in brackets."""
    pieces: List[bytes] = []
    at = 0
    for match in _BRACKETS.finditer(alias):
        pieces += [alias[at : match.start()].replace(b"-", b"_"), match[0]]
        at = match.end()
    return b"".join([*pieces, alias[at:].replace(b"-", b"_")])


def is_indexable(alias: bytes) -> bool:
    """Whether depmod puts an alias into an index: it leaves out those with a bracket too many and very long ones."""
    rest = _BRACKETS.sub(b"", alias)
    return alias.isascii() and len(alias) < _LONGEST_KEY - 1 and b"[" not in rest and b"]" not in rest


def _bad(what: str, where: str) -> MalformedError:
    return MalformedError(
        f"this is no index of kernel modules: {what}",
        where=where,
        remedy="it was damaged, or made to deceive; depmod makes it anew",
        finding="modules",
    )
