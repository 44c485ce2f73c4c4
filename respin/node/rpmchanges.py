"""What an installation made of a Node's RPM database: the vendor's and the new one but for what both say."""

from __future__ import annotations

import sqlite3
from itertools import zip_longest
from pathlib import Path
from typing import Container, Dict, FrozenSet, Iterator, List, Tuple

from respin.node.rpmdb import Content, Row, opened, sqlite_records

_INDEX_COLUMNS = ("key", "hnum", "idx")


def differing(old: bytes, new: bytes, scratch: Path, where: str) -> Tuple[Content, Content]:
    """What two sqlite databases say but for what both say; ``scratch`` is a private directory.

    Rows of an index are left out if they stand at the same place in both and belong to no record of the new one alone.
    Of a vendor's database with thousands of packages hardly anything is left, and only that is kept in memory. Look at
    the :func:`schema` of both before: what it defines is used here. Only the new one's consistency is looked at.
    """
    with opened(old, scratch, where, name="old") as before, opened(new, scratch, where, name="new") as after:
        headers = _differing_records(sqlite_records(before, where), sqlite_records(after, where))
        added = headers[1].keys() - headers[0].keys()
        mine: Dict[str, Tuple[Row, ...]] = {}
        theirs: Dict[str, Tuple[Row, ...]] = {}
        # Of one schema, so both have all of them.
        for name in sorted(_indexes(before) & _indexes(after)):
            query = f"SELECT key, hnum, idx FROM {_quoted(name)}"  # noqa: S608 - an identifier cannot be a parameter
            mine[name], theirs[name] = _differing_rows(before.execute(query), after.execute(query), added)
        consistent = after.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
    return Content(headers[0], mine, consistent=True), Content(headers[1], theirs, consistent)


def _differing_records(
    old: Iterator[Tuple[int, bytes]], new: Iterator[Tuple[int, bytes]]
) -> Tuple[Dict[int, bytes], Dict[int, bytes]]:
    """Records by number that are not the same in both; both come in the order of their numbers."""
    before: Dict[int, bytes] = {}
    after: Dict[int, bytes] = {}
    mine, theirs = next(old, None), next(new, None)
    while mine is not None or theirs is not None:
        first = min(one[0] for one in (mine, theirs) if one is not None)
        if mine != theirs:
            before.update([mine] if mine is not None and mine[0] == first else [])
            after.update([theirs] if theirs is not None and theirs[0] == first else [])
        advance = mine is not None and mine[0] == first, theirs is not None and theirs[0] == first
        mine = next(old, None) if advance[0] else mine
        theirs = next(new, None) if advance[1] else theirs
    return before, after


def _differing_rows(
    old: Iterator[Row], new: Iterator[Row], added: Container[object]
) -> Tuple[Tuple[Row, ...], Tuple[Row, ...]]:
    before: List[Row] = []
    after: List[Row] = []
    for mine, theirs in zip_longest(old, new):
        if mine != theirs or mine[1] in added:
            before += [] if mine is None else [mine]
            after += [] if theirs is None else [theirs]
    return tuple(before), tuple(after)


def _indexes(connection: sqlite3.Connection) -> FrozenSet[str]:
    """The tables that index the records."""
    names = [str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    columns = {name: connection.execute(f"PRAGMA table_info({_quoted(name)})").fetchall() for name in names}
    return frozenset(name for name in names if [column[1] for column in columns[name]] == list(_INDEX_COLUMNS))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
