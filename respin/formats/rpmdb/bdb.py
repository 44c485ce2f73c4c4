"""Berkeley DB files as rpm's bdb keeps them: hash (``Packages``) and B-tree (indexes), versions 8 to 10, both orders.

Covered is what reading takes: pages of a hash's buckets, leaves of a B-tree, overflow pages. What a look-up would miss,
because it is in another bucket or out of order, is refused. Logs and environments are not looked at: rpm writes without
them. Duplicates, encryption and checksums are refused: rpm never made such files.
"""

from __future__ import annotations

import struct
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from respin.errors import MalformedError, UnsupportedError

_MAGICS = {0x061561: "hash", 0x053162: "btree"}
_VERSIONS = {"hash": (8, 9, 10), "btree": (9, 10)}
_INTERNAL, _HASH_PAGES, _LEAF, _OVERFLOW = 3, (2, 8, 13), 5, 7
_PAGE_HEADER = 26
_LARGEST_VALUE = 256 << 20
_MOST_LEVELS = 32
_ONE, _OFF_PAGE, _DELETED = 1, 3, 0x80


class Page(NamedTuple):
    """A page: its number, what follows it, how many items it has, its type, all its bytes."""

    number: int
    next: int
    items: int
    free: int
    kind: int
    data: bytes


def is_berkeley(data: bytes) -> bool:
    """Whether ``data`` has the magic number of a hash or a B-tree, in either byte order."""
    return len(data) >= 512 and any(struct.unpack_from(f"{order}I", data, 12)[0] in _MAGICS for order in "<>")


