"""ELF shared objects: the name by which the dynamic linker knows a library (DT_SONAME). System V gABI, chapter 5.

Covered: ELF files of any class and byte order, by their program headers, as the linker reads them.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError

_SHARED = 3  # ET_DYN
_LOAD, _DYNAMIC = 1, 2
_END, _STRTAB, _SONAME = 0, 5, 14
_MOST_HEADERS = 1024
_MOST_TAGS = 1 << 16
_LONGEST_NAME = 4096


class SharedObject(NamedTuple):
    """A library. ``kind`` is class, byte order and machine; ``soname`` is empty if it has none."""

    kind: Tuple[int, int, int]
    soname: bytes


def read_shared_object(view: ByteView) -> Optional[SharedObject]:
    """What ``view`` holds, or None where it is no shared object that the linker could load."""
    try:
        return _read(view)
    except (MalformedError, struct.error):
        return None


def _read(view: ByteView) -> Optional[SharedObject]:
    head = view.read(0, min(64, view.size))
    if len(head) < 52 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    order, wide = "<" if head[5] == 1 else ">", head[4] == 2
    kind, machine = struct.unpack_from(order + "HH", head, 16)
    (start,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
    size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    layout = struct.Struct(order + ("IIQQQQQQ" if wide else "IIIIIIII"))
    if kind != _SHARED or size != layout.size or count > _MOST_HEADERS:
        return None
    segments: List[Tuple[Any, ...]] = list(layout.iter_unpack(view.read(start, size * count)))
    dynamic = next((one for one in segments if one[0] == _DYNAMIC), None)
    if dynamic is None:
        return None
    entry = struct.Struct(order + ("qQ" if wide else "iI"))
    offset, _, length = _place(dynamic, wide)
    length = min(length, _MOST_TAGS * entry.size)
    tags: Dict[int, int] = {}
    for tag, value in entry.iter_unpack(view.read(offset, length - length % entry.size)):
        if tag == _END:
            break
        tags.setdefault(tag, value)
    what = (head[4], head[5], machine)
    if _SONAME not in tags:
        return SharedObject(what, b"")
    place = tags.get(_STRTAB, 0) + tags[_SONAME]
    for offset, address, length in (_place(one, wide) for one in segments if one[0] == _LOAD):
        if address <= place < address + length:
            most = min(_LONGEST_NAME, address + length - place)
            return SharedObject(what, view.read(offset + place - address, most).partition(b"\0")[0])
    return None


def _place(segment: Tuple[Any, ...], wide: bool) -> Tuple[int, int, int]:
    """Offset and address of a segment, and its length in the file."""
    return (segment[2], segment[3], segment[5]) if wide else (segment[1], segment[2], segment[4])
