"""What a hostile author could write into the Node's RPM database beside the records of the packages."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Mapping

import pytest

from respin.node import rpmdb, rpmrecord
from respin.policy.recorded import judge_recorded
from tests.support.keys import KeyWorld

SPEC = (
    "Provides: something-else = 3\nRequires(pre): /bin/sh\nRequires: /usr/bin/env\n"
    "Requires: env-tool > 1\nRequires: env-tool < 9\nConflicts: nothing-there\n"
)
Edit = Callable[[sqlite3.Connection, int], object]


@dataclass(frozen=True)
class World:
    """A database with a vendor's package, and the same with a plugin's."""

    old: bytes
    new: bytes
    wanted: Mapping[bytes, str]


@pytest.fixture(scope="module")
def world(key_world: KeyWorld, tmp_path_factory: pytest.TempPathFactory) -> World:
    tmp = tmp_path_factory.mktemp("recorded")
    (tmp / "root").mkdir()
    file = tmp / "root/db/rpmdb.sqlite"
    rpm = ["rpm", "--root", str(tmp / "root"), "--dbpath", "/db", "--nodeps", "--ignoreos", "--nosignature", "--justdb"]
    states: List[bytes] = []
    for name in ("vendor", "plugin"):
        package = key_world.build_rpm(tmp, name, preamble=SPEC, files={f"/usr/share/{name}/data": "data\n"})
        key_world.run([*rpm, "-i", str(package)])
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")  # all of it in the one file
        states.append(file.read_bytes())
    headers = [rpmdb.read_headers(data, tmp, "db") for data in states]
    (number,) = set(headers[1]) - set(headers[0])
    return World(states[0], states[1], {rpmrecord.split(headers[1][number], "db")[0]: "plugin"})


def judged(world: World, new: bytes, tmp_path: Path) -> List[str]:
    return [finding.message for finding in judge_recorded(world.old, new, world.wanted, "rpmdb.sqlite", tmp_path)]


def edited(world: World, tmp_path: Path, edit: Edit) -> bytes:
    path = tmp_path / "edited.sqlite"
    path.write_bytes(world.new)
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute("SELECT max(hnum) FROM Packages").fetchone()
        edit(connection, number)
        connection.commit()
    return path.read_bytes()


def with_entry(connection: sqlite3.Connection, number: int, tag: int, data: bytes) -> None:
    """Put one more string entry behind the immutable region of a record."""
    (blob,) = connection.execute("SELECT blob FROM Packages WHERE hnum=?", (number,)).fetchone()
    entries, size = struct.unpack_from(">II", blob)
    index, store = blob[8 : 8 + 16 * entries], blob[8 + 16 * entries :]
    new = (
        struct.pack(">II", entries + 1, size + len(data)) + index + struct.pack(">IIiI", tag, 6, size, 1) + store + data
    )
    connection.execute("UPDATE Packages SET blob=? WHERE hnum=?", (new, number))


def test_what_rpm_wrote_is_accepted(world: World, tmp_path: Path) -> None:
    assert judged(world, world.new, tmp_path) == []


def test_a_package_that_is_not_there_is_missed(world: World, tmp_path: Path) -> None:
    assert judged(world, world.old, tmp_path) == ["the package plugin was not recorded"]


PLUGIN = "SELECT max(hnum) FROM Packages"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"UPDATE Name SET key='other' WHERE hnum=({PLUGIN})", "the index Name has other rows for record"),
        (f"DELETE FROM Name WHERE hnum=({PLUGIN})", "the index Name has other rows for record"),
        (f"DELETE FROM Basenames WHERE hnum=({PLUGIN})", "the index Basenames has other rows for record"),
        (f"DELETE FROM Providename WHERE key='something-else' AND hnum=({PLUGIN})", "the index Providename"),
        (f"DELETE FROM Requirename WHERE key='/usr/bin/env' AND hnum=({PLUGIN})", "the index Requirename"),
        (f"DELETE FROM Installtid WHERE hnum=({PLUGIN})", "the index Installtid"),
        (f"UPDATE Sha1header SET key='00' WHERE hnum=({PLUGIN})", "the index Sha1header"),
        ("UPDATE Name SET key='renamed' WHERE key='vendor'", "the index Name has other rows for the vendor's"),
        ("DELETE FROM Basenames WHERE hnum=1", "the index Basenames has other rows for the vendor's"),
        ("INSERT INTO Providename VALUES ('kernel', 1, 9)", "the index Providename has other rows for the vendor's"),
        (
            f"INSERT INTO Providename VALUES ('kernel', ({PLUGIN}), 9)",
            "the index Providename has other rows for record",
        ),
        ("INSERT INTO Triggername VALUES ('kernel', 99, 0)", "the index Triggername has other rows for the vendor's"),
        ("INSERT INTO Packages (blob) SELECT blob FROM Packages WHERE hnum=1", "is none of the plugins' packages"),
        ("DELETE FROM Packages WHERE hnum=1", "the vendor's package record number 1 was changed or removed"),
        ("CREATE TABLE more (key, hnum, idx)", "more is not defined as in the vendor's database"),
    ],
)
def test_a_changed_row_is_found(world: World, tmp_path: Path, statement: str, said: str) -> None:
    new = edited(world, tmp_path, lambda connection, number: connection.execute(statement))
    assert any(said in what for what in judged(world, new, tmp_path))


@pytest.mark.parametrize("tag", [1025, 1091, 1000, 5000])  # %preun, its interpreter, the name, anything
def test_an_unsigned_entry_behind_the_signed_header_is_found(world: World, tmp_path: Path, tag: int) -> None:
    """rpm -e would run such a %preun as if the package's maker had signed it."""
    new = edited(world, tmp_path, lambda connection, number: with_entry(connection, number, tag, b"touch /tmp/x\0"))
    assert any(f"holds the unsigned entry {tag}" in what for what in judged(world, new, tmp_path))


