"""What an RPM database defines: a trigger would run at each later use of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from respin.errors import MalformedError
from respin.node import rpmdb
from tests.support.keys import KeyWorld


def database(path: Path, *statements: str) -> bytes:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path.read_bytes()


def test_rows_are_no_part_of_the_schema_and_triggers_are(tmp_path: Path) -> None:
    plain = database(tmp_path / "plain")
    filled = database(tmp_path / "filled", "INSERT INTO Packages (blob) VALUES (x'00')")
    trigger = "CREATE TRIGGER evil AFTER INSERT ON Packages BEGIN DELETE FROM Packages; END"
    armed = database(tmp_path / "armed", trigger)
    schemas = [rpmdb.schema(data, tmp_path, "db") for data in (plain, filled, armed)]
    assert schemas[0] == schemas[1]
    assert schemas[2] - schemas[0] == {("evil", trigger)}


def test_what_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(MalformedError):
        rpmdb.schema(b"no database", tmp_path, "db")


def test_an_imported_key_is_no_package(key_world: KeyWorld, tmp_path: Path) -> None:
    """rpm keeps imported keys as records without an architecture; vendors' databases have them."""
    root, key = tmp_path / "root", tmp_path / "key.asc"
    root.mkdir()
    key.write_bytes(key_world.public("rpm"))
    package = key_world.build_rpm(tmp_path, "counted")
    rpm = ["rpm", "--root", str(root), "--dbpath", "/db"]
    key_world.run([*rpm, "--initdb"])
    key_world.run([*rpm, "--nodeps", "--ignoreos", "--nosignature", "--justdb", "-i", str(package)])
    key_world.run(["rpm", "--dbpath", str(root / "db"), "--import", str(key)])
    records = rpmdb.read_headers((root / "db" / "rpmdb.sqlite").read_bytes(), tmp_path, "db")
    assert len(records) == 2
    assert [header.nevra for header in rpmdb.packages(records.values(), "db")] == ["counted-1.0-1.noarch"]
