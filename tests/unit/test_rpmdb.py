"""Where the RPM database is, and what it defines: a trigger would run at each later use of it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Dict, List, Optional, Set, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.ext import ExtImage
from respin.node import rpmchanges, rpmdb
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


ROWS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4), st.integers(0, 1)), max_size=12)
RECORDS = st.dictionaries(st.integers(1, 8), st.sampled_from((b"x", b"y")), max_size=6)


@given(old=ROWS, new=ROWS, added=st.sets(st.integers(1, 4)))
def test_rows_are_left_out_of_both_alike_and_none_of_a_new_record(
    old: List[rpmdb.Row], new: List[rpmdb.Row], added: Set[int]
) -> None:
    before, after = (Counter(rows) for rows in rpmchanges._differing_rows(iter(old), iter(new), added))
    assert Counter(old) - before == Counter(new) - after
    assert not (before - Counter(old)) + (after - Counter(new))
    assert not [row for row in Counter(new) - after if row[1] in added]


@given(rows=ROWS)
def test_of_equal_indexes_nothing_is_left(rows: List[rpmdb.Row]) -> None:
    assert rpmchanges._differing_rows(iter(rows), iter(rows), set()) == ((), ())


@given(old=RECORDS, new=RECORDS)
def test_records_are_left_out_if_they_are_the_same(old: Dict[int, bytes], new: Dict[int, bytes]) -> None:
    before, after = rpmchanges._differing_records(iter(sorted(old.items())), iter(sorted(new.items())))
    same = old.items() & new.items()
    assert before == dict(old.items() - same)
    assert after == dict(new.items() - same)


def test_records_that_stand_out_of_order_or_twice_are_not_taken_for_the_vendors() -> None:
    """As a damaged or hostile database may give them, whatever its table is defined as."""
    vendors = [(1, b"a"), (2, b"b"), (3, b"c")]
    for theirs in ([(1, b"a"), (3, b"x"), (2, b"b")], [(1, b"a"), (1, b"x"), (2, b"b"), (3, b"c")]):
        before, after = rpmchanges._differing_records(iter(vendors), iter(theirs))
        assert b"x" in after.values()
        assert before != after
