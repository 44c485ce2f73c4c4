"""Where the RPM database is, and what it defines: a trigger would run at each later use of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Dict, Optional, Union

import pytest

from respin.byteview import BytesView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.ext import ExtImage
from respin.node import rpmdb
from tests.support.images import Link, build_ext
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


@pytest.mark.parametrize(
    ("macros", "place"),
    [
        ({}, "/var/lib/rpm"),
        ({"macros": "%_dbpath /opt/db\n"}, "/opt/db"),
        ({"macros": "%other /opt/db\n # %_dbpath /opt/db\n"}, "/var/lib/rpm"),
        ({"macros.a": "%_dbpath %{_usr}/lib/sysimage/rpm\n"}, "/usr/lib/sysimage/rpm"),
        ({"macros.a": "%_dbpath /opt/db\n", "macros": "%_dbpath\t%_var/lib/rpm\n"}, "/var/lib/rpm"),
        ({"macros": "%_dbpath %(echo /opt/db)\n"}, "/var/lib/rpm"),
        ({"macros": "%_dbpath /nowhere\n"}, None),
    ],
)
def test_the_directory_is_where_the_nodes_rpm_is_told_that_it_is(
    tmp_path: Path, macros: Dict[str, str], place: Optional[str]
) -> None:
    tree: Dict[str, Union[bytes, Link]] = {f"etc/rpm/{name}": text.encode() for name, text in macros.items()}
    tree["var/lib/rpm/rpmdb.sqlite" if place in ("/var/lib/rpm", None) else f"{place[1:]}/Packages.db"] = b"x"
    image = build_ext(tmp_path / "image", tree, size_mib=2)
    root = ExtImage.open(BytesView(image.read_bytes(), "image"))
    if place is None:
        with pytest.raises(UnsupportedError, match="no RPM database"):
            rpmdb.locate(root)
    else:
        assert rpmdb.locate(root).path == place


def test_a_directory_behind_a_link_is_one_database(tmp_path: Path) -> None:
    tree = {"usr/lib/sysimage/rpm/rpmdb.sqlite": b"x", "var/lib/rpm": Link("../../usr/lib/sysimage/rpm")}
    root = ExtImage.open(BytesView(build_ext(tmp_path / "image", tree, size_mib=2).read_bytes(), "image"))
    assert rpmdb.locate(root).file == "/usr/lib/sysimage/rpm/rpmdb.sqlite"


def test_two_databases_are_none(tmp_path: Path) -> None:
    tree = {"var/lib/rpm/rpmdb.sqlite": b"x", "var/lib/rpm/Packages": b"x"}
    root = ExtImage.open(BytesView(build_ext(tmp_path / "image", tree, size_mib=2).read_bytes(), "image"))
    with pytest.raises(UnsupportedError, match="several"):
        rpmdb.locate(root)
