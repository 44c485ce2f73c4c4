"""The copy of a root image's metadata: e2fsck judges it as it judges the image, and no file's content is in it."""

from __future__ import annotations

import random
import subprocess
import tempfile
from pathlib import Path
from typing import Dict

import pytest

from respin.byteview import BytesView
from respin.errors import BuildError
from respin.formats.ext.image import ExtImage
from respin.node.metadatacopy import MetadataCopy
from respin.node.treeindex import TreeIndex
from respin.root import fsck
from respin.spool import SparseSpool
from tests.support.images import Link, build_ext, debugfs

CONTENT = b"this is what a file holds " * 4000
OPTIONS = {
    "ext2": (),
    "ext3": (),
    "ext4": (),
    "ext4-inline": ("-O", "inline_data", "-I", "256"),
    "ext4-64bit": ("-O", "64bit,meta_bg,^resize_inode"),
    "ext2-1k": ("-b", "1024", "-I", "128"),
}


def _tree() -> "Dict[str, bytes | Link]":
    tree: "Dict[str, bytes | Link]" = {f"d{n}/f{n}": CONTENT[: n * 9000] for n in range(12)}
    tree["long"] = random.Random(3).randbytes(300_000)
    tree["slow-link"] = Link("x" * 200)
    tree["empty/"] = b""
    return tree


@pytest.fixture(scope="module", params=sorted(OPTIONS))
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind = str(request.param)
    path = tmp_path_factory.mktemp("metadata") / "root.img"
    build_ext(path, _tree(), fs=kind.partition("-")[0], size_mib=16, options=OPTIONS[kind])
    debugfs(path, "ea_set /d1/f1 user.note " + "value" * 12)
    return path


def copied(content: bytes, path: Path, limit: int = 1 << 30) -> bool:
    """Copy the metadata of an image with this content to ``path``; whether all of it is there.

    At most ``limit`` bytes of it are held in memory on the way.
    """
    root = ExtImage.open(BytesView(content, "root.img"))
    with SparseSpool(path.parent, limit) as spool:
        metadata = MetadataCopy(root, spool)
        TreeIndex(root, metadata)
        assert spool.on_disk == (limit < 1 << 30)
        with open(spool.descriptors[spool.on_disk], "rb", closefd=False) as stream:
            path.write_bytes(stream.read())
    return metadata.sufficient


def is_clean(path: Path) -> bool:
    return subprocess.run(["e2fsck", "-fn", path], capture_output=True, check=False).returncode == 0


def test_e2fsck_calls_the_copy_of_a_clean_image_clean(image: Path, tmp_path: Path) -> None:
    content = image.read_bytes()
    assert is_clean(image)
    assert copied(content, tmp_path / "copy")
    assert is_clean(tmp_path / "copy")
    copy = (tmp_path / "copy").read_bytes()
    assert len(copy) == len(content)
    assert CONTENT[1000:2000] in content
    assert CONTENT[1000:2000] not in copy


def test_a_copy_that_moved_to_the_disk_is_the_same(image: Path, tmp_path: Path) -> None:
    content = image.read_bytes()
    copied(content, tmp_path / "in-memory")
    copied(content, tmp_path / "from-the-start-on-disk", limit=0)
    copied(content, tmp_path / "moved", limit=100_000)
    expected = (tmp_path / "in-memory").read_bytes()
    assert [(tmp_path / name).read_bytes() == expected for name in ("from-the-start-on-disk", "moved")] == [True, True]


def test_e2fsck_finds_in_the_copy_what_is_wrong_with_the_image(image: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.img"
    for request in ("clri /d3/f3", "sif /d4/f4 links_count 7", "unlink /long"):
        broken.write_bytes(image.read_bytes())
        debugfs(broken, request)
        assert not is_clean(broken)
        copied(broken.read_bytes(), tmp_path / "copy")
        assert not is_clean(tmp_path / "copy"), request


def test_changes_are_judged_in_the_copy(image: Path, tmp_path: Path) -> None:
    content = image.read_bytes()
    changed = tmp_path / "changed.img"
    changed.write_bytes(content)
    new = tmp_path / "new"
    new.write_bytes(CONTENT[:5000])
    debugfs(changed, f"write {new} /d1/new", "mkdir /more")
    after, step = changed.read_bytes(), 16384
    places = [at for at in range(0, len(content), step) if content[at : at + step] != after[at : at + step]]
    copied(content, tmp_path / "copy")
    with (tmp_path / "copy").open("r+b") as copy, tempfile.TemporaryFile() as source:
        source.write(b"".join(after[at : at + step] for at in places))
        source.flush()
        ranges = [(at, number * step, len(after[at : at + step])) for number, at in enumerate(places)]
        assert fsck.metadata_is_clean(copy.fileno(), ranges, source.fileno(), len(content))
        with pytest.raises(BuildError, match="too short"):
            fsck.metadata_is_clean(copy.fileno(), [(0, len(places) * step, 1)], source.fileno(), len(content))


def test_a_forgotten_change_shows(image: Path, tmp_path: Path) -> None:
    """The root directory without the name, the inode and the blocks still in use: no clean file system."""
    content = image.read_bytes()
    changed = tmp_path / "changed.img"
    changed.write_bytes(content)
    debugfs(changed, "rm /d5/f5")
    after, step = changed.read_bytes(), 1024
    places = [at for at in range(0, len(content), step) if content[at : at + step] != after[at : at + step]]
    (name,) = (at for at in places if b"f5" in content[at : at + step] and b"\2\0\0" in content[at : at + step])
    copied(content, tmp_path / "copy")
    with (tmp_path / "copy").open("r+b") as copy, changed.open("rb") as source:
        assert not fsck.metadata_is_clean(copy.fileno(), [(name, name, step)], source.fileno(), len(content))
        rest = [(at, at, step) for at in places if at != name]
        assert fsck.metadata_is_clean(copy.fileno(), rest, source.fileno(), len(content))


def test_an_image_with_attributes_in_inodes_is_left_to_the_full_check(tmp_path: Path) -> None:
    build_ext(tmp_path / "root.img", _tree(), fs="ext4", size_mib=16, options=("-O", "ea_inode"))
    assert not copied((tmp_path / "root.img").read_bytes(), tmp_path / "copy")
