"""The Node's RPM database, read from its files: which packages, what they provide, own and obsolete.

rpm's sqlite backend keeps one table ``Packages(hnum INTEGER PRIMARY KEY, blob BLOB)``; a blob is a package header
without its magic (rpm lib/backend/sqlite.c). Beside it are tables (key, hnum, idx) that index the headers' values. The
database is untrusted: it is opened read only, as immutable, and its own definitions are never trusted.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterable, Iterator, Mapping, Sequence, Tuple

from respin.byteview import BytesView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.rpmdb import bdb, ndb, ndbindex
from respin.formats.rpmfile import Header, PackageInfo, tags
from respin.formats.rpmfile.content import package_info
from respin.limits import LIMITS
from respin.node import rpmrecord
from respin.node.paths import read_file
from respin.node.profileparser import RPM_DATABASES
from respin.node.rpmindexes import ADDED_TAGS, TAGS
from respin.roottree import RootTree

_KEY = "gpg-pubkey"
CANDIDATES = RPM_DATABASES
Row = Tuple[object, object, object]
BACKENDS: Mapping[str, str] = {"rpmdb.sqlite": "sqlite", "Packages.db": "ndb", "Packages": "bdb"}
_INDEX_FILES: Mapping[str, FrozenSet[str]] = {
    "sqlite": frozenset(),
    "ndb": frozenset(("Index.db",)),
    "bdb": frozenset((*TAGS, *ADDED_TAGS)),
}
_RECORDER = "/usr/bin/rpmdb"
_DBPATH = re.compile(rb"^[ \t]*%_dbpath[ \t]+(\S+)[ \t]*$", re.MULTILINE)
_PLACES: Mapping[str, str] = {"_var": "/var", "_localstatedir": "/var", "_usr": "/usr", "_prefix": "/usr"}
_PLAIN_MACRO = re.compile(r"%\{?(" + "|".join(_PLACES) + r")\b\}?")


@dataclass(frozen=True)
class RpmDatabase:
    """Where the database is: ``path`` is the directory with symbolic links resolved, ``file`` the main file.

    ``indexes`` are further files of it: of ndb one with all indexes, of bdb one for each, named like the index.
    """

    path: str
    backend: str
    file: str
    indexes: Tuple[str, ...] = ()

    @property
    def files(self) -> Tuple[str, ...]:
        """All files that the database consists of."""
        return (self.file, *self.indexes)


@dataclass(frozen=True)
class Content:
    """Everything in a database: records by number, rows (key, record, position) of each index, and whether these are
    of the same state: SQLite's own indexes, or ndb's two files.
    """

    headers: Mapping[int, bytes]
    tables: Mapping[str, Tuple[Row, ...]]
    consistent: bool


def locate(root: RootTree[Any], candidates: Sequence[str] = CANDIDATES) -> RpmDatabase:
    """Find the Node's database in one of the directories ``candidates``, or where the Node's rpm is told that it is.

    Raises UnsupportedError when there is none, or several.
    """
    found = {}
    candidates = configured(root) or candidates
    for candidate in candidates:
        directory = root.resolve(candidate)
        if directory is None or not directory.inode.is_directory:
            continue
        path = directory.path
        names = set(root.listdir(path))
        for name, backend in BACKENDS.items():
            if name in names:
                indexes = tuple(f"{path}/{index}" for index in sorted(names & _INDEX_FILES[backend]))
                found[path, backend] = RpmDatabase(path, backend, f"{path}/{name}", indexes)
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


def configured(root: RootTree[Any]) -> Tuple[str, ...]:
    """The directory that the Node's /etc/rpm/macros name (``%_dbpath``), if they name a plain one."""
    directory = root.resolve("/etc/rpm")
    names = root.listdir(directory.path) if directory is not None and directory.inode.is_directory else []
    found: Tuple[str, ...] = ()
    for name in [
        *(name for name in names if name.startswith("macros.")),
        *(name for name in names if name == "macros"),
    ]:
        for value in _DBPATH.findall(read_file(root, f"/etc/rpm/{name}") or b""):
            path = _PLAIN_MACRO.sub(lambda match: _PLACES[match[1]], value.decode("utf-8", "surrogateescape"))
            found = (path,) if path.startswith("/") and "%" not in path else ()
    return found


def require_writable(root: RootTree[Any], database: RpmDatabase) -> None:
    """Raise UnsupportedError unless packages can be recorded in the database: by this machine's rpm, or the Node's."""
    if database.backend == "sqlite":
        return
    recorder = root.resolve(_RECORDER)
    missing = {"ndb": ("Index.db",), "bdb": ("Name", "Basenames", "Providename")}[database.backend]
    if recorder is None or not recorder.inode.is_file:
        raise _not_writable(database, f"this machine's rpm cannot write it, and the Node has no {_RECORDER} of its own")
    if not {f"{database.path}/{name}" for name in missing} <= set(database.indexes):
        raise _not_writable(database, f"its indexes are not there ({', '.join(missing)})")
    left = [name for name in root.listdir(database.path) if name.startswith("__db.")]
    if left:
        raise _not_writable(database, f"it was not closed: {left[0]} is there")


