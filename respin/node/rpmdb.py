"""The Node's RPM database, read from its files: which packages, what they provide, own and obsolete.

rpm's sqlite backend keeps one table ``Packages(hnum INTEGER PRIMARY KEY, blob BLOB)``; a blob is a package header
without its magic (rpm lib/backend/sqlite.c). The database is untrusted: it is opened read only, as immutable, and
nothing but that table and the names of what else there is are read.
"""

from __future__ import annotations

import sqlite3
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import FrozenSet, Iterable, Iterator, Mapping, Tuple

from respin.byteview import BytesView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.ext.image import ExtImage
from respin.formats.rpmfile import Header, RpmHeader, tags
from respin.formats.rpmfile.content import rpm_header
from respin.formats.rpmfile.header import BINARY, MAGIC
from respin.formats.rpmfile.tags import HEADERIMMUTABLE
from respin.limits import LIMITS

_COUNTS = struct.Struct(">II")
_ENTRY = struct.Struct(">IIiI")

_KEY = "gpg-pubkey"
CANDIDATES = ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm")
BACKENDS: Mapping[str, str] = {"rpmdb.sqlite": "sqlite", "Packages.db": "ndb", "Packages": "bdb"}


@dataclass(frozen=True)
class RpmDatabase:
    """Where the database is: ``path`` is the directory with symbolic links resolved, ``file`` the main file."""

    path: str
    backend: str
    file: str


def locate(root: ExtImage) -> RpmDatabase:
    """Find the Node's database; UnsupportedError when there is none, several, or one that can't be written here."""
    found = {}
    for candidate in CANDIDATES:
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
            remedy=f"looked in {', '.join(CANDIDATES)}",
            finding="rpmdb",
        )
    if len(found) > 1:
        places = ", ".join(sorted(database.file for database in found.values()))
        raise UnsupportedError(f"the Node's root has several RPM databases: {places}", finding="rpmdb")
    database = next(iter(found.values()))
    if database.backend != "sqlite":
        raise UnsupportedError(
            f"the Node's RPM database is of the kind {database.backend}, which this machine's rpm cannot write",
            where=database.file,
            remedy="only sqlite databases are supported so far",
            finding="rpmdb",
        )
    return database


def read_headers(data: bytes, scratch: Path, where: str) -> Mapping[int, bytes]:
    """Every package header of a sqlite database, by its number; ``scratch`` is a private directory."""
    with _opened(data, scratch, where) as connection:
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


@contextmanager
def _opened(data: bytes, scratch: Path, where: str) -> Iterator[sqlite3.Connection]:
    path = scratch / "rpmdb.sqlite"
    path.write_bytes(data)
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
        try:
            connection.execute("PRAGMA trusted_schema=OFF")
            yield connection
        finally:
            connection.close()
    except (sqlite3.Error, OverflowError) as error:
        raise MalformedError(f"the RPM database cannot be read: {error}", where=where, finding="rpmdb") from error
    finally:
        path.unlink()


def packages(blobs: Iterable[bytes], where: str) -> Tuple[RpmHeader, ...]:
    """The packages that the records describe. A key that was imported into the database (``gpg-pubkey``) is none."""
    parsed = (Header.parse(BytesView(immutable_header(blob, where), where), 0, signature=False) for blob in blobs)
    return tuple(rpm_header(header, where=where) for header in parsed if header.string(tags.NAME) != _KEY)


def immutable_header(blob: bytes, where: str) -> bytes:
    """A record's package header as its maker signed it: magic, the immutable region's entries, the region's data.

    rpm stores a header as its immutable region (tag 63: the first entries and the first data) with what the
    installation adds behind both (rpm, lib/header.c, headerExport).
    """
    if len(blob) >= _COUNTS.size + _ENTRY.size:
        entries, size = _COUNTS.unpack_from(blob)
        tag, kind, offset, count = _ENTRY.unpack_from(blob, _COUNTS.size)
        store = _COUNTS.size + _ENTRY.size * entries
        end = offset + _ENTRY.size
        is_region = (tag, kind, count) == (HEADERIMMUTABLE, BINARY, _ENTRY.size)
        if is_region and store + size == len(blob) and offset >= 0 and end <= size:
            _, _, backwards, _ = _ENTRY.unpack_from(blob, store + offset)
            inside = -backwards // _ENTRY.size
            if 1 <= inside <= entries:
                index = blob[_COUNTS.size : _COUNTS.size + _ENTRY.size * inside]
                return MAGIC + _COUNTS.pack(inside, end) + index + blob[store : store + end]
    raise MalformedError("the RPM database holds a record without an immutable region", where=where, finding="rpmdb")
