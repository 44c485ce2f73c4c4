"""Berkeley DB files as rpm's bdb keeps them: hash (``Packages``) and B-tree (indexes), versions 8 to 10, both orders.

Covered is what reading takes: pages of a hash's buckets, leaves of a B-tree, overflow pages. Logs and environments are
not looked at: rpm writes without them. Duplicates, encryption and checksums are refused: rpm never made such files.
"""

from __future__ import annotations

import struct
from typing import Dict, Iterator, List, NamedTuple, Set, Tuple

from respin.errors import MalformedError, UnsupportedError

_MAGICS = {0x061561: "hash", 0x053162: "btree"}
_VERSIONS = {"hash": (8, 9, 10), "btree": (9, 10)}
_INTERNAL, _HASH_PAGES, _LEAF, _OVERFLOW = 3, (2, 8, 13), 5, 7
_PAGE_HEADER = 26
_LARGEST_VALUE = 256 << 20
_ONE, _OFF_PAGE, _DELETED = 1, 3, 0x80


class Page(NamedTuple):
    """A page: what follows it, how many items it has, its type, all its bytes."""

    next: int
    items: int
    free: int
    kind: int
    data: bytes


class BerkeleyFile:
    """A file in memory; ``kind`` is "hash" or "btree", ``order`` the byte order of its maker, "<" or ">"."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where
        if len(data) < 512:
            raise self.bad(f"it has {len(data)} bytes")
        self.order = next((o for o in "<>" if struct.unpack_from(f"{o}I", data, 12)[0] in _MAGICS), "")
        if not self.order:
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
        pages = self._hash_pages() if self.kind == "hash" else self._leaves()
        room = len(self._data)  # nothing is stored twice
        for page in pages:
            for key, value in self._pairs(page):
                room -= len(key) + len(value)
                if room < 0:
                    raise self.bad("it holds more than its size")
                yield key, value

    def _hash_pages(self) -> Iterator[Page]:
        buckets = self._u32(72)
        if buckets >= self._last + 1:
            raise self.bad(f"{buckets} buckets in {self._last + 1} pages")
        seen: Set[int] = set()
        for bucket in range(buckets + 1):
            number = bucket + self._u32(96 + 4 * bucket.bit_length())
            while number:
                page = self._page(number, seen, _HASH_PAGES)
                yield page
                number = page.next

    def _leaves(self) -> Iterator[Page]:
        seen: Set[int] = set()
        number = self._u32(88)
        while True:
            page = self._page(number, seen, (_INTERNAL, _LEAF))
            if page.kind == _LEAF:
                break
            (first,) = struct.unpack_from(f"{self.order}H", page.data, _PAGE_HEADER)
            if not page.items or first + 8 > self._size:
                raise self.bad(f"page {number} of the tree leads nowhere")
            (number,) = struct.unpack_from(f"{self.order}I", page.data, first + 4)
        while True:
            yield page
            if not page.next:
                return
            page = self._page(page.next, seen, (_LEAF,))

    def _pairs(self, page: Page) -> Iterator[Tuple[bytes, bytes]]:
        offsets = struct.unpack_from(f"{self.order}{page.items}H", page.data, _PAGE_HEADER)
        if page.items % 2 or any(not _PAGE_HEADER + 2 * page.items <= offset < self._size for offset in offsets):
            raise self.bad("the items of a page lie outside it")
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
        return Page(following, items, free, kind, data)

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
    """The headers (without magic) in a ``Packages``, by record number. Number 0 counts the others and is left out."""
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
        if number:
            headers[number] = value
    return headers
