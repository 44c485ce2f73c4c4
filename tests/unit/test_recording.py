"""The stand-in for an rpm database after scriptlets, which can reach it: nothing outside is read or made through it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from respin.errors import BuildError, RespinError
from respin.root.database import Database
from respin.root.isolation import Transcript
from respin.root.recording import StandIn, record


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    """A stand-in whose first record is the Node's."""
    made = StandIn.__new__(StandIn)
    made.directory = str(tmp_path / "rpmdb")
    made._known = {1}
    Path(made.directory).mkdir()
    with closing(sqlite3.connect(f"{made.directory}/rpmdb.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob)")
        connection.executemany("INSERT INTO Packages VALUES (?, ?)", [(1, b"vendor"), (3, b"two"), (2, b"one")])
    return made


def test_what_was_added_in_its_order(stand_in: StandIn) -> None:
    assert stand_in.new_records() == [b"one", b"two"]


def test_a_link_that_leads_out(stand_in: StandIn, tmp_path: Path) -> None:
    """Opening it would make the file that it names, as whoever builds."""
    file = Path(stand_in.directory, "rpmdb.sqlite")
    file.unlink()
    file.symlink_to(tmp_path / "outside")
    with pytest.raises(BuildError, match="scriptlet"):
        stand_in.new_records()
    assert not (tmp_path / "outside").exists()


def test_a_database_that_is_none(stand_in: StandIn) -> None:
    Path(stand_in.directory, "rpmdb.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(BuildError, match="scriptlet"):
        stand_in.new_records()


def test_a_number_instead_of_a_header(stand_in: StandIn) -> None:
    """As many zero bytes would be made of it."""
    with closing(sqlite3.connect(f"{stand_in.directory}/rpmdb.sqlite")) as connection, connection:
        connection.execute("UPDATE Packages SET blob = 99999999999 WHERE hnum = 2")
    with pytest.raises(BuildError, match="no headers"):
        stand_in.new_records()


@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_database_that_is_a_link_afterwards(what: str, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "var/lib").mkdir(parents=True)
    outside.mkdir()
    (outside / "Packages").write_bytes(b"somebody's")
    if what == "directory":
        (root / "var/lib/rpm").symlink_to(outside)
    else:
        (root / "var/lib/rpm").mkdir()
        (root / "var/lib/rpm/Packages").symlink_to(outside / "Packages")
    database = Database("/var/lib/rpm", "bdb", "Packages")
    with pytest.raises(RespinError) as caught:
        record([b"header"], str(root), database, "", timeout=1, transcript=Transcript())
    assert caught.value.finding in ("transaction-failed", "unsupported")
    assert (outside / "Packages").read_bytes() == b"somebody's"
