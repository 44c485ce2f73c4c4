"""Taking RPM files apart and putting them together again, wrongly on purpose. Shares no code with respin."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from typing import Callable, List, Optional, Sequence, Tuple

MAGIC = b"\x8e\xad\xe8\x01\0\0\0\0"
SIG_REGION, MAIN_REGION = 62, 63
RSAHEADER, SHA1HEADER, SHA256HEADER, SIG_SIZE, SIG_PGP, SIG_MD5 = 268, 269, 273, 1000, 1002, 1004
PAYLOAD_DIGEST_TAGS = (5092, 5093, 5097)
_WIDTH = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}


@dataclass(frozen=True)
class Entry:
    """An index entry with its data."""

    tag: int
    kind: int
    count: int
    data: bytes


@dataclass(frozen=True)
class Parts:
    """Lead, entries of the signature header, main header as bytes, payload."""

    lead: bytes
    signature: Tuple[Entry, ...]
    header: bytes
    payload: bytes

    def with_signature(self, *entries: Entry, without: Sequence[int] = ()) -> "Parts":
        """Entries of the signature header added or replaced, others dropped."""
        gone = {entry.tag for entry in entries} | set(without)
        kept = [entry for entry in self.signature if entry.tag not in gone]
        return replace(self, signature=tuple(sorted([*kept, *entries], key=lambda entry: entry.tag)))

    def with_right_digests(self) -> "Parts":
        """What an attacker does after a change: every unsigned digest and size made right again."""
        whole = self.header + self.payload
        return self.with_signature(
            Entry(SHA1HEADER, 6, 1, hashlib.sha1(self.header).hexdigest().encode() + b"\0"),
            Entry(SHA256HEADER, 6, 1, hashlib.sha256(self.header).hexdigest().encode() + b"\0"),
            Entry(SIG_SIZE, 4, 1, struct.pack(">I", len(whole))),
            Entry(SIG_MD5, 7, 16, hashlib.md5(whole).digest()),
        )

    def join(self) -> bytes:
        """The file."""
        signature = build_header(self.signature, SIG_REGION)
        return self.lead + signature + bytes(-len(signature) % 8) + self.header + self.payload


def take_apart(data: bytes) -> Parts:
    """Split a well-formed RPM."""
    signature, end = entries_of(data, 96)
    start = end + -end % 8
    index, store = struct.unpack(">II", data[start + 8 : start + 16])
    payload = start + 16 + 16 * index + store
    return Parts(data[:96], tuple(signature), data[start:payload], data[payload:])


def entries_of(data: bytes, start: int) -> Tuple[List[Entry], int]:
    """The entries of a header, without its region, and where the header ends."""
    assert data[start : start + 8] == MAGIC
    index, size = struct.unpack(">II", data[start + 8 : start + 16])
    store = start + 16 + 16 * index
    found = []
    for number in range(index):
        tag, kind, offset, count = struct.unpack_from(">IIiI", data, start + 16 + 16 * number)
        if tag in (SIG_REGION, MAIN_REGION):
            continue
        if kind in _WIDTH:
            end = store + offset + _WIDTH[kind] * count
        else:
            end = store + offset
            for _ in range(count):
                end = data.index(b"\0", end) + 1
        found.append(Entry(tag, kind, count, data[store + offset : end]))
    return found, store + size


def build_header(
    entries: Sequence[Entry],
    region: Optional[int],
    *,
    outside: Sequence[Entry] = (),
    edit_index: Optional[Callable[[List[List[int]]], None]] = None,
) -> bytes:
    """A header of ``entries`` below a region, and entries outside it; ``edit_index`` may spoil the index entries."""
    store = bytearray()
    index: List[List[int]] = []

    def add(entry: Entry) -> None:
        store.extend(bytes(-len(store) % {3: 2, 4: 4, 5: 8}.get(entry.kind, 1)))
        index.append([entry.tag, entry.kind, len(store), entry.count])
        store.extend(entry.data)

    for entry in entries:
        add(entry)
    if region is not None:
        offset = len(store)
        store.extend(struct.pack(">IIiI", region, 7, -16 * (len(index) + 1), 16))
        index.insert(0, [region, 7, offset, 16])
    for entry in outside:
        add(entry)
    if edit_index:
        edit_index(index)
    packed = b"".join(struct.pack(">IIiI", *row) for row in index)
    return MAGIC + struct.pack(">II", len(index), len(store)) + packed + bytes(store)
