"""A raw reader of ISO images for tests. It shares nothing with respin: struct, offsets from the standards, no checks.

``relocate`` builds, by brute force, the image that replacing one extent must give. ``records`` lists every directory
record with its bytes.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Tuple, Union

B = 2048


def le(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<L", data, at)[0])


def pvd_space(data: bytes) -> int:
    return le(data, 16 * B + 80)


def bases(data: Union[bytes, bytearray]) -> Tuple[int, ...]:
    """The blocks from which the sets of descriptors count: 0, and 16 when xorriso wrote a second set."""
    last = 16
    while data[last * B] != 255:
        last += 1
    return (0, 16) if last < 32 and data[32 * B : 32 * B + 6] == b"\1CD001" else (0,)


def sets(data: Union[bytes, bytearray]) -> Iterator[Tuple[int, int]]:
    """(first block, block from which it counts) of every set: those of ``bases``, and copies with the same roots."""
    roots = {(base, le(data, at + 158)) for base in bases(data) for at, _ in volumes(data, base)}
    taken = 0
    for first in range(16, 512):
        if first < taken or data[first * B : first * B + 6] != b"\1CD001":
            continue
        for base in bases(data):
            if (base, le(data, first * B + 158)) in roots:
                yield first, base
        while data[first * B + 1 : first * B + 6] == b"CD001":
            first += 1
        taken = first


def volumes(data: Union[bytes, bytearray], base: int = 0, first: int = 0) -> Iterator[Tuple[int, bool]]:
    """(byte offset of the descriptor, whether it is Joliet's) of one set."""
    at = (first or 16 + base) * B
    while data[at] != 255:
        if data[at] in (1, 2):
            yield at, data[at] == 2
        at += B


@dataclass(frozen=True)
class Raw:
    """One record: path, byte offset, bytes, all of its system use entries as (signature, offset, bytes)."""

    path: str
    offset: int
    raw: bytes
    entries: Tuple[Tuple[bytes, int, bytes], ...]
    base: int = 0

    @property
    def extent(self) -> int:
        """Counted from the start of the image."""
        return le(self.raw, 2) + self.base

    @property
    def size(self) -> int:
        return le(self.raw, 10)

    @property
    def is_directory(self) -> bool:
        return bool(self.raw[25] & 2)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def identifier(self) -> bytes:
        return self.raw[33 : 33 + self.raw[32]]


def _entries(data: Union[bytes, bytearray], raw: bytes, offset: int, base: int) -> Iterator[Tuple[bytes, int, bytes]]:
    start = 33 + raw[32] + (raw[32] + 1) % 2
    areas = [(offset + start, offset + len(raw))]
    for begin, end in areas:
        at = begin
        while at + 4 <= end and data[at + 2] >= 4:
            entry = data[at : at + data[at + 2]]
            if entry[:2] == b"CE":
                where = (le(entry, 4) + base) * B + le(entry, 12)
                areas.append((where, where + le(entry, 20)))
            yield entry[:2], at, entry
            at += len(entry)


def records(data: Union[bytes, bytearray], joliet: bool, base: int = 0) -> List[Raw]:
    """Every record of the first tree of the kind in a set, as recorded (relocated directories where they are)."""
    root = next(at for at, is_joliet in volumes(data, base) if is_joliet == joliet)
    found: List[Raw] = []
    todo = [("", le(data, root + 158) + base, le(data, root + 166))]
    while todo:
        prefix, extent, size = todo.pop(0)
        at = extent * B
        while at < extent * B + size:
            if not data[at]:
                at = (at // B + 1) * B
                continue
            raw = data[at : at + data[at]]
            entries = () if joliet else tuple(_entries(data, bytes(raw), at, base))
            name = b"".join(e[5:] for s, _, e in entries if s == b"NM").decode(
                "utf-8", "surrogateescape"
            ) or _identifier_name(raw, joliet)
            record = Raw(f"{prefix}/{name}", at, bytes(raw), entries, base)
            found.append(record)
            if record.is_directory and name not in (".", ".."):
                todo.append((record.path, record.extent, record.size))
            at += len(raw)
    return found


def _identifier_name(raw: bytes, joliet: bool) -> str:
    identifier = raw[33 : 33 + raw[32]]
    if identifier in (b"\0", b"\1"):
        return "." if identifier == b"\0" else ".."
    return identifier.decode("utf-16-be" if joliet else "latin-1", "replace")


def content(data: bytes, path: str) -> bytes:
    """The content of a file by the path that ``records`` gives it in the Rock Ridge tree."""
    record = next(r for r in records(data, False) if r.path == path)
    return data[record.extent * B : record.extent * B + record.size]


def relocate(data: bytes, start: int, old_size: int, new: bytes, growth: int) -> bytes:
    """The image with the extent at block ``start`` replaced by ``new`` and the whole ``growth`` blocks larger.

    With an ``old_size`` of 0 blocks are inserted.
    Every pointer that the standards know is found anew in ``data`` and rewritten in the result, one by one.
    """
    old_blocks = -(-old_size // B)
    out = bytearray(data[: start * B] + new)
    out += bytes((start + old_blocks + growth) * B - len(out))
    out += data[(start + old_blocks) * B :]

    def block(lba: int) -> int:
        if lba < start:
            return lba
        return start if lba < start + old_blocks else lba + growth

    def put(at: int, layout: str, *values: int) -> None:
        struct.pack_into(layout, out, block(at // B) * B + at % B, *values)

    for first, base in sets(data):
        for at, joliet in volumes(data, base, first):
            _volume(data, put, block, at, base, growth)
            for record in records(data, joliet, base):
                _both(put, record.offset + 2, block(record.extent) - base)
                if old_blocks and record.extent == start and record.size:
                    _both(put, record.offset + 10, len(new))
                for signature, offset, entry in record.entries:
                    if signature in (b"CE", b"CL", b"PL"):
                        _both(put, offset + 4, block(le(entry, 4) + base) - base)
    _boot(data, put, block)
    _partitions(data, out, put, block, growth)
    _apple(data, put, block)
    return bytes(out)


def _both(put: Callable[..., None], at: int, value: int) -> None:
    put(at, "<L", value)
    put(at + 4, ">L", value)


def _volume(
    data: bytes, put: Callable[..., None], block: Callable[[int], int], at: int, base: int, growth: int
) -> None:
    _both(put, at + 80, le(data, at + 80) + growth)
    _both(put, at + 158, block(le(data, at + 158) + base) - base)
    for order, field in (("<L", 140), ("<L", 144), (">L", 148), (">L", 152)):
        table = struct.unpack_from(order, data, at + field)[0]
        if table:
            put(at + field, order, block(table + base) - base)
            entry, end = (table + base) * B, (table + base) * B + le(data, at + 132)
            while entry < end:
                put(entry + 2, order, block(struct.unpack_from(order, data, entry + 2)[0] + base) - base)
                entry += 8 + data[entry] + data[entry] % 2


def _boot(data: bytes, put: Callable[..., None], block: Callable[[int], int]) -> None:
    catalogue = le(data, 17 * B + 71)
    for first, _ in sets(data):
        if data[(first + 1) * B : (first + 1) * B + 30] == data[17 * B : 17 * B + 30]:
            put((first + 1) * B + 71, "<L", block(catalogue))
    for at in range(catalogue * B + 32, catalogue * B + B, 32):
        if data[at] == 0x88:
            image = le(data, at + 8)
            put(at + 8, "<L", block(image))
            if le(data, image * B + 8) in (16, 64) and le(data, image * B + 12) == image:
                put(image * B + 12, "<L", block(image))
            own = struct.unpack_from("<Q", data, image * B + 2548)[0]
            if own == image * 4 + 5:
                put(image * B + 2548, "<Q", block(image) * 4 + 5)
            code = struct.unpack_from("<Q", data, 432)[0]
            if code in (image * 4, image * 4 + 4):
                put(432, "<Q", block(image) * 4 + code - image * 4)


def _partitions(
    data: bytes, out: bytearray, put: Callable[..., None], block: Callable[[int], int], growth: int
) -> None:
    def first(sector: int) -> int:
        return block(sector // 4) * 4 + sector % 4

    for at in range(446, 510, 16):
        start, count = struct.unpack_from("<LL", data, at + 8)
        if count:
            end = first(start + count - 1) + 1
            put(at + 8, "<LL", first(start), end - first(start))
            for field, old, sector in ((1, start, first(start)), (5, start + count - 1, end - 1)):
                if data[at + field : at + field + 3] == _chs(old):
                    put(at + field, "3s", _chs(sector))
    if data[512:520] != b"EFI PART":
        return
    alternate = struct.unpack_from("<Q", data, 544)[0]
    for header in (1, alternate):
        array, count = struct.unpack_from("<QL", data, header * 512 + 72)
        for entry in range(array * 512, array * 512 + count * 128, 128):
            if any(data[entry : entry + 16]):
                low, high = struct.unpack_from("<QQ", data, entry + 32)
                put(entry + 32, "<QQ", first(low), first(high))
        usable = struct.unpack_from("<QQ", data, header * 512 + 40)
        mine, other = (1, alternate + growth * 4) if header == 1 else (alternate + growth * 4, 1)
        put(header * 512 + 24, "<QQQQ", mine, other, usable[0], usable[1] + growth * 4)
        put(header * 512 + 72, "<Q", first(array))
        new_array = out[first(array) * 512 : first(array) * 512 + count * 128]
        put(header * 512 + 88, "<L", zlib.crc32(new_array))
        place = first(header) * 512
        put(header * 512 + 16, "<L", zlib.crc32(out[place : place + 16] + bytes(4) + out[place + 20 : place + 92]))


def _chs(sector: int) -> bytes:
    """The address of a sector with 64 heads and 32 sectors."""
    cylinder = sector // 2048
    if cylinder > 1023:
        return bytes((63, 32 | 3 << 6, 0xFF))
    return bytes((sector // 32 % 64, sector % 32 + 1 | cylinder >> 8 << 6, cylinder & 0xFF))


def _apple(data: bytes, put: Callable[..., None], block: Callable[[int], int]) -> None:
    """An Apple partition map in blocks of 2048 bytes."""
    at = B
    while data[at : at + 2] == b"PM":
        start, count = struct.unpack_from(">LL", data, at + 8)
        put(at + 8, ">LL", block(start), block(start + count - 1) + 1 - block(start))
        at += B


def differing(one: bytes, other: bytes) -> Dict[int, int]:
    """Runs of differing bytes: offset to length (for messages)."""
    runs: Dict[int, int] = {}
    start = None
    for at in range(0, min(len(one), len(other)), B):
        if one[at : at + B] == other[at : at + B]:
            continue
        for i in range(at, min(at + B, len(one), len(other))):
            if one[i] != other[i]:
                start = i if start is None or i != start + runs[start] else start
                runs[start] = i - start + 1
    return runs
