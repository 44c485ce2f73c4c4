"""A Node whose RPM database is of a kind that this machine's rpm cannot write."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Tuple

import pytest

from tests.support.forge import Forge, respin
from tests.support.images import debugfs
from tests.support.rpmdbs import write_bdb, write_ndb
from tests.support.variants import variant

DIRECTORY = "/var/lib/rpm"
NAMES = {"ndb": "Packages.db", "bdb": "Packages"}


@pytest.fixture(scope="module", params=list(NAMES))
def other(
    request: pytest.FixtureRequest, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory
) -> Tuple[str, Path]:
    """The stock Node with the same packages in a database of another kind."""
    tmp = tmp_path_factory.mktemp(request.param)

    def change(image: Path) -> None:
        debugfs(image, f"dump {DIRECTORY}/rpmdb.sqlite {tmp}/rpmdb.sqlite")
        with closing(sqlite3.connect(tmp / "rpmdb.sqlite")) as connection:
            headers = dict(connection.execute("SELECT hnum, blob FROM Packages"))
        write = write_ndb if request.param == "ndb" else write_bdb
        file = write(tmp / "database", headers)
        name = f"{DIRECTORY}/{NAMES[request.param]}"
        debugfs(image, f"rm {DIRECTORY}/rpmdb.sqlite", f"write {file} {name}", f"set_inode_field {name} mode 0100644")

    return request.param, variant(stock_iso, tmp, ("-comp", "gzip", "-Xcompression-level", "1"), change)


def test_it_is_recognised_and_what_can_be_done_is_said(other: Tuple[str, Path]) -> None:
    kind, iso = other
    found = respin("inspect", iso, "--json").json
    assert (found["node"]["rpm_database"], found["node"]["rpm_backend"]) == (f"{DIRECTORY}/{NAMES[kind]}", kind)
    assert f"of the kind {kind}" in found["node_reason"]
    assert f"{DIRECTORY}/{NAMES[kind]} ({kind})" in respin("inspect", iso).out


def test_its_packages_are_read(other: Tuple[str, Path], stock_iso: Path, tmp_path: Path) -> None:
    counts = [
        respin("sbom", iso, "--all", "-o", tmp_path / f"{number}.json", "--json").json["components"]
        for number, iso in enumerate((other[1], stock_iso))
    ]
    assert counts[0] == counts[1] > 0
    assert respin("diff", stock_iso, other[1], "--json").json["sections"]["packages"]["differences"] == []


def test_nothing_is_built_on_it(other: Tuple[str, Path], forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    done = Forge(forge.keys, other[1], tmp_path).build(tmp_path / "out.iso", good_plugin, json=True)
    assert (done.code, done.json["error"]["finding"]) == (7, "rpmdb")
    assert not (tmp_path / "out.iso").exists()
