"""Parts of growing and unpacking an image, each by itself: sizes, views, digests, refusals."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.errors import BuildError, MissingToolError, UnsupportedError
from respin.formats.ext import ExtImage
from respin.formats.squashfs import PatchedView, SquashfsImage
from respin.node.ranges import Ranges
from respin.node.treediff import compare
from respin.node.treeindex import TreeIndex
from respin.root import growth
from respin.root.e2fsprogs import refuse_unsupported
from respin.root.idmaps import NEEDED_IDS, require_ids
from respin.root.space import Need, Space
from respin.root.store import CopyOnWrite
from respin.root.unpacked import UnpackedImage
from tests.support.images import build_ext, build_squashfs, debugfs, write_sparse

EPOCH = "1700000000"
BLOCK = 4096


def grown_copy(image: Path, size: int) -> Path:
    """The image with its file system grown to ``size`` bytes by resize2fs."""
    copy = image.with_suffix(".grown")
    copy.write_bytes(image.read_bytes())
    os.truncate(copy, size)
    subprocess.run(
        ["resize2fs", "-f", copy, str(size // 1024)],
        check=True,
        capture_output=True,
        env={**os.environ, "E2FSPROGS_FAKE_TIME": EPOCH},
    )
    return copy


class TestSize:
    """How far an image has to grow."""

    @pytest.fixture(scope="class")
    @classmethod
    def image(cls, tmp_path_factory: pytest.TempPathFactory) -> ExtImage:
        path = build_ext(tmp_path_factory.mktemp("size") / "image", fs="ext4", size_mib=40, options=("-b", "1024"))
        return ExtImage.open(BytesView(path.read_bytes(), "image"))

    @pytest.mark.parametrize("lacking", [1, 1000, 100_000])
    def test_what_resize2fs_makes_is_enough_and_a_group_less_is_not(
        self, image: ExtImage, tmp_path: Path, lacking: int
    ) -> None:
        superblock = image.superblock
        space = Space(Need(superblock.free_blocks + lacking, 5), Need(superblock.free_blocks, superblock.free_inodes))
        size = growth.size_for(superblock, image.view.size, space, "image")
        (tmp_path / "image").write_bytes(image.view.read(0, image.view.size))
        after = ExtImage.open(BytesView(grown_copy(tmp_path / "image", size).read_bytes(), "grown")).superblock
        assert after.block_count * 1024 == size
        left = after.free_blocks - space.need.blocks
        assert left >= after.block_count // growth.HEADROOM
        assert left - superblock.blocks_per_group < after.block_count // growth.HEADROOM + 1000

    def test_inodes_count_too(self, image: ExtImage) -> None:
        superblock = image.superblock
        space = Space(Need(1, superblock.free_inodes + 1), Need(superblock.free_blocks, superblock.free_inodes))
        size = growth.size_for(superblock, image.view.size, space, "image")
        assert size > image.view.size

    def test_there_is_an_end(self, image: ExtImage) -> None:
        superblock = replace(image.superblock, features=image.superblock.features - {"64bit"})
        for need in (Need(1 << 33, 1), Need(1, 1 << 31)):
            with pytest.raises(BuildError, match="beyond the limits") as caught:
                growth.size_for(superblock, image.view.size, Space(need, Need(0, 0)), "image")
            assert caught.value.finding == "no-space-in-root"


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(0, 1400), st.binary(max_size=200)), max_size=6),
    st.lists(st.tuples(st.integers(0, 1400), st.binary(max_size=200)), max_size=6),
)
def test_a_view_that_grows(more: int, first: List[Tuple[int, bytes]], then: List[Tuple[int, bytes]]) -> None:
    base = bytes(i * 7 % 251 for i in range(1000))
    with tempfile.TemporaryFile() as file:
        image = CopyOnWrite(BytesView(base, "base"), 64, file.fileno())
        model = bytearray(base)
        for size, writes in ((1000, first), (1000 + more, then)):
            image.grow(size)
            model.extend(bytes(size - len(model)))
            for offset, data in writes:
                data = data[: max(0, size - offset)]
                if data:
                    image.write(offset, data)
                    model[offset : offset + len(data)] = data
        assert image.read(0, 1000 + more) == model
        padded = base.ljust(len(model), b"\0")
        wanted = {at // 64 for at in range(0, len(model), 64) if model[at : at + 64] != padded[at : at + 64]}
        assert set(image.changed()) == wanted


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_an_unpacked_image_tells_the_same_changes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """As the copy-on-write view does, whatever the blocks are: stored, holes, zeros that are stored, a tail end."""
    tmp = tmp_path_factory.mktemp("unpacked")
    rng = random.Random(data.draw(st.integers(0, 1 << 30)))
    kinds = data.draw(st.lists(st.sampled_from(["hole", "text", "noise"]), min_size=1, max_size=8))
    tail = data.draw(st.integers(0, BLOCK - 1))
    makers = {
        "hole": lambda: bytes(BLOCK),
        "text": lambda: b"text" * (BLOCK // 4),
        "noise": lambda: rng.randbytes(BLOCK),
    }
    content = b"".join(makers[kind]() for kind in kinds) + rng.randbytes(tail)
    (tmp / "root").mkdir()
    write_sparse(tmp / "root/image", content)
    squashfs = build_squashfs(tmp / "squashfs", tmp / "root", block_size=BLOCK, options=("-tailends",))
    nested = SquashfsImage.open(BytesView(squashfs.read_bytes(), "squashfs")).open_file("/image")
    size = len(content) + data.draw(st.sampled_from([0, 1, BLOCK, 5 * BLOCK + 3]))
    pieces = st.sampled_from([b"\0" * 300, b"new" * 99])
    writes = data.draw(st.lists(st.tuples(st.integers(0, size - 1), pieces), max_size=5))
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as other:
        served = CopyOnWrite(nested, BLOCK, one.fileno())
        unpacked = UnpackedImage(nested, other.fileno(), "/tmp")
        assert os.pread(other.fileno(), len(content) + 1, 0) == content
        served.grow(size)
        unpacked.grow(size)
        for offset, piece in writes:
            piece = piece[: size - offset]
            served.write(offset, piece)
            os.pwrite(other.fileno(), piece, offset)
        report = unpacked.report()
        assert report["image_size"] == size
        assert [index for index, _, _ in report["changed"]] == list(served.changed())
        for index, position, length in report["changed"]:
            assert os.pread(other.fileno(), length, position) == served.read(index * BLOCK, length)


def test_a_patched_view_that_is_longer() -> None:
    base = BytesView(b"abc" * 1000, "base")

    class Blocks:
        size, name, block_size, blocks_total = 3000, "base", 1024, 3

        def block(self, index: int) -> bytes:
            return base.read(index * 1024, min(1024, 3000 - index * 1024))

        def read(self, offset: int, length: int) -> bytes:
            return base.read(offset, length)

    view = PatchedView(Blocks(), {4: b"x" * 1024}, 5000 + 120)
    assert view.read(0, view.size) == (b"abc" * 1000).ljust(4096, b"\0") + b"x" * 1024
    assert view.blocks_total == 5


@pytest.mark.parametrize("options", [(), ("-O", "^resize_inode"), ("-O", "metadata_csum,64bit")])
def test_an_index_serves_the_comparison_with_a_grown_image(tmp_path: Path, options: Tuple[str, ...]) -> None:
    """With it and without it the same is found, and most inodes need not be looked at."""
    tree: Dict[str, bytes] = {f"d{n}/f{n}": b"content %d" % n * 500 for n in range(40)}
    image = build_ext(tmp_path / "image", tree, fs="ext4", size_mib=16, options=options)  # type: ignore[arg-type]
    grown = grown_copy(image, 80 << 20)
    (tmp_path / "new").write_bytes(b"new" * 5000)
    debugfs(grown, f"write {tmp_path / 'new'} /d3/new", "sif /d4/f4 mode 0100600", "rm /d5/f5")
    old, new = image.read_bytes(), grown.read_bytes()
    starts = range(0, len(new), BLOCK)
    places = [at // BLOCK for at in starts if old[at : at + BLOCK] != new[at : at + BLOCK]]
    changed = Ranges.of_blocks(places, BLOCK, len(new))
    before, after = (ExtImage.open(BytesView(data, name)) for data, name in ((old, "old"), (new, "new")))
    index = TreeIndex(before)
    found = compare(before, after, changed, index)
    assert found == compare(before, after, changed)
    paths = {entry.path for entry in found}
    assert {"/d3/new", "/d4/f4", "/d5/f5"} <= paths <= {"/d3", "/d3/new", "/d4/f4", "/d5", "/d5/f5"}
    assert sum(1 for kind in index.same(after, changed) if kind) > 40


def test_what_e2fsprogs_does_not_know_is_an_unsupported_input() -> None:
    for said in (
        "debugfs 1.46.5\nimage: Filesystem has unsupported feature(s) while opening filesystem",
        "image: Filesystem has unsupported read-only feature(s)",
    ):
        with pytest.raises(UnsupportedError, match="e2fsprogs") as caught:
            refuse_unsupported(said, "image")
        assert caught.value.finding == "ext-features"
    refuse_unsupported("resize2fs 1.47.0 (5-Feb-2023)\nNo space left on device", "image")


def test_root_needs_all_ids() -> None:
    require_ids("         0          0 4294967295\n", "uid_map")
    require_ids(f"0 1000 1\n1 100000 {NEEDED_IDS - 1}\n", "uid_map")
    for table in ("0 1000 1\n", f"0 1000 1\n1 100000 {NEEDED_IDS - 2}\n", ""):
        with pytest.raises(MissingToolError, match="ids") as caught:
            require_ids(table, "uid_map")
        assert caught.value.finding == "no-subordinate-ids"
