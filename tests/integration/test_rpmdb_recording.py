"""Packages recorded in a database of the kind ndb or bdb by the Node's own rpm, or refused with the reason."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict

import pytest

from respin.byteview import FileView
from respin.errors import BuildError, PolicyError, RespinError, UnsupportedError
from respin.formats.ext import ExtImage
from respin.node import rpmdb, rpmrecord
from respin.policy.recorded import judge_contents
from tests.support.images import fsck_clean, run
from tests.support.keys import KeyWorld
from tests.support.roots import Installer, Packages, SharedNode, copy_program, pack
from tests.support.rpmdbs import MAIN_FILES, convert, recorder, recording, write_bdb, write_ndb

DIRECTORY = "/var/lib/rpm"


@dataclass(frozen=True)
class World:
    """A root with a database of a kind and an rpm of its own that writes it, and a package."""

    kind: str
    root: Path
    rpm: Path
    key: bytes
    recorder: Path

    def installer(self, tmp: Path, root: Path) -> Installer:
        (tmp / "node").mkdir()
        return Installer(tmp, pack(tmp / "node", root), [self.key])


def vendor_headers(root: Path) -> Dict[int, bytes]:
    with closing(sqlite3.connect(root / "var/lib/rpm/rpmdb.sqlite")) as connection:
        return dict(connection.execute("SELECT hnum, blob FROM Packages"))


def changed_root(root: Path, copy: Path, change: Callable[[Path], object]) -> Path:
    shutil.copytree(root, copy, symlinks=True)
    change(copy)
    return copy


@pytest.fixture(scope="module", params=list(MAIN_FILES))
def world(
    request: pytest.FixtureRequest,
    key_world: KeyWorld,
    shared_node: SharedNode,
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    kind = request.param
    program = recorder(kind)
    tmp = tmp_path_factory.mktemp(kind)

    def change(root: Path) -> None:
        headers = vendor_headers(root)
        (root / "var/lib/rpm/rpmdb.sqlite").unlink()
        convert(program, kind, root / "var/lib/rpm", headers)
        copy_program(root, str(program), "usr/bin/rpmdb")
        (root / "usr/lib/rpm").mkdir()
        for name in ("rpmrc", "macros"):
            shutil.copy(f"/usr/lib/rpm/{name}", root / "usr/lib/rpm")

    root = changed_root(shared_node[0], tmp / "root", change)
    rpm = Packages(key_world, tmp).build(
        "added",
        files="/usr/share/added",
        install="mkdir -p %{buildroot}/usr/share/added; echo data >%{buildroot}/usr/share/added/data",
        sections="%post\ntest ! -e /run/respin/rpmdb/nothing\n",
    )
    return World(kind, root, rpm, key_world.public("rpm"), program)


def test_the_record_is_the_packages_and_nothing_else_changed(world: World, tmp_path: Path) -> None:
    installer = world.installer(tmp_path, world.root)
    installed = installer.run([world.rpm])
    changed = {entry.path for entry in installed.delta.changed}
    assert f"{DIRECTORY}/{MAIN_FILES[world.kind]}" in changed
    assert {entry.path for entry in installed.delta.added} == {"/usr/share/added", "/usr/share/added/data"}
    assert not list(installed.delta.removed)
    image = installer.write_image(installed)
    fsck_clean(image)
    with installer.node.ext.open("rb") as old, image.open("rb") as new:
        before, after = (ExtImage.open(FileView(stream.fileno(), "image")) for stream in (old, new))
        database = rpmdb.locate(before)
        assert changed <= set(database.files) | {"/usr/share"}
        contents = [rpmdb.contents(tree, database) for tree in (before, after)]
    (number,) = set(contents[1].headers) - set(contents[0].headers)
    wanted = {rpmrecord.split(contents[1].headers[number], "db")[0]: "added"}
    assert list(judge_contents(*contents, wanted, "db")) == []
    other = [finding.message for finding in judge_contents(*contents, {}, "db")]
    assert f"record number {number} is none of the plugins' packages" in other
    # What the Node's own rpm makes of it.
    (tmp_path / "out").mkdir()
    run("debugfs", "-R", f"rdump {DIRECTORY} {tmp_path / 'out'}", image)
    exported = subprocess.run(
        recording(world.recorder, world.kind, tmp_path / "out/rpm", "--exportdb"), capture_output=True, check=True
    ).stdout
    assert all(header in exported for header in contents[1].headers.values())


def test_twice_gives_the_same_bytes(world: World, tmp_path: Path) -> None:
    installer = world.installer(tmp_path, world.root)
    first, second = (dict(installer.run([world.rpm]).changed_blocks) for _ in range(2))
    assert first == second
    assert first


def test_a_scriptlet_that_fails_is_an_error_as_ever(world: World, tmp_path: Path, key_world: KeyWorld) -> None:
    failing = Packages(key_world, tmp_path).build("failing", sections="%post\nexit 3\n")
    with pytest.raises(BuildError) as caught:
        world.installer(tmp_path, world.root).run([failing])
    assert caught.value.finding == "scriptlet-failed"


def test_a_package_that_is_there_already_is_refused(world: World, tmp_path: Path, key_world: KeyWorld) -> None:
    (tmp_path / "rpm").mkdir()
    again = key_world.build_rpm(tmp_path / "rpm", "vendor-tool", version="2.0", files={"/usr/share/other": "x\n"})
    with pytest.raises(PolicyError) as caught:
        world.installer(tmp_path, world.root).run([again])
    assert caught.value.finding == "already-installed"


class TestRefusals:
    """Roots whose own rpm is not there, cannot, or does something else. Their databases are made by the tests."""

    PROGRAMS: Dict[str, str] = {
        "cannot": "echo 'rpmdb: --importdb: unknown option' >&2; exit 1",
        "does nothing": "exit 0",
        "makes another": "echo x >/var/lib/rpm/rpmdb.sqlite",
        "destroys it": "echo x >/var/lib/rpm/Packages.db",
    }

    def install(self, tmp: Path, key_world: KeyWorld, shared_node: SharedNode, kind: str, script: str) -> None:
        def change(root: Path) -> None:
            headers = vendor_headers(root)
            (root / "var/lib/rpm/rpmdb.sqlite").unlink()
            (write_ndb if kind == "ndb" else write_bdb)(root / "var/lib/rpm" / MAIN_FILES[kind], headers)
            if script:
                (root / "usr/bin/rpmdb").write_text(f"#!/bin/sh\n{script}\n")
                (root / "usr/bin/rpmdb").chmod(0o755)

        root = changed_root(shared_node[0], tmp / "root", change)
        (tmp / "node").mkdir()
        rpm = Packages(key_world, tmp).build("added")
        Installer(tmp, pack(tmp / "node", root), [key_world.public("rpm")]).run([rpm])

    @pytest.mark.parametrize("kind", list(MAIN_FILES))
    def test_no_rpm_of_its_own(self, tmp_path: Path, key_world: KeyWorld, shared_node: SharedNode, kind: str) -> None:
        with pytest.raises(UnsupportedError, match=kind) as caught:
            self.install(tmp_path, key_world, shared_node, kind, "")
        assert caught.value.finding == "rpmdb-backend"

    @pytest.mark.parametrize(
        ("script", "error", "words"),
        [
            ("cannot", UnsupportedError, "unknown option"),
            ("does nothing", BuildError, "something else"),
            ("makes another", RespinError, "several|kinds"),
            ("destroys it", RespinError, "damaged"),
        ],
    )
    def test_an_rpm_that_does_not_record(
        self,
        tmp_path: Path,
        key_world: KeyWorld,
        shared_node: SharedNode,
        script: str,
        error: type,
        words: str,
    ) -> None:
        with pytest.raises(error, match=words):
            self.install(tmp_path, key_world, shared_node, "ndb", self.PROGRAMS[script])
