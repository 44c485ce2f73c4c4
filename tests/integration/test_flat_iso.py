"""An ISO whose root image is a flat squashfs: recognised, listed and read, with or without a profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.forge import respin
from tests.support.images import build_squashfs, extracted, run, write_tree
from tests.support.iso import build_classic_iso

CONTENT = b"a line of text\n" * 3000


@pytest.fixture(scope="module")
def iso(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp = tmp_path_factory.mktemp("flat")
    source = write_tree(
        tmp / "root", {"etc/text": CONTENT, "etc/empty": b"", "usr/lib/modules/6.1.0-1/modules.dep": b""}
    )
    (source / "etc/link").symlink_to("/etc/text")
    image = build_squashfs(tmp / "squashfs.img", source, compressor="xz")
    return build_classic_iso(tmp / "iso", {"LiveOS/squashfs.img": image})


def test_lists_what_unsquashfs_lists(iso: Path, tmp_path: Path) -> None:
    image = tmp_path / "squashfs.img"
    extracted(iso, "/LiveOS/squashfs.img", image)
    theirs = {line[len("squashfs-root") :] or "/" for line in run("unsquashfs", "-l", image).decode().splitlines()}
    done = respin("inspect", iso, "--files", "--json")
    assert done.code == 0, done.err
    files = {one["path"]: one for one in done.json["files"]}
    assert set(files) == {path for path in theirs if path.startswith("/")}
    assert files["/etc/text"]["size"] == len(CONTENT)
    assert files["/etc/link"]["target"] == "/etc/text"
    assert run("unsquashfs", "-cat", image, "etc/text") == CONTENT


def test_reads_a_file_through_a_link(iso: Path) -> None:
    done = respin("inspect", iso, "--cat", "/etc/link")
    assert (done.code, done.out.encode()) == (0, CONTENT)


def test_the_layout_and_the_kind_of_node_are_named(iso: Path) -> None:
    found = respin("inspect", iso, "--json").json
    assert found["layout"] == "flat xz squashfs"
    assert found["profile"]["id"] == "dracut-live"
    assert "/usr/bin/liveinst" in found["profile"]["protected"]["installer"]["root"]
    assert "persistence   packages dracut-live" in respin("inspect", iso).out
