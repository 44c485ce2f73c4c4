"""Directory records for files that are added: identifiers, and fields cloned from a file that is there.

ECMA-119 sections 7.5 (identifiers), 9.1 (fields), 9.3 (order); RRIP 4.1 (PX, NM, TF). No clock is read: dates and
ownership are the sibling's.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Container, Dict, List, Mapping, NamedTuple, Sequence, Tuple, Union

from respin.errors import UnsupportedError, UsageError
from respin.formats.iso9660.descriptors import Naming
from respin.formats.iso9660.fields import BLOCK, both32, to_both32
from respin.formats.iso9660.layout import NewFile
from respin.formats.iso9660.names import node_name
from respin.formats.iso9660.records import ASSOCIATED, MULTI_EXTENT
from respin.formats.iso9660.tree import Directory, Node, Tree
from respin.safepath import show

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}")
"""New names are plain, and short enough for Joliet."""

READ_ONLY_FILE = 0o100444
_RR_PX, _RR_NM, _RR_TF = 0x01, 0x08, 0x80
_PX_SERIAL = 36  # offset of the file serial number in a PX entry of RRIP 1.12
_MAX_RECORD = 254

MAX_EXTENT = 0xFFFFFFFF
"""Bytes that one extent can hold (9.1.4)."""
EXTENT_UNIT = MAX_EXTENT + 1 - BLOCK
"""Bytes in all extents but the last of a file that needs several: the most that fills whole blocks."""

SortKey = Tuple[bytes, bytes]


class Part(NamedTuple):
    """What one extent holds of a file: bytes from ``offset`` on; ``last`` when nothing follows."""

    offset: int
    size: int
    last: bool


def split(size: int) -> List[Part]:
    """The extents of a file of ``size`` bytes: one if that can hold it, else as many as it takes (6.5.1)."""
    if size <= MAX_EXTENT:
        return [Part(0, size, True)]
    starts = range(0, size, EXTENT_UNIT)
    return [Part(start, min(EXTENT_UNIT, size - start), start + EXTENT_UNIT >= size) for start in starts]


class NewRecord(NamedTuple):
    """A record for one part of a new file, complete but for its extent."""

    file: NewFile
    part: Part
    identifier: bytes
    date: bytes
    sequence: bytes
    system_use: bytes

    def encode(self, lba: int) -> bytes:
        """The record's bytes with its extent at block ``lba``, as it is recorded."""
        flags = bytes((0 if self.part.last else MULTI_EXTENT, 0, 0))
        fixed = to_both32(lba) + to_both32(self.part.size) + self.date + flags + self.sequence
        named = bytes((len(self.identifier),)) + self.identifier + bytes(1 - len(self.identifier) % 2)
        body = b"\0" + fixed + named + self.system_use
        body += bytes((len(body) + 1) % 2)
        return bytes((len(body) + 1,)) + body


class ReplacedRecord(NamedTuple):
    """A record of a replaced file: one of the old ones, for one part of the new content."""

    node: Node
    path: str
    part: Part

    @property
    def identifier(self) -> bytes:
        return self.node.record.identifier

    def encode(self, lba: int) -> bytes:
        """The record's bytes with its extent at block ``lba``, as it is recorded."""
        raw = bytearray(self.node.record.raw)
        raw[2:18] = to_both32(lba) + to_both32(self.part.size)
        raw[25] = raw[25] & ~MULTI_EXTENT | (0 if self.part.last else MULTI_EXTENT)
        return bytes(raw)


Item = Union[Node, ReplacedRecord, NewRecord]


def new_records(
    tree: Tree, directory: Directory, files: Mapping[int, NewFile], preferred: Container[int], where: str
) -> List[NewRecord]:
    """The records for ``files`` in a directory of ``tree``; their keys number all new files of the image.

    ``preferred`` are blocks of replaced files, whose records are cloned when neither it nor the root holds a file.
    Raises UsageError for names that can't be used, UnsupportedError for a tree without a file to clone from.
    """
    if not files:
        return []
    template = _template(tree, directory, preferred, where)
    taken: Dict[str, None] = {}
    identifiers = [node.record.identifier for node in directory.nodes]
    for node in directory.nodes:
        if not node.is_special:
            taken[node_name(tree, node, where).lower()] = None
    versions = _has_versions(tree)
    serial = _last_serial(tree, where)
    records: List[NewRecord] = []
    for number, file in files.items():
        if not NAME.fullmatch(file.name) or file.name.endswith("."):
            raise UsageError(
                f"{show(file.name)!r} cannot be the name of a new file in the image",
                remedy="use up to 64 letters, digits and the signs . _ + -",
            )
        if file.name.lower() in taken:
            raise UsageError(
                f"the image has {file.path} already",
                where=where,
                remedy="respin works on a vendor's image, not on one that it has changed before",
                finding="name-taken",
            )
        taken[file.name.lower()] = None
        identifier = _identifier(tree.naming, file.name, identifiers, versions=versions)
        identifiers.append(identifier)
        system_use = _system_use(tree, template, file.name, (serial + 1 + number) & 0xFFFFFFFF)
        date, sequence = template.record.raw[18:25], template.record.raw[28:32]
        records += [NewRecord(file, part, identifier, date, sequence, system_use) for part in split(file.size)]
        if len(records[-1].encode(0)) > _MAX_RECORD:
            raise UsageError(f"the name {file.name} is too long for this image", remedy="choose a shorter one")
    return records