class BerkeleyFile:
    """A file in memory; ``kind`` is "hash" or "btree", ``order`` the byte order of its maker, "<" or ">"."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where
        if len(data) < 512:
            raise self.bad(f"it has {len(data)} bytes")
        self.order = "<" if struct.unpack_from("<I", data, 12)[0] in _MAGICS else ">"
        if not is_berkeley(data):
            raise UnsupportedError("this is not a Berkeley DB hash or B-tree", where=where, finding="rpmdb")
        self.kind = _MAGICS[self._u32(12)]
        version, self._size, last = self._u32(16), self._u32(20), self._u32(32)
        if version not in _VERSIONS[self.kind] or data[24] or data[26]:
            raise UnsupportedError(
                f"a Berkeley DB {self.kind} of version {version} is not supported", where=where, finding="rpmdb"
            )
        if self._size not in (1 << bits for bits in range(9, 17)) or (last + 1) * self._size > len(data):
            raise self.bad(f"{last + 1} pages of {self._size} bytes in {len(data)}")
        self._last = last

    def items(self) -> Iterator[Tuple[bytes, bytes]]:
        """Every key and value, in the file's order. Raises MalformedError when pages form a loop or do not fit."""
        room = len(self._data)  # nothing is stored twice
        for key, value in self._buckets() if self.kind == "hash" else self._tree():
            room -= len(key) + len(value)
            if room < 0:
                raise self.bad("it holds more than its size")
            yield key, value

    def _buckets(self) -> Iterator[Tuple[bytes, bytes]]:
        buckets, high, low = (self._u32(offset) for offset in (72, 76, 80))
        if buckets >= self._last + 1:
            raise self.bad(f"{buckets} buckets in {self._last + 1} pages")
        seen: Set[int] = set()
        for bucket in range(buckets + 1):
            number = bucket + self._u32(96 + 4 * bucket.bit_length())
            while number:
                page = self._page(number, seen, _HASH_PAGES)
                for key, value in self._pairs(page):
                    place = _hash(key) & high
                    if (place if place <= buckets else place & low) != bucket:
                        raise self.bad("a key is in another bucket than rpm looks in")
                    yield key, value
                number = page.next

    def _tree(self) -> Iterator[Tuple[bytes, bytes]]:
        last: Optional[bytes] = None
        following = 0
        for page, low, high in self._leaves(self._u32(88), b"", None, set(), 1):
            if last is not None and following != page.number:
                raise self.bad(f"page {page.number} of the tree does not follow the one before")
            for key, value in self._pairs(page):
                if (last is not None and key <= last) or key < low or (high is not None and key >= high):
                    raise self.bad("the keys of the tree are out of order")
                last = key
                yield key, value
            last, following = last if last is not None else b"", page.next
        if following:
            raise self.bad(f"page {following} follows the last one of the tree")

    def _leaves(
        self, number: int, low: bytes, high: Optional[bytes], seen: Set[int], depth: int
    ) -> Iterator[Tuple[Page, bytes, Optional[bytes]]]:
        """The leaves below a page in order, each with the least key that may be there and the one that may not."""
        page = self._page(number, seen, (_INTERNAL, _LEAF))
        if page.kind == _LEAF:
            yield page, low, high
            return
        children: List[Tuple[bytes, int]] = []
        for offset in self._offsets(page):
            if offset + 12 > self._size:
                raise self.bad("the items of a page lie outside it")
            length, kind, _, child = struct.unpack_from(f"{self.order}HBBI", page.data, offset)
            key = page.data[offset + 12 : offset + 12 + length]
            if kind == _OFF_PAGE and len(key) == 12:
                key = self._overflow(*struct.unpack_from(f"{self.order}II", key, 4))
            elif kind != _ONE or len(key) != length:
                raise self.bad("an item of an unknown type")
            children.append((key if children else low, child))
        if depth > _MOST_LEVELS or not children:
            raise self.bad(f"page {number} of the tree leads nowhere")
        for place, (key, child) in enumerate(children):
            end = children[place + 1][0] if place + 1 < len(children) else high
            yield from self._leaves(child, key, end, seen, depth + 1)

    def _pairs(self, page: Page) -> Iterator[Tuple[bytes, bytes]]:
        offsets = self._offsets(page)
        if page.items % 2:
            raise self.bad("a page has a key without a value")
        for number in range(0, page.items, 2):
            ends = (offsets[number - 1] if number else self._size, offsets[number])
            if self.kind == "hash":
                yield (
                    self._hash_item(page, offsets[number], ends[0]),
                    self._hash_item(page, offsets[number + 1], ends[1]),
                )
            else:
                pair = tuple(self._leaf_item(page, offsets[number + more]) for more in (0, 1))
                if pair[0] is not None and pair[1] is not None:
                    yield pair[0], pair[1]

    def without_slack(self) -> bytes:
        """The file with zeros in each byte that means nothing: Berkeley DB leaves there whatever its memory held."""
        result = bytearray(self._data)
        for number in range(1, self._last + 1):
            start = number * self._size
            data = self._data[start : start + self._size]
            _, _, _, items, free, _, kind = struct.unpack_from(f"{self.order}IIIHHBB", data, 8)
            page = Page(number, 0, items, free, kind, data)
            kept = bytearray(self._size)
            kept[:_PAGE_HEADER] = data[:_PAGE_HEADER]
            if kind == _OVERFLOW:
                kept[: _PAGE_HEADER + free] = data[: _PAGE_HEADER + free]
            elif kind in (_INTERNAL, _LEAF, *_HASH_PAGES):
                end = self._size
                kept[: _PAGE_HEADER + 2 * items] = data[: _PAGE_HEADER + 2 * items]
                for offset in self._offsets(page):
                    self._keep(page, offset, end, kept)
                    end = offset
            if len(kept) != self._size:
                raise self.bad(f"the items of page {number} leave it")
            result[start : start + self._size] = kept
        return bytes(result)

    def _keep(self, page: Page, start: int, end: int, kept: bytearray) -> None:
        """Copy the item at ``start`` without the bytes of it that have no meaning. ``end``: of an item of a hash."""
        data = page.data
        if page.kind in _HASH_PAGES:
            kept[start:end] = data[start:end]
            if data[start] == _OFF_PAGE:
                kept[start + 1 : start + 4] = bytes(3)
            return
        fixed = 12 if page.kind == _INTERNAL else 3
        (length,) = struct.unpack_from(f"{self.order}H", data, start)
        off_page = data[start + 2] & ~_DELETED == _OFF_PAGE
        if page.kind == _LEAF and off_page:
            kept[start : start + 12] = bytes(2) + data[start + 2 : start + 3] + bytes(1) + data[start + 4 : start + 12]
            return
        kept[start : start + fixed + length] = data[start : start + fixed + length]
        if page.kind == _INTERNAL:
            kept[start + 3] = 0
            if off_page:
                kept[start + 12 : start + 16] = bytes(2) + data[start + 14 : start + 15] + bytes(1)

    def _offsets(self, page: Page) -> Tuple[int, ...]:
        offsets: Tuple[int, ...] = struct.unpack_from(f"{self.order}{page.items}H", page.data, _PAGE_HEADER)
        if any(not _PAGE_HEADER + 2 * page.items <= offset < self._size for offset in offsets):
            raise self.bad("the items of a page lie outside it")
        return offsets

    def _hash_item(self, page: Page, start: int, end: int) -> bytes:
        if start < end:
            if page.data[start] == _ONE:
                return page.data[start + 1 : end]
            if page.data[start] == _OFF_PAGE and end - start == 12:
                return self._overflow(*struct.unpack_from(f"{self.order}II", page.data, start + 4))
        raise self.bad(f"an item of the unknown type {page.data[start]}")

    def _leaf_item(self, page: Page, start: int) -> "bytes | None":
        if start + 12 <= self._size or page.data[start + 2 : start + 3] == bytes((_ONE,)):
            length, kind = struct.unpack_from(f"{self.order}HB", page.data, start)
            if kind & _DELETED:
                return None
            if kind == _ONE and start + 3 + length <= self._size:
                return page.data[start + 3 : start + 3 + length]
            if kind == _OFF_PAGE:
                return self._overflow(*struct.unpack_from(f"{self.order}II", page.data, start + 4))
        raise self.bad("an item of an unknown type")

    def _overflow(self, number: int, length: int) -> bytes:
        if not 0 < length <= min(len(self._data), _LARGEST_VALUE):
            raise self.bad(f"a value of {length} bytes")
        pieces: List[bytes] = []
        seen: Set[int] = set()
        while length > 0:
            page = self._page(number, seen, (_OVERFLOW,))
            if not 0 < page.free <= min(length, self._size - _PAGE_HEADER):
                raise self.bad(f"overflow page {number} holds {page.free} bytes")
            pieces.append(page.data[_PAGE_HEADER : _PAGE_HEADER + page.free])
            length -= page.free
            number = page.next
        return b"".join(pieces)

    def _page(self, number: int, seen: Set[int], kinds: Tuple[int, ...]) -> Page:
        if not 0 < number <= self._last or number in seen:
            raise self.bad(f"page {number} is not there, or is used twice")
        seen.add(number)
        data = self._data[number * self._size : (number + 1) * self._size]
        own, _previous, following, items, free, _level, kind = struct.unpack_from(f"{self.order}IIIHHBB", data, 8)
        if own != number or kind not in kinds or _PAGE_HEADER + 2 * (items if kind != _OVERFLOW else 0) > self._size:
            raise self.bad(f"page {number} says that it is {own} of type {kind}")
        return Page(number, following, items, free, kind, data)

    def _u32(self, offset: int) -> int:
        (value,) = struct.unpack_from(f"{self.order}I", self._data, offset)
        return int(value)

    def bad(self, what: str) -> MalformedError:
        """The error for a damaged file."""
        return MalformedError(
            f"the RPM database is damaged: {what}",
            where=self._where,
            remedy="fetch the image again and compare its checksum",
            finding="rpmdb",
        )