def test_an_entry_that_is_there_twice_is_found(world: World, tmp_path: Path) -> None:
    new = edited(world, tmp_path, lambda connection, number: with_entry(connection, number, 269, b"0" * 40 + b"\0"))
    assert any("holds the unsigned entry 269" in what for what in judged(world, new, tmp_path))


def test_files_called_not_installed_are_found(world: World, tmp_path: Path) -> None:
    def edit(connection: sqlite3.Connection, number: int) -> None:
        (blob,) = connection.execute("SELECT blob FROM Packages WHERE hnum=?", (number,)).fetchone()
        entries, _ = struct.unpack_from(">II", blob)
        for at in range(8, 8 + 16 * entries, 16):
            tag, _, offset, _ = struct.unpack_from(">IIiI", blob, at)
            if tag == 1029:
                place = 8 + 16 * entries + offset
                blob = blob[:place] + b"\2" + blob[place + 1 :]
        connection.execute("UPDATE Packages SET blob=? WHERE hnum=?", (blob, number))

    assert any("not installed" in what for what in judged(world, edited(world, tmp_path, edit), tmp_path))


def test_an_index_that_leads_elsewhere_than_its_table_is_found(world: World, tmp_path: Path) -> None:
    def edit(connection: sqlite3.Connection, number: int) -> None:
        connection.execute("PRAGMA writable_schema=ON")
        pages = dict(connection.execute("SELECT name, rootpage FROM sqlite_master"))
        one, other = pages["Name_key_idx"], pages["Providename_key_idx"]
        connection.execute("UPDATE sqlite_master SET rootpage=? WHERE name='Name_key_idx'", (other,))
        connection.execute("UPDATE sqlite_master SET rootpage=? WHERE name='Providename_key_idx'", (one,))

    said = judged(world, edited(world, tmp_path, edit), tmp_path)
    assert "its indexes do not agree with its tables" in said
