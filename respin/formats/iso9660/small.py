"""A new image of a few small files, the same bytes whenever and wherever it is made.

ECMA-119 (one primary volume descriptor, sections 6.8 to 9.4) with the Rock Ridge entries that keep names, modes and
owners (IEEE P1282: SP, ER, PX, NM). No Joliet, no boot, every directory in one block.
"""

from __future__ import annotations

import posixpath
import struct
import time
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Tuple

from respin.errors import UnsupportedError
from respin.formats.iso9660.fields import BLOCK, SYSTEM_AREA, blocks_for, to_both32

_DIRECTORY, _FILE = 0o40555, 0o100444
_LONGEST_RECORD = 254
_SP = b"SP\x07\x01\xbe\xef\x00"
_ER = b"ER\x12\x01\x0a\x00\x00\x01RRIP_1991A"


@dataclass
class _Directory:
    """``children`` by name, ``extent`` once it has a place."""

    parent: "_Directory | None"
    identifier: bytes
    number: int
    children: Dict[str, "_Directory"] = field(default_factory=dict)
    files: Dict[str, "_File"] = field(default_factory=dict)
    extent: int = 0


@dataclass
class _File:
    identifier: bytes
    content: bytes
    extent: int = 0


def small_iso(volume_id: str, files: Mapping[str, bytes], when: int) -> bytes:
    """The image of ``files`` by their relative paths, all read-only and root's, dated ``when`` (seconds since 1970).

    Raises UnsupportedError for names that are too long, and for more files than a directory holds here.
    """
    root = _Directory(None, b"\0", 1)
    directories = [root]
    everything: List[_File] = []
    for number, (path, content) in enumerate(sorted(files.items()), 1):
        here = root
        for name in filter(None, posixpath.dirname(path).split("/")):
            if name not in here.children:
                here.children[name] = _Directory(here, b"D%07d" % len(directories), 0)
                directories.append(here.children[name])
            here = here.children[name]
        everything.append(_File(b"F%07d.;1" % number, content))
        here.files[posixpath.basename(path)] = everything[-1]
    ordered = _breadth_first(root)
    tables = SYSTEM_AREA + 2
    position = tables + 2
    for number, directory in enumerate(ordered, 1):
        directory.number, directory.extent = number, position
        position += 1
    for file in everything:
        file.extent = position
        position += blocks_for(len(file.content))
    date = _record_date(when)
    little, big = (_path_table(ordered, order) for order in "<>")
    root_record = _record(b"\0", root.extent, BLOCK, True, date, b"")
    head = [
        bytes(SYSTEM_AREA * BLOCK),
        _descriptor(volume_id, position, (len(little), tables), root_record, when),
        _padded(b"\xffCD001\x01"),
        _padded(little),
        _padded(big),
    ]
    bodies = [_directory(one, date) for one in ordered]
    return b"".join([*head, *bodies, *(_padded(one.content) for one in everything)])


def _breadth_first(root: _Directory) -> List[_Directory]:
    """In the order of the path table (9.4): by level, by the parent's number, by identifier."""
    found, level = [root], [root]
    while level:
        level = [child for one in level for child in sorted(one.children.values(), key=lambda child: child.identifier)]
        found += level
    return found


def _descriptor(volume_id: str, blocks: int, table: Tuple[int, int], root: bytes, when: int) -> bytes:
    """The primary volume descriptor (8.4)."""
    size, place = table
    date = time.strftime("%Y%m%d%H%M%S00", time.gmtime(when)).encode("ascii") + b"\0"
    never = b"0" * 16 + b"\0"
    return _padded(
        b"\x01CD001\x01\0"
        + b" " * 32
        + volume_id.encode("ascii").ljust(32)
        + bytes(8)
        + to_both32(blocks)
        + bytes(32)
        + _both16(1) * 2
        + _both16(BLOCK)
        + to_both32(size)
        + struct.pack("<LL", place, 0)
        + struct.pack(">LL", place + 1, 0)
        + root
        + b" " * (4 * 128 + 3 * 37)
        + date * 2
        + never * 2
        + b"\x01\0"
    )


def _path_table(directories: List[_Directory], order: str) -> bytes:
    return b"".join(
        struct.pack(f"{order}BBLH", len(one.identifier), 0, one.extent, 1 if one.parent is None else one.parent.number)
        + one.identifier
        + bytes(len(one.identifier) % 2)
        for one in directories
    )


def _directory(one: _Directory, date: bytes) -> bytes:
    """The records of a directory in the order of their identifiers (9.3)."""
    parent = one if one.parent is None else one.parent
    top = _SP + _px(_DIRECTORY, 2 + len(one.children)) + _ER if one.parent is None else _px(_DIRECTORY, 2)
    named = [(child.identifier, child.extent, BLOCK, True, name) for name, child in one.children.items()]
    named += [(file.identifier, file.extent, len(file.content), False, name) for name, file in one.files.items()]
    records = [
        _record(b"\0", one.extent, BLOCK, True, date, top),
        _record(b"\x01", parent.extent, BLOCK, True, date, _px(_DIRECTORY, 2)),
    ]
    for identifier, extent, size, is_directory, name in sorted(named):
        attributes = _px(_DIRECTORY, 2) if is_directory else _px(_FILE, 1)
        records.append(_record(identifier, extent, size, is_directory, date, attributes + _nm(name)))
    data = b"".join(records)
    if len(data) > BLOCK:
        raise UnsupportedError("too many files for an image of this kind", finding="too-many-files")
    return _padded(data)


def _record(identifier: bytes, extent: int, size: int, is_directory: bool, date: bytes, attributes: bytes) -> bytes:
    """A directory record (9.1) with its system use entries."""
    body = to_both32(extent) + to_both32(size) + date + bytes((2 if is_directory else 0, 0, 0)) + _both16(1)
    body += bytes((len(identifier),)) + identifier + bytes(1 - len(identifier) % 2) + attributes
    body += bytes(len(body) % 2)
    if len(body) + 2 > _LONGEST_RECORD:
        raise UnsupportedError("the name of a file is too long for an image of this kind", finding="odd-name")
    return bytes((len(body) + 2, 0)) + body


def _px(mode: int, links: int) -> bytes:
    return b"PX\x24\x01" + to_both32(mode) + to_both32(links) + to_both32(0) * 2


def _nm(name: str) -> bytes:
    spelt = name.encode("utf-8")
    return b"NM" + bytes((min(5 + len(spelt), 255), 1, 0)) + spelt


def _record_date(when: int) -> bytes:
    found = time.gmtime(when)
    return bytes((found.tm_year - 1900, *found[1:6], 0))


def _both16(value: int) -> bytes:
    return struct.pack("<H", value) + struct.pack(">H", value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)