def sort_key(naming: Naming, identifier: bytes) -> SortKey:
    """What orders the records of a directory: name, then extension, padded with spaces (9.3); Joliet: code units."""
    if naming is Naming.JOLIET:
        return identifier, b""
    name, _, extension = identifier.partition(b";")[0].partition(b".")
    return name.ljust(255), extension.ljust(255)


def insert(nodes: Sequence[Item], records: Sequence[NewRecord], naming: Naming) -> List[Item]:
    """``nodes`` in their recorded order with every new record before the first that sorts behind it."""
    sequence = list(nodes)
    for record in records:
        key = sort_key(naming, record.identifier)
        place = len(sequence)
        for index, other in enumerate(sequence):
            if isinstance(other, Node) and other.is_special:
                continue
            if sort_key(naming, other.identifier) > key:
                place = index
                break
        sequence.insert(place, record)
    return sequence


def _template(tree: Tree, directory: Directory, preferred: Container[int], where: str) -> Node:
    replaced = (node for node in tree.nodes() if node.record.extent in preferred)
    for node in chain(directory.nodes, tree.root.nodes, replaced, tree.nodes()):
        if _is_plain(tree, node):
            return node
    raise UnsupportedError(
        f"the {tree.label} tree holds no regular file whose attributes a new one could take", where=where
    )


def _is_plain(tree: Tree, node: Node) -> bool:
    record, rock = node.record, node.rock_ridge
    if record.is_directory or record.flags & (ASSOCIATED | MULTI_EXTENT) or not record.size:
        return False
    return tree.skip is None or (rock is not None and rock.mode is not None and rock.mode & 0o170000 == 0o100000)


def _has_versions(tree: Tree) -> bool:
    """Whether files have identifiers that end with a version number (7.5.1)."""
    return any(
        node.record.identifier.endswith((b";1", b";\x001")) for node in tree.nodes() if not node.record.is_directory
    )


def _identifier(naming: Naming, name: str, taken: Sequence[bytes], *, versions: bool) -> bytes:
    if naming is Naming.JOLIET:
        return (name + (";1" if versions else "")).encode("utf-16-be")
    if naming is Naming.ENHANCED:
        return name.encode("ascii")
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem:
        stem, extension = name.replace(".", "_"), ""
    stem = re.sub(r"[^A-Z0-9]", "_", stem.upper())
    extension = re.sub(r"[^A-Z0-9]", "_", extension.upper())[:3]
    used = {identifier.partition(b";")[0].rstrip(b".") for identifier in taken}
    short, number = stem[:8], 0
    while (candidate := f"{short}.{extension}").rstrip(".").encode("ascii") in used:
        digits = f"{number:03}"
        short, number = stem[: 8 - len(digits)] + digits, number + 1
    return candidate.encode("ascii") + (b";1" if versions else b"")


def _system_use(tree: Tree, template: Node, name: str, serial: int) -> bytes:
    """The sibling's RR, PX, NM and TF entries with the new name; everything else of it is left out."""
    if tree.skip is None:
        return b""
    out = [template.record.system_use[: tree.skip]]
    named = False
    for entry in template.entries:
        raw = entry.raw
        if entry.signature == b"RR" and len(raw) >= 5:
            out.append(_entry(b"RR", bytes((raw[4] & (_RR_PX | _RR_TF) | _RR_NM,))))
        elif entry.signature == b"PX":
            attributes = to_both32(READ_ONLY_FILE) + to_both32(1)
            rest = raw[20:_PX_SERIAL] + (to_both32(serial) if len(raw) >= _PX_SERIAL + 8 else b"")
            out.append(_entry(b"PX", attributes + rest))
        elif entry.signature == b"TF":
            out.append(raw)
        elif entry.signature == b"NM" and not named:
            named = True
            out.append(_name_entry(name))
    if not named:
        out.append(_name_entry(name))
    return b"".join(out)


def _name_entry(name: str) -> bytes:
    return _entry(b"NM", b"\0" + name.encode("ascii"))


def _entry(signature: bytes, content: bytes) -> bytes:
    """A system use entry of version 1 with a length of its own: a sibling's may be longer than what is taken of it."""
    return signature + bytes((4 + len(content), 1)) + content


def _last_serial(tree: Tree, where: str) -> int:
    serials = [0]
    for node in tree.nodes():
        for entry in node.entries:
            if entry.signature == b"PX" and len(entry.raw) >= _PX_SERIAL + 8:
                serials.append(both32(entry.raw, _PX_SERIAL, where))
    return max(serials)
