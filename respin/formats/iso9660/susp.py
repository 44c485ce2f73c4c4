"""System use entries (SUSP, IEEE P1281) and what Rock Ridge (RRIP, IEEE P1282) and zisofs say in them."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError
from respin.formats.iso9660.fields import BLOCK, both32

MAX_AREAS = 64
"""Continuation areas that one record may chain; real ones have one."""

_KNOWN = (b"SP", b"CE", b"RR", b"PX", b"NM", b"TF", b"SL", b"CL", b"PL", b"RE", b"PN", b"ZF", b"ER")
NAME_SPECIAL = 0x06  # "current" and "parent": names that must not occur outside "." and ".."


class Entry(NamedTuple):
    """One entry: signature, all its bytes, and the byte offset in the image where it stands."""

    signature: bytes
    raw: bytes
    offset: int

    @property
    def body(self) -> bytes:
        """What follows signature, length and version."""
        return self.raw[4:]

    def block(self, where: str) -> int:
        """The block number that a CE, CL or PL entry names, as recorded."""
        if len(self.raw) < 12:
            raise MalformedError(f"a {self.signature.decode('latin-1')} entry is too short", where=where)
        return both32(self.raw, 4, where)


class Area(NamedTuple):
    """A continuation area: block (from the start of the image), byte offset in it, length in bytes."""

    block: int
    offset: int
    length: int


class RockRidge(NamedTuple):
    """What the entries of one record mean; None where an entry is missing."""

    name: Optional[bytes]
    mode: Optional[int]
    target: Optional[bytes]
    """Of a symbolic link."""
    child: Optional[int]
    """CL: block of the relocated directory for which this record stands."""
    parent: Optional[int]
    """PL: block of the directory to which a relocated directory belongs."""
    relocated: bool
    """RE: this record is the relocated directory itself."""
    compressed: bool
    """ZF: the content is compressed by zisofs."""


def skip_length(system_use: bytes) -> Optional[int]:
    """The bytes to skip in every later system use field, from the SP entry of the root's "." record.

    None when there is no SP entry, that is, when the tree doesn't use SUSP. CD-ROM XA puts 14 bytes before it.
    """
    for start in (0, 14):
        if system_use[start : start + 3] == b"SP\x07" and system_use[start + 4 : start + 6] == b"\xbe\xef":
            return system_use[start + 6] if len(system_use) > start + 6 else None
    return None


def looks_like_entries(system_use: bytes) -> bool:
    """Whether system use bytes begin like an entry of Rock Ridge or SUSP. Linux reads them without an SP entry, too."""
    return system_use[:2] in _KNOWN and system_use[2:3] >= b"\x04" and system_use[3:4] == b"\x01"


def read_entries(
    view: ByteView, system_use: bytes, offset: int, base: int = 0
) -> Tuple[Tuple[Entry, ...], Tuple[Area, ...]]:
    """All entries of a record, continuation areas followed, and those areas.

    ``system_use`` stands at byte ``offset`` of the image, in a volume that begins at block ``base``.
    Raises MalformedError for entries that leave their field and for continuation areas that chain in a circle.
    """
    entries: List[Entry] = []
    areas: List[Area] = []
    field, at = system_use, offset
    while True:
        following = _read_field(field, at, entries, view.name, base)
        if following is None:
            return tuple(entries), tuple(areas)
        if following in areas or len(areas) == MAX_AREAS:
            raise MalformedError(
                "continuation areas of system use entries chain in a circle", where=f"{view.name}, byte {offset}"
            )
        areas.append(following)
        at = following.block * BLOCK + following.offset
        field = view.read(at, following.length)


def _read_field(field: bytes, offset: int, entries: List[Entry], name: str, base: int) -> Optional[Area]:
    following = None
    at = 0
    while at + 4 <= len(field) and (signature := field[at : at + 2]) not in (b"\0\0", b"ST"):
        length = field[at + 2]
        if length < 4 or at + length > len(field):
            raise MalformedError(
                f"the entry says that it is {length} bytes long, which cannot be", where=_where(name, offset + at)
            )
        entry = Entry(signature, field[at : at + length], offset + at)
        entries.append(entry)
        if signature == b"CE":
            where = _where(name, offset + at)
            if length < 28 or following is not None:
                raise MalformedError("the continuation entry is too short or not the only one", where=where)
            following = Area(entry.block(where) + base, both32(entry.raw, 12, where), both32(entry.raw, 20, where))
            if following.offset + following.length > BLOCK:
                raise MalformedError("a continuation area crosses the end of its block", where=where)
        at += length
    return following


def _where(name: str, offset: int) -> str:
    return f"{name}, system use entry at byte {offset}"


def interpret(entries: Tuple[Entry, ...], where: str, base: int = 0) -> RockRidge:
    """Rock Ridge's reading of ``entries`` in a volume that begins at block ``base``.

    Raises MalformedError for entries that are too short or contradict each other.
    """
    name: Optional[bytes] = None
    mode = child = parent = None
    signatures = set()
    for entry in entries:
        signature, raw, _ = entry
        signatures.add(signature)
        if signature == b"NM" and len(raw) > 4:
            if not raw[4] & NAME_SPECIAL:
                name = (name or b"") + raw[5:]
        elif signature == b"PX":
            if len(raw) < 12:
                raise MalformedError("a PX entry is too short", where=where)
            mode = both32(raw, 4, where)
        elif signature == b"CL":
            child = entry.block(where) + base
        elif signature == b"PL":
            parent = entry.block(where) + base
    return RockRidge(
        name=name,
        mode=mode,
        target=_target(entries, where) if b"SL" in signatures else None,
        child=child,
        parent=parent,
        relocated=b"RE" in signatures,
        compressed=b"ZF" in signatures,
    )


def _target(entries: Tuple[Entry, ...], where: str) -> bytes:
    """The target of a symbolic link from its SL entries (RRIP 4.1.3)."""
    parts: List[bytes] = []
    joined = False
    for entry in entries:
        if entry.signature != b"SL":
            continue
        at = 1
        body = entry.body
        while at + 2 <= len(body):
            flags, length = body[at], body[at + 1]
            if at + 2 + length > len(body):
                raise MalformedError("a component of a symbolic link leaves its entry", where=where)
            text = body[at + 2 : at + 2 + length]
            if flags & 0x02:
                text = b"."
            elif flags & 0x04:
                text = b".."
            elif flags & 0x08:
                text = b""
            if joined:
                parts[-1] += text
            else:
                parts.append(text)
            joined = bool(flags & 0x01)
            at += 2 + length
    return b"/" if parts == [b""] else b"/".join(parts)
