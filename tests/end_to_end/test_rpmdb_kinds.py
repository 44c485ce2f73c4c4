"""A Node whose RPM database is of a kind that this machine's rpm cannot write."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Tuple

import pytest

from tests.support.forge import Forge, respin
from tests.support.images import debugfs
from tests.support.rpmdbs import convert, recorder, write_bdb, write_ndb
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


class TestWithAnRpmOfItsOwn:
    """The Node has an rpm that writes its database."""

    @pytest.fixture(scope="class", params=list(NAMES))
    @classmethod
    def built(
        cls, request: pytest.FixtureRequest, forge: Forge, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Tuple[str, Forge, Path]:
        """Kind, the stock Node with such a database and the rpm, and a respin of it."""
        kind = request.param
        program = recorder(kind)
        tmp = tmp_path_factory.mktemp(f"own-{kind}")

        def change(image: Path) -> None:
            debugfs(image, f"dump {DIRECTORY}/rpmdb.sqlite {tmp}/rpmdb.sqlite")
            with closing(sqlite3.connect(tmp / "rpmdb.sqlite")) as connection:
                headers = dict(connection.execute("SELECT hnum, blob FROM Packages"))
            (tmp / "database").mkdir()
            convert(program, kind, tmp / "database", headers)
            commands = [f"rm {DIRECTORY}/rpmdb.sqlite"]
            for file in sorted((tmp / "database").iterdir()):
                commands += written(file, f"{DIRECTORY}/{file.name}", 0o644)
            commands += [*written(program, "/usr/bin/rpmdb", 0o755), "mkdir /usr/lib/rpm"]
            for name in ("rpmrc", "macros"):
                commands += written(Path(f"/usr/lib/rpm/{name}"), f"/usr/lib/rpm/{name}", 0o644)
            present = debugfs(image, "ls -p /usr/lib/x86_64-linux-gnu")
            for library in libraries(program):
                if f"/{library.name}/" not in present:
                    commands += written(library, f"/usr/lib/x86_64-linux-gnu/{library.name}", 0o755)
            debugfs(image, *commands)

        iso = variant(stock_iso, tmp, ("-comp", "gzip", "-Xcompression-level", "1"), change)
        mine = Forge(forge.keys, iso, tmp)
        done = mine.build(tmp / "out.iso", mine.plugin("good", files={"/usr/share/good/data": "data\n"}), json=True)
        assert done.code == 0, done.err
        return kind, mine, tmp / "out.iso"

    def test_verify_holds_and_restore_gives_the_vendors_iso(
        self, built: Tuple[str, Forge, Path], tmp_path: Path
    ) -> None:
        _, forge, output = built
        done = respin("verify", output, "--trust", forge.keys.trust, "--json")
        assert done.code == 0, done.err
        assert respin("restore", output, "-o", tmp_path / "stock.iso").code == 0
        assert (tmp_path / "stock.iso").read_bytes() == forge.iso.read_bytes()

    def test_the_package_is_in_the_one_database(self, built: Tuple[str, Forge, Path]) -> None:
        kind, forge, output = built
        found = respin("diff", forge.iso, output, "--json").json["sections"]
        assert [one["name"] for one in found["packages"]["differences"]] == ["good.noarch"]
        there = {
            one["path"]
            for one in respin("inspect", output, "--files", "--below", DIRECTORY, "--json").json["files"]
            if one["kind"] == "file"
        }
        assert f"{DIRECTORY}/{NAMES[kind]}" in there
        assert f"{DIRECTORY}/rpmdb.sqlite" not in there


def written(source: Path, target: str, mode: int) -> "list[str]":
    """debugfs commands that put a file into an image, in place of what may be there."""
    return [f"rm {target}", f"write {source} {target}", f"set_inode_field {target} mode 0{0o100000 | mode:o}"]


def libraries(program: Path) -> "list[Path]":
    """The shared libraries that a program of this machine needs."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [Path(match) for match in re.findall(r"(/\S+) \(0x", said)]
