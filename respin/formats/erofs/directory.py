"""Directories of erofs: blocks of fixed entries in front and names behind, everything in the order of the names."""

from __future__ import annotations

import struct
from typing import Dict, Iterator, NamedTuple, Tuple

from respin.errors import MalformedError

_ENTRY = struct.Struct("<QHBB")
_MOST_NAME = 255
_MOST_NUMBER = 1 << 58  # a number counts slots of 32 bytes, and the image has fewer than 2^63 bytes


class ErofsEntry(NamedTuple):
    """A name's inode; ``kind`` is what the entry says of its type, 1 to 7."""

    inode: int
    kind: int


def parse_directory(content: bytes, block_size: int, where: str) -> Dict[bytes, ErofsEntry]:
    """The entries of a directory, in stored order, without ``.`` and ``..``.

    The kernel looks names up by their order, so one that isn't where it belongs is a MalformedError.
    """
    entries: Dict[bytes, ErofsEntry] = {}
    last = b""
    for start in range(0, len(content), block_size):
        for name, entry in _block(content[start : start + block_size], where):
            if name <= last:
                raise _bad(where, f"{name!r} stands behind {last!r}, where the kernel misses it")
            last = name
            if name not in (b".", b".."):
                entries[name] = entry
    return entries


def _block(block: bytes, where: str) -> Iterator[Tuple[bytes, ErofsEntry]]:
    names = _ENTRY.unpack_from(block)[1] if len(block) >= _ENTRY.size else 0
    if names % _ENTRY.size or not _ENTRY.size <= names <= len(block):
        raise _bad(where, f"a block of {len(block)} bytes has its names at {names}")
    starts = [_ENTRY.unpack_from(block, at)[1] for at in range(0, names, _ENTRY.size)]
    for number, start in enumerate(starts):
        inode, _, kind, _ = _ENTRY.unpack_from(block, number * _ENTRY.size)
        is_last = number + 1 == len(starts)
        end = len(block) if is_last else starts[number + 1]
        if not names <= start < end <= len(block):
            raise _bad(where, f"a name lies at {start} to {end}")
        name = block[start:end].split(b"\0", 1)[0] if is_last else block[start:end]
        if not 0 < len(name) <= _MOST_NAME or b"/" in name or b"\0" in name:
            raise _bad(where, f"the name {name!r}")
        if inode >= _MOST_NUMBER:
            raise _bad(where, f"{name!r} names inode {inode}")
        yield name, ErofsEntry(inode, kind)


def _bad(where: str, what: str) -> MalformedError:
    return MalformedError(
        f"impossible erofs directory: {what}",
        where=where,
        remedy="the image is damaged; fetch it again and compare its checksum",
    )
