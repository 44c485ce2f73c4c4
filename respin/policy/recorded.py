"""What the Node's RPM database says after the installation: the vendor's packages, exactly the plugins', nothing else.

Not only the records count: rpm answers questions from index tables beside them, and runs scriptlets of a record from
whichever entry has their tag, signed or not.
"""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence, Set, Tuple

from respin.byteview import BytesView
from respin.errors import MalformedError
from respin.formats.rpmfile import Header
from respin.node import rpmchanges, rpmdb, rpmrecord
from respin.node.rpmdb import Content, Row
from respin.node.rpmindexes import ADDED_TAGS, INSTALL_TID, TAGS
from respin.node.rpmrecord import Added
from respin.policy.findings import Finding
from respin.safepath import show

_FINDING = "rpm-database"
# What rpm adds to a record when it installs (rpm, lib/rpmte.c, lib/rpmfiles.c, lib/psm.c, lib/package.c): signature
# header entries under their tags of the main header's range, and facts of the installation.
_SIGNATURE_TAGS = frozenset((257, 259, 261, 262, 267, 268, 269, 270, 271, 273, 274, 275, 276, 277, 278, 279))
_FILE_STATES = 1029
_ADDED = _SIGNATURE_TAGS | frozenset((1008, _FILE_STATES, 1046, 1127, INSTALL_TID))
_Place = Tuple[object, object]  # key, position
_BOOKKEEPING = frozenset(("Packages", "sqlite_sequence", "sqlite_stat1", "sqlite_stat4"))
_REQUIRE_FLAGS = 1048
# Requirements of scriptlets at installation time are over when a package is installed: rpm does not index them.
_INSTALL_TIME = 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x1000000


def judge_recorded(old: bytes, new: bytes, wanted: Mapping[bytes, str], file: str, scratch: Path) -> Iterator[Finding]:
    """All findings on the database ``new``, which was ``old`` before ``wanted`` (raw header -> NEVRA) was installed.

    ``scratch`` is a private directory. Raises MalformedError for what is no database.
    """
    defined = [rpmdb.schema(data, scratch, file) for data in (old, new)]
    if defined[0] != defined[1]:
        for name, _ in sorted(defined[0] ^ defined[1]):
            yield Finding(_FINDING, file, f"{show(name)} is not defined as in the vendor's database")
        return  # no query is made of what somebody else defined
    yield from judge_contents(*rpmchanges.differing(old, new, scratch, file), wanted, file)


def judge_contents(before: Content, after: Content, wanted: Mapping[bytes, str], file: str) -> Iterator[Finding]:
    """The same for databases of any kind, read."""
    if not after.consistent:
        yield Finding(_FINDING, file, "its indexes do not agree with its tables")
    for number, blob in before.headers.items():
        if after.headers.get(number) != blob:
            yield Finding(_FINDING, file, f"the vendor's package record number {number} was changed or removed")
    missing = dict(wanted)
    added: Dict[int, Tuple[Header, Tuple[Added, ...]]] = {}
    for number in sorted(set(after.headers) - set(before.headers)):
        raw, more = rpmrecord.split(after.headers[number], file)
        if missing.pop(raw, None) is None:
            yield Finding(_FINDING, file, f"record number {number} is none of the plugins' packages")
            continue
        added[number] = Header.parse(BytesView(raw, file), 0, signature=False), more
        yield from _additions(number, more, file)
    for nevra in sorted(missing.values()):
        yield Finding(_FINDING, file, f"the package {nevra} was not recorded")
    for table in sorted(set(before.tables) | set(after.tables)):
        if table not in _BOOKKEEPING:
            yield from _index(table, before.tables.get(table, ()), after.tables.get(table, ()), added, file)


def _additions(number: int, added: Sequence[Added], file: str) -> Iterator[Finding]:
    for tag, count in Counter(entry.tag for entry in added).items():
        if tag not in _ADDED or count > 1:
            yield Finding(_FINDING, file, f"record number {number} holds the unsigned entry {tag}")
    for entry in added:
        if entry.tag == _FILE_STATES and entry.value.strip(b"\0"):
            yield Finding(_FINDING, file, f"record number {number} calls files of the package not installed")


def _index(
    table: str,
    before: Sequence[Row],
    after: Sequence[Row],
    added: Mapping[int, Tuple[Header, Tuple[Added, ...]]],
    file: str,
) -> Iterator[Finding]:
    """The vendor's rows as they were, and exactly the rows that the new records call for."""
    rows: Dict[object, Set[_Place]] = {number: set() for number in added}
    others = [row for row in after if row[1] not in rows]
    for key, number, position in (row for row in after if row[1] in rows):
        if (key, position) in rows[number]:
            others.append((key, number, position))
        rows[number].add((key, position))
    if Counter(others) != Counter(before):
        yield Finding(_FINDING, file, f"the index {show(table)} has other rows for the vendor's packages")
    for number, (header, more) in added.items():
        try:
            must, may = _rows(table, header, more)
        except (MalformedError, struct.error):
            must, may = set(), set()
        keys = {key for key, _ in rows[number]}
        if not rows[number] <= may or not {key for key, _ in must} <= keys:
            yield Finding(
                _FINDING, file, f"the index {show(table)} has other rows for record {number} than it calls for"
            )


def _rows(table: str, header: Header, more: Sequence[Added]) -> Tuple[Set[_Place], Set[_Place]]:
    """(key, position) of the rows for a record: those that must be there (some rows of equal keys may not), and all."""
    if table in ADDED_TAGS:
        values: List[object] = [_added_key(entry) for entry in more if entry.tag == ADDED_TAGS[table]]
    elif table == "Group":
        values = [header.string(TAGS[table])] if TAGS[table] in header else ["Unknown"]
    elif table in TAGS:
        values = list(header.strings(TAGS[table]))
    else:
        values = []
    rows = [(value, position) for position, value in enumerate(values)]
    must: Set[_Place] = set(rows)
    if table == "Requirename":
        flags = header.integers(_REQUIRE_FLAGS)
        must = {(key, at) for key, at in rows if at >= len(flags) or not flags[at] & _INSTALL_TIME}
    return must, set(rows)


def _added_key(entry: Added) -> object:
    if entry.tag == INSTALL_TID:
        (number,) = struct.unpack(">I", entry.value)
        return struct.pack("=I", number)  # as the machine's processor has it
    return entry.value if entry.kind == 7 else entry.value.decode("ascii", "replace")