def _not_writable(database: RpmDatabase, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"the Node's RPM database is of the kind {database.backend}, and cannot be written: {why}",
        where=database.file,
        remedy="`inspect`, `diff` and `sbom` read it; to build, use a Node whose database is of the kind sqlite",
        finding="rpmdb",
    )


def records(root: RootTree[Any], database: RpmDatabase, scratch: Path) -> Mapping[int, bytes]:
    """Every package header of a Node's database, of any kind, by its number; ``scratch`` is a private directory."""
    where = f"{root.view.name}:{database.file}"
    return headers_in(database.backend, read_file(root, database.file) or b"", scratch, where)


def headers_in(backend: str, data: bytes, scratch: Path, where: str, log: bytes = b"") -> Mapping[int, bytes]:
    """Every package header in the main file of a database of a kind; ``log`` is what lies beside sqlite's."""
    if backend == "ndb":
        return ndb.read_packages(data, where).headers
    if backend == "bdb":
        return bdb.read_packages(data, where)
    return read_headers(data, scratch, where, log)


def contents(root: RootTree[Any], database: RpmDatabase) -> Content:
    """All that a database of the kind ndb or bdb says. Raises MalformedError when it is damaged, or its indexes are."""
    where = f"{root.view.name}:{database.path}"
    tables: Dict[str, Tuple[Row, ...]] = {}
    data = read_file(root, database.file) or b""
    if database.backend == "bdb":
        headers: Mapping[int, bytes] = bdb.read_packages(data, where)
        for path in database.indexes:
            name = path.rpartition("/")[2]
            tables[name] = _rows(name, bdb.read_index(read_file(root, path) or b"", f"{where}/{name}"))
        return Content(headers, tables, consistent=True)
    packages = ndb.read_packages(data, where)
    indexes = ndbindex.read_indexes(read_file(root, f"{database.path}/Index.db") or b"", f"{where}/Index.db")
    names = {tag: name for name, tag in (*TAGS.items(), *ADDED_TAGS.items())}
    for tag, rows in indexes.rows.items():
        name = names.get(tag, f"tag {tag}")
        tables[name] = _rows(name, rows)
    return Content(packages.headers, tables, indexes.generation == packages.generation)


def _rows(name: str, rows: Iterable[Tuple[bytes, int, int]]) -> Tuple[Row, ...]:
    """Rows as sqlite has them: texts as texts."""
    if name not in TAGS and name != "Sha1header":
        return tuple(rows)
    return tuple((key.decode("utf-8", "surrogateescape"), number, position) for key, number, position in rows)


def read_headers(data: bytes, scratch: Path, where: str, log: bytes = b"") -> Mapping[int, bytes]:
    """Every package header of a sqlite database, by its number; ``scratch`` is a private directory.

    ``log`` is the write-ahead log beside a database in use (``-wal``).
    """
    with opened(data, scratch, where, log) as connection:
        return dict(sqlite_records(connection, where))


def sqlite_records(connection: sqlite3.Connection, where: str) -> Iterator[Tuple[int, bytes]]:
    """The package headers in the order of their numbers."""
    kind = connection.execute("SELECT type FROM sqlite_master WHERE name='Packages'").fetchone()
    if kind is None or kind[0] != "table":
        raise MalformedError("the RPM database has no table Packages", where=where, finding="rpmdb")
    for number, blob in connection.execute("SELECT hnum, blob FROM Packages ORDER BY hnum"):
        if not isinstance(number, int) or not isinstance(blob, bytes) or len(blob) > LIMITS.rpm_header:
            raise MalformedError("the RPM database holds a row that is no header", where=where, finding="rpmdb")
        yield number, blob


def schema(data: bytes, scratch: Path, where: str) -> FrozenSet[Tuple[str, str]]:
    """Name and definition of everything that a sqlite database defines: tables, indexes, views and triggers."""
    with opened(data, scratch, where) as connection:
        rows = connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_master").fetchall()
    return frozenset((str(name), str(sql)) for name, sql in rows)


@contextmanager
def opened(
    data: bytes, scratch: Path, where: str, log: bytes = b"", name: str = "rpmdb"
) -> Iterator[sqlite3.Connection]:
    """A sqlite database, ``log`` beside it; ``name`` is that of its copy in the private directory ``scratch``."""
    path, beside = scratch / f"{name}.sqlite", scratch / f"{name}.sqlite-wal"
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
        for left in (path, beside, scratch / f"{name}.sqlite-shm"):
            left.unlink(missing_ok=True)


def packages(blobs: Iterable[bytes], where: str) -> Tuple[PackageInfo, ...]:
    """The packages that the records describe. A key that was imported into the database (``gpg-pubkey``) is none."""
    parsed = (Header.parse(BytesView(rpmrecord.split(blob, where)[0], where), 0, signature=False) for blob in blobs)
    return tuple(package_info(header, where=where) for header in parsed if not is_key(header))


def is_key(header: Header) -> bool:
    """Whether a record is a key that was imported into the database, and no package."""
    return header.string(tags.NAME) == _KEY
