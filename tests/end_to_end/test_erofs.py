"""A Node whose root image is an erofs: inspected, listed, compared; nothing is built on it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Dict, Tuple

import pytest

from tests.support.erofs import build_erofs
from tests.support.forge import Forge, respin
from tests.support.images import nested_image, run
from tests.support.variants import mastered


@pytest.fixture(scope="module", params=["nested", "flat"])
def erofs(
    request: pytest.FixtureRequest, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory
) -> Tuple[str, Path]:
    """The stock Node with its root image packed as an erofs: around the ext image, or as the tree itself."""
    tmp = tmp_path_factory.mktemp("erofs")
    image = nested_image(stock_iso, tmp / "work")
    if request.param == "nested":
        packed = build_erofs(tmp / "erofs.img", image.parents[1], "-zlz4", "--all-root", "-T1600000000")
    else:
        if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
            pytest.skip("packing a root with its owners takes root and FUSE")
        (tmp / "mount").mkdir()
        run("fuse2fs", "-o", "ro", image, tmp / "mount")
        try:
            packed = build_erofs(tmp / "erofs.img", tmp / "mount", "-zlz4")
        finally:
            run("umount", tmp / "mount")
    shutil.rmtree(tmp / "work")
    return request.param, mastered(stock_iso, tmp, packed)


# How many names and bytes a directory has is each format's own matter.
COUNTED = {"size": 0, "nlink": 0}


def listed(iso: Path) -> Dict[str, Dict[str, object]]:
    """Everything in the root by path."""
    done = respin("inspect", iso, "--files", "--json")
    assert done.code == 0, done.err
    return {one["path"]: {**one, **COUNTED} if one["kind"] == "directory" else one for one in done.json["files"]}


def test_inspect_says_what_it_is_and_that_nothing_is_built_on_it(erofs: Tuple[str, Path]) -> None:
    kind, iso = erofs
    found = respin("inspect", iso, "--json").json
    assert found["layout"] == ("lz4 erofs holding /LiveOS/ext3fs.img (ext)" if kind == "nested" else "flat lz4 erofs")
    assert found["profile"]["id"]
    assert found["node"]["rpm_database"] == "/var/lib/rpm/rpmdb.sqlite"
    assert (found["node"]["compression"], found["node"]["block_size"]) == ("lz4", 4096)
    assert found["node"]["kernels"]
    assert "builds on a squashfs only" in found["node_reason"]
    people = respin("inspect", iso).out
    assert "respin cannot build on this ISO" in people
    assert "/var/lib/rpm/rpmdb.sqlite" in people


def test_the_files_are_those_of_the_squashfs(erofs: Tuple[str, Path], stock_iso: Path) -> None:
    mine, theirs = listed(erofs[1]), listed(stock_iso)
    for gone in set(theirs) - set(mine):
        assert gone.startswith("/lost+found")
    assert mine == {path: facts for path, facts in theirs.items() if path in mine}
    assert len(mine) > 100


def test_a_file_is_printed(erofs: Tuple[str, Path], stock_iso: Path) -> None:
    for path in ("/etc/os-release", "/var/lib/rpm/rpmdb.sqlite"):
        mine, theirs = (respin("inspect", iso, "--cat", path, "--json").json for iso in (erofs[1], stock_iso))
        assert mine["content"] == theirs["content"]
        assert mine["content"]


def test_build_and_check_refuse_it_and_say_why(
    erofs: Tuple[str, Path], forge: Forge, good_plugin: Path, tmp_path: Path
) -> None:
    done = Forge(forge.keys, erofs[1], tmp_path).build(tmp_path / "out.iso", good_plugin, json=True)
    assert (done.code, done.json["error"]["finding"]) == (7, "layout")
    assert "respin builds on a squashfs only" in done.json["error"]["what"]
    assert not (tmp_path / "out.iso").exists()


def test_verify_says_what_it_says_of_any_stock_iso(erofs: Tuple[str, Path], forge: Forge, stock_iso: Path) -> None:
    mine, theirs = (respin("verify", iso, "--trust", forge.keys.trust, "--json") for iso in (erofs[1], stock_iso))
    for done in (mine, theirs):
        assert (done.code, done.json["error"]["finding"]) == (3, "no-statement")


def test_compared_with_the_squashfs_no_file_and_no_package_differs(erofs: Tuple[str, Path], stock_iso: Path) -> None:
    found = respin("diff", stock_iso, erofs[1], "--json")
    assert found.code == 1
    sections = found.json["sections"]
    assert {one["name"] for one in sections["files"]["differences"]} <= {"/lost+found"}
    assert sections["packages"]["differences"] == []


def test_its_packages_are_listed(erofs: Tuple[str, Path], stock_iso: Path, tmp_path: Path) -> None:
    counts = [
        respin("sbom", iso, "--all", "-o", tmp_path / f"{number}.json", "--json").json["components"]
        for number, iso in enumerate((erofs[1], stock_iso))
    ]
    assert counts[0] == counts[1] > 0
