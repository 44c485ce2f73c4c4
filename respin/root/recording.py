"""Recording packages in a database that only the Node's own rpm can write: of the kind ndb or bdb.

The transaction runs on a stand-in outside the root: a database of the kind sqlite with the Node's packages. So it keeps
all its refusals, and the records have the times that they are told to have. The Node's own rpm then takes the new ones
into its database as they are (``rpmdb --importdb``, since rpm 4.14): it has no clock to look at.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from hashlib import sha256
from typing import List, Mapping, Sequence

from respin.errors import BuildError, UnsupportedError
from respin.formats.rpmdb import bdb, ndb
from respin.root import chroot, isolation
from respin.root.database import Database, find

_PROGRAM = "/usr/bin/rpmdb"
_HEADER_MAGIC = b"\x8e\xad\xe8\x01\0\0\0\0"
# As rpm's own (lib/backend/sqlite.c); rpm makes the indexes that are missing.
_SCHEMA = "CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)"


class StandIn:
    """A database of the kind sqlite with the packages of another, in a directory of its own."""

    def __init__(self, root: str, database: Database, directory: str) -> None:
        if resolve_program(root) is None:
            raise UnsupportedError(
                f"the rpm database is of the kind {database.backend}, and the Node has no {_PROGRAM} to write it",
                where=database.path,
                finding="rpmdb-backend",
            )
        if not os.path.isdir(f"{root}/run") or os.path.islink(f"{root}/run"):
            raise UnsupportedError("the Node has no /run for a stand-in for its rpm database", finding="rpmdb-backend")
        headers = _headers(root, database)
        self._known = set(headers)
        self.directory = directory
        os.mkdir(directory)
        with closing(sqlite3.connect(f"{directory}/rpmdb.sqlite")) as connection, connection:
            connection.execute(_SCHEMA)
            connection.executemany("INSERT INTO Packages VALUES (?, ?)", sorted(headers.items()))

    def new_records(self) -> List[bytes]:
        """The headers, without magic, that were added, in the order in which they were.

        BuildError for what a scriptlet made of the directory, which it could reach, and a link of it would lead out.
        """
        if not all(entry.is_file(follow_symlinks=False) for entry in os.scandir(self.directory)):
            raise _tampered("holds something besides files")
        try:
            with closing(sqlite3.connect(f"{self.directory}/rpmdb.sqlite")) as connection:
                connection.execute("PRAGMA trusted_schema=OFF")
                rows = dict(connection.execute("SELECT hnum, blob FROM Packages"))
        except sqlite3.Error as error:
            raise _tampered(f"cannot be read: {error}") from error
        added = [rows[number] for number in rows if number not in self._known]
        if not all(isinstance(number, int) for number in rows) or not all(isinstance(one, bytes) for one in added):
            raise _tampered("holds rows that are no headers")
        return [rows[number] for number in sorted(set(rows) - self._known)]


def resolve_program(root: str) -> "str | None":
    """The real path, inside ``root``, of the program that records; None if there is none."""
    place = chroot.resolve(root, _PROGRAM)
    return place if place is not None and os.path.isfile(root + place) else None


def record(
    records: Sequence[bytes],
    root: str,
    database: Database,
    uname: str,
    *,
    timeout: float,
    transcript: isolation.Transcript,
) -> None:
    """Have the Node's own rpm take ``records`` into ``database``, isolated as a scriptlet is.

    Raises UnsupportedError when it cannot, BuildError when it left something else than those records.
    """
    link = os.path.islink(f"{root}{database.path}/{database.file}")
    if link or find(root, database.path) != database:
        raise _tampered("is no longer where it was")
    before, vendor = _headers(root, database), _files(root, database)
    descriptor = os.memfd_create("respin-rpm-headers")
    try:
        for header in records:
            _write(descriptor, _HEADER_MAGIC + header)
        os.lseek(descriptor, 0, os.SEEK_SET)
        outcome = isolation.run(
            lambda: _execute(descriptor, root, uname, database, timeout),
            title="the Node's rpmdb",
            keep=[descriptor],
            timeout=timeout,
            transcript=transcript,
        )
    finally:
        os.close(descriptor)
    if outcome.status != 0:
        raise UnsupportedError(
            f"the Node's own rpm cannot record packages in its database: status {outcome.status}, {transcript.tail()}",
            where=database.path,
            remedy="it takes `rpmdb --importdb`, which rpm has since 4.14",
            finding="rpmdb-backend",
        )
    if find(root, database.path) != database:
        raise BuildError("the Node's rpm made another database", where=database.path, finding="transaction-failed")
    _clean_up(root, database, vendor)
    after = _headers(root, database)
    added = [after[number] for number in sorted(set(after) - set(before))]
    if added != list(records) or any(after.get(number) != header for number, header in before.items()):
        raise BuildError(
            f"the Node's rpm recorded something else: {transcript.tail()}",
            where=database.path,
            finding="transaction-failed",
        )


def _tampered(what: str) -> BuildError:
    return BuildError(
        f"a scriptlet touched the rpm database: it {what}",
        remedy="look at the scriptlets of the plugins; recording packages is rpm's alone",
        finding="transaction-failed",
    )


def _execute(descriptor: int, root: str, uname: str, database: Database, timeout: float) -> None:
    chroot.furnish(root, uname)
    chroot.lock_in(root, timeout)
    os.dup2(descriptor, 0)
    os.close(descriptor)
    isolation.execute(
        [_PROGRAM, "--define", f"_db_backend {database.backend}", "--dbpath", database.path, "--importdb"]
    )


def _headers(root: str, database: Database) -> Mapping[int, bytes]:
    path = f"{root}{database.path}/{database.file}"
    with open(path, "rb") as stream:
        data = stream.read()
    where = f"{database.path}/{database.file}"
    return ndb.read_packages(data, where).headers if database.backend == "ndb" else bdb.read_packages(data, where)


def _files(root: str, database: Database) -> Mapping[str, bytes]:
    """Digests of the plain files in the database's directory, by path."""
    found = {}
    for entry in os.scandir(root + database.path):
        if entry.is_file(follow_symlinks=False):
            with open(entry.path, "rb") as stream:
                found[entry.path] = sha256(stream.read()).digest()
    return found


def _clean_up(root: str, database: Database, vendor: Mapping[str, bytes]) -> None:
    """Remove what Berkeley DB keeps while it works, and from changed files what its memory held by chance."""
    for path, digest in _files(root, database).items():
        name = os.path.basename(path)
        if path not in vendor and (name.startswith("__db.") or name == ".dbenv.lock"):
            os.unlink(path)
        elif vendor.get(path) != digest:
            with open(path, "r+b") as stream:
                data = stream.read()
                if bdb.is_berkeley(data):
                    stream.seek(0)
                    stream.write(bdb.BerkeleyFile(data, f"{database.path}/{name}").without_slack())


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