def read_packages(data: bytes, where: str) -> Dict[int, bytes]:
    """The headers (without magic) by record number of a ``Packages``, where number 0 is the last that rpm gave away."""
    file = BerkeleyFile(data, where)
    if file.kind != "hash":
        raise file.bad("the packages are not in a hash")
    headers: Dict[int, bytes] = {}
    for key, value in file.items():
        if len(key) != 4:
            raise file.bad(f"a record's number has {len(key)} bytes")
        (number,) = struct.unpack(f"{file.order}I", key)
        if number in headers:
            raise file.bad(f"there are two records number {number}")
        headers[number] = value
    last = headers.pop(0, bytes(4))
    if len(last) != 4 or struct.unpack(f"{file.order}I", last)[0] < max(headers, default=0):
        raise file.bad("the count of its records is too small")
    return headers


def read_index(data: bytes, where: str) -> List[Tuple[bytes, int, int]]:
    """The rows (key, record number, position) of an index: a B-tree whose values are pairs of numbers."""
    file = BerkeleyFile(data, where)
    rows: List[Tuple[bytes, int, int]] = []
    for key, value in file.items():
        if len(value) % 8:
            raise file.bad(f"an index has a value of {len(value)} bytes")
        rows += [(key, *pair) for pair in struct.iter_unpack(f"{file.order}II", value)]
    if len(set(rows)) != len(rows):
        raise file.bad("an index has a row twice")
    return rows


def _hash(key: bytes) -> int:
    """Berkeley DB's own since version 2: that of Fowler, Noll and Vo, begun with 0."""
    value = 0
    for byte in key:
        value = value * 16777619 & 0xFFFF_FFFF ^ byte
    return value
