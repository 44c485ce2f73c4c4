"""The Node's RPM database, read from its files: which packages, what they provide, own and obsolete.

rpm's sqlite backend keeps one table ``Packages(hnum INTEGER PRIMARY KEY, blob BLOB)``; a blob is a package header
without its magic (rpm lib/backend/sqlite.c). Beside it are tables (key, hnum, idx) that index the headers' values. The
database is untrusted: it is opened read only, as immutable, and its own definitions are never trusted.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterable, Iterator, Mapping, Sequence, Tuple

from respin.byteview import BytesView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.rpmdb import bdb, ndb
from respin.formats.rpmfile import Header, RpmHeader, tags
from respin.formats.rpmfile.content import rpm_header
from respin.limits import LIMITS
from respin.node import rpmrecord
from respin.node.paths import read_file
from respin.node.profileparser import RPM_DATABASES
from respin.roottree import RootTree

_KEY = "gpg-pubkey"
CANDIDATES = RPM_DATABASES
Row = Tuple[object, object, object]
_INDEX_COLUMNS = ("key", "hnum", "idx")
BACKENDS: Mapping[str, str] = {"rpmdb.sqlite": "sqlite", "Packages.db": "ndb", "Packages": "bdb"}


@dataclass(frozen=True)
class RpmDatabase:
    """Where the database is: ``path`` is the directory with symbolic links resolved, ``file`` the main file."""

    path: str
    backend: str
    file: str


@dataclass(frozen=True)
class Content:
    """Everything in a database: records by number, rows (key, record, position) of each index table, and whether
    SQLite's own indexes agree with the tables.
    """

    headers: Mapping[int, bytes]
    tables: Mapping[str, Tuple[Row, ...]]
    consistent: bool


def locate(root: RootTree[Any], candidates: Sequence[str] = CANDIDATES) -> RpmDatabase:
    """Find the Node's database in one of the directories ``candidates``.

    Raises UnsupportedError when there is none, or several.
    """
    found = {}
    for candidate in candidates:
        directory = root.resolve(candidate)
        if directory is None or not directory.inode.is_directory:
            continue
        path = directory.path
        names = set(root.listdir(path))
        for name, backend in BACKENDS.items():
            if name in names:
                found[path, backend] = RpmDatabase(path, backend, f"{path}/{name}")
    if not found:
        raise UnsupportedError(
            "the Node's root has no RPM database, so RPM plugins cannot be recorded in it",
            where=root.view.name,
            remedy=f"looked in {', '.join(candidates)}",
            finding="rpmdb",
        )
    if len(found) > 1:
        places = ", ".join(sorted(database.file for database in found.values()))
        raise UnsupportedError(f"the Node's root has several RPM databases: {places}", finding="rpmdb")
    return next(iter(found.values()))


def require_writable(database: RpmDatabase) -> None:
    """Raise UnsupportedError unless packages can be recorded in the database, and the record judged."""
    if database.backend != "sqlite":
        raise UnsupportedError(
            f"the Node's RPM database is of the kind {database.backend}: this machine's rpm cannot write it",
            where=database.file,
            remedy="`inspect`, `diff` and `sbom` read it; to build, use a Node whose rpm keeps its database in sqlite",
            finding="rpmdb",
        )


def records(root: RootTree[Any], database: RpmDatabase, scratch: Path) -> Mapping[int, bytes]:
    """Every package header of a Node's database, of any kind, by its number; ``scratch`` is a private directory."""
    data = read_file(root, database.file) or b""
    where = f"{root.view.name}:{database.file}"
    if database.backend == "ndb":
        return ndb.read_packages(data, where).headers
    if database.backend == "bdb":
        return bdb.read_packages(data, where)
    return read_headers(data, scratch, where)


def read_headers(data: bytes, scratch: Path, where: str, log: bytes = b"") -> Mapping[int, bytes]:
    """Every package header of a sqlite database, by its number; ``scratch`` is a private directory.

    ``log`` is the write-ahead log beside a database in use (``-wal``).
    """
    with _opened(data, scratch, where, log) as connection:
        kind = connection.execute("SELECT type FROM sqlite_master WHERE name='Packages'").fetchone()
        if kind is None or kind[0] != "table":
            raise MalformedError("the RPM database has no table Packages", where=where, finding="rpmdb")
        rows: Tuple[Tuple[int, bytes], ...] = tuple(connection.execute("SELECT hnum, blob FROM Packages"))
    for number, blob in rows:
        if not isinstance(number, int) or not isinstance(blob, bytes) or len(blob) > LIMITS.rpm_header:
            raise MalformedError("the RPM database holds a row that is no header", where=where, finding="rpmdb")
    return dict(rows)


def schema(data: bytes, scratch: Path, where: str) -> FrozenSet[Tuple[str, str]]:
    """Name and definition of everything that a sqlite database defines: tables, indexes, views and triggers."""
    with _opened(data, scratch, where) as connection:
        rows = connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_master").fetchall()
    return frozenset((str(name), str(sql)) for name, sql in rows)


def read(data: bytes, scratch: Path, where: str) -> Content:
    """All that a sqlite database says, for comparison with another; ``scratch`` is a private directory.

    Look at its :func:`schema` before: what it defines is used here.
    """
    headers = read_headers(data, scratch, where)
    tables: Dict[str, Tuple[Row, ...]] = {}
    with _opened(data, scratch, where) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
            quoted = '"' + str(name).replace('"', '""') + '"'
            columns = [column[1] for column in connection.execute(f"PRAGMA table_info({quoted})")]
            if columns == list(_INDEX_COLUMNS):
                query = f"SELECT key, hnum, idx FROM {quoted}"  # noqa: S608 - an identifier cannot be a parameter
                tables[str(name)] = tuple(connection.execute(query))
        consistent = connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
    return Content(headers, tables, consistent)


@contextmanager
def _opened(data: bytes, scratch: Path, where: str, log: bytes = b"") -> Iterator[sqlite3.Connection]:
    path, beside = scratch / "rpmdb.sqlite", scratch / "rpmdb.sqlite-wal"
    path.write_bytes(data)
    if log:
        beside.write_bytes(log)
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro{'' if log else '&immutable=1'}", uri=True)
        try:
            connection.execute("PRAGMA trusted_schema=OFF")
            yield connection
        finally:
            connection.close()
    except (sqlite3.Error, OverflowError) as error:
        raise MalformedError(f"the RPM database cannot be read: {error}", where=where, finding="rpmdb") from error
    finally:
        for left in (path, beside, scratch / "rpmdb.sqlite-shm"):
            left.unlink(missing_ok=True)


def packages(blobs: Iterable[bytes], where: str) -> Tuple[RpmHeader, ...]:
    """The packages that the records describe. A key that was imported into the database (``gpg-pubkey``) is none."""
    parsed = (Header.parse(BytesView(rpmrecord.split(blob, where)[0], where), 0, signature=False) for blob in blobs)
    return tuple(rpm_header(header, where=where) for header in parsed if not is_key(header))


def is_key(header: Header) -> bool:
    """Whether a record is a key that was imported into the database, and no package."""
    return header.string(tags.NAME) == _KEY
