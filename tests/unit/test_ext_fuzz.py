"""The ext reader on damaged and hostile images: typed errors only, no hang, bounded memory."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.errors import MalformedError, RespinError
from respin.formats.ext import ExtImage
from tests.support.images import KiB, MiB, build_ext, damaged, debugfs

BLOCK = 1024


def make_tree(root: Path) -> Path:
    rng = random.Random(12)
    (root / "a/b/c").mkdir(parents=True)
    (root / "a/file").write_bytes(rng.randbytes(30_000))
    (root / "a/text").write_bytes(b"text")
    with (root / "a/sparse").open("wb") as sink:
        for at in (0, 100 * KiB, MiB, 70 * MiB):
            sink.seek(at)
            sink.write(b"data")
    for number in range(60):
        (root / f"a/b/a file with a long name, number {number}").write_bytes(b"%d" % number)
    (root / "link").symlink_to("a/b/../file")
    (root / "long").symlink_to("./" * 200 + "a")
    return root


@pytest.fixture(scope="module", params=["ext2", "ext4", "inline"])
def good(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Tuple[bytes, List[Tuple[int, int]]]:
    """An image, and the ranges of it that are metadata."""
    tmp = tmp_path_factory.mktemp("fuzz")
    fs = "ext2" if request.param == "ext2" else "ext4"
    options = ("-b", "1024", "-N", "128", "-O", "^has_journal,^resize_inode") + (
        ("-O", "inline_data", "-I", "512") if request.param == "inline" else ()
    )
    image = build_ext(tmp / "image", make_tree(tmp / "tree"), fs=fs, size_mib=2, options=options)
    (tmp / "value").write_bytes(b"value" * 150)
    debugfs(
        image,
        "ea_set a/text user.short value",
        f"ea_set -f {tmp / 'value'} a/text user.long",
        "ea_set a/b security.selinux label",
        "mknod null c 1 3",
    )
    data = image.read_bytes()
    ext = ExtImage.open(BytesView(data, "good"))
    used = ext.superblock.inode_count - ext.superblock.free_inodes
    tables = [p for p in ext.metadata_ranges() if p.kind == "inode-table"]
    areas = [(1024, 1024 + 264), (tables[0].offset + 128, tables[0].offset + used * ext.superblock.inode_size)] * 2
    areas += [(p.offset, p.offset + 96) for p in ext.metadata_ranges() if p.kind == "group-descriptors"][:1]
    for _path, inode in ext.walk():
        if inode.is_directory:
            areas += [(p.offset, p.offset + p.length) for p in ext.data_ranges(inode) if p.offset is not None]
        areas += [(offset, offset + length) for offset, length in ext.mapping_ranges(inode)]
    return data, areas


def use_everything(data: bytes) -> int:
    """Read all there is, whatever it says; the number of names."""
    ext = ExtImage.open(BytesView(data, "fuzzed"))
    count = 0
    for path, inode in ext.walk():
        count += 1
        ext.xattrs(inode)
        ext.mapping_ranges(inode)
        if inode.is_symlink:
            ext.readlink(inode)
            ext.resolve(path)
        if inode.is_file:
            view = ext.file_view(inode)
            assert view.size == inode.size
            for at in {0, view.size // 2, max(0, view.size - 5000)}:
                view.read(at, min(5000, view.size - at))
    for number, _piece in zip(range(1000), ext.metadata_ranges()):
        count += number < 0
    return count


def exit_code(data: bytes) -> int:
    """0, or the exit code of the error; any other exception is a bug."""
    try:
        use_everything(data)
    except RespinError as error:
        return error.exit_code
    return 0


def test_the_undamaged_image_reads_without_error(good: Tuple[bytes, List[Tuple[int, int]]]) -> None:
    assert use_everything(good[0]) == 71


@given(st.integers(0, 1 << 32))
@settings(max_examples=150, deadline=None)
def test_damage_gives_typed_errors_only(good: Tuple[bytes, List[Tuple[int, int]]], seed: int) -> None:
    data, areas = good
    assert exit_code(damaged(data, seed, areas)) in (0, 3, 7)


class Hostile:
    """A valid ext2 image to be spoiled in one place."""

    def __init__(self, tmp: Path, fs: str = "ext2") -> None:
        options = ("-b", "1024", "-N", "128", "-O", "^resize_inode", *(("-O", "^has_journal") if fs == "ext4" else ()))
        image = build_ext(tmp / "image", make_tree(tmp / "tree"), fs=fs, size_mib=2, options=options)
        self.data = bytearray(image.read_bytes())
        self.ext = ExtImage.open(BytesView(bytes(self.data), "image"))

    def inode(self, path: str, layout: str, offset: int, *values: int) -> None:
        """Write into the inode at ``path``."""
        struct.pack_into(layout, self.data, self.ext.inode_location(self.ext.stat(path).number) + offset, *values)

    def block(self, number: int, layout: str, offset: int, *values: int) -> None:
        """Write into a block."""
        struct.pack_into(layout, self.data, number * BLOCK + offset, *values)

    def opened(self) -> ExtImage:
        return ExtImage.open(BytesView(bytes(self.data), "image"))

    def entry(self, directory: str, name: str) -> int:
        """The byte of a directory entry."""
        for piece in self.ext.data_ranges(self.ext.stat(directory)):
            assert piece.offset is not None
            at = self.data.find(name.encode(), piece.offset, piece.offset + piece.length)
            if at >= 0:
                return at - 8
        raise AssertionError(name)


@pytest.fixture
def hostile(tmp_path: Path) -> Hostile:
    return Hostile(tmp_path)


def test_a_directory_that_holds_its_parent(hostile: Hostile) -> None:
    struct.pack_into("<I", hostile.data, hostile.entry("/a/b", "c\0"), hostile.ext.stat("/a").number)
    with pytest.raises(MalformedError, match="loop"):
        list(hostile.opened().walk())


def test_a_directory_with_two_names(hostile: Hostile) -> None:
    number = hostile.ext.stat("/a/b").number
    struct.pack_into("<I", hostile.data, hostile.entry("/a", "text"), number)
    with pytest.raises(MalformedError, match="loop"):
        list(hostile.opened().walk())


@pytest.mark.parametrize("name", [b"te/t", b"te\0t", b"file"])
def test_names_that_cannot_be(hostile: Hostile, name: bytes) -> None:
    at = hostile.entry("/a", "text") + 8
    hostile.data[at : at + 4] = name
    with pytest.raises(MalformedError, match="name"):
        hostile.opened().listdir("/a")


@pytest.mark.parametrize("number", [1, 5, 10, 129, 0xFFFFFFFF])
def test_names_of_reserved_or_missing_inodes(hostile: Hostile, number: int) -> None:
    struct.pack_into("<I", hostile.data, hostile.entry("/a", "text"), number)
    with pytest.raises(MalformedError, match="inode"):
        hostile.opened().listdir("/a")


def test_a_name_of_a_deleted_inode(hostile: Hostile) -> None:
    hostile.inode("/a/text", "<H", 26, 0)
    with pytest.raises(MalformedError, match="not in use"):
        hostile.opened().stat("/a/text")


@pytest.mark.parametrize("length", [0, 7, 9, 12, 2048, 0xFFFF])
def test_entries_that_leave_their_block(hostile: Hostile, length: int) -> None:
    struct.pack_into("<H", hostile.data, hostile.entry("/a", "text") + 4, length)
    with pytest.raises(MalformedError, match="directory"):
        hostile.opened().listdir("/a")


def test_indirect_blocks_that_are_their_own(hostile: Hostile) -> None:
    """A triple-indirect block that points at itself would unfold into 16 million pointers."""
    inode = hostile.ext.stat("/a/sparse")
    block = struct.unpack_from("<I", inode.block_area, 4 * 14)[0]
    assert block
    for number in range(256):
        hostile.block(block, "<I", 4 * number, block)
    started = time.process_time()
    with pytest.raises(MalformedError, match="twice"):
        hostile.opened().data_ranges(inode)
    assert time.process_time() - started < 1


def test_more_blocks_than_there_are(hostile: Hostile) -> None:
    """The same data blocks at every place of a large file: 9 x 256 pointers in a file system of 2048 blocks."""
    inode = hostile.ext.stat("/a/sparse")
    double = 1500
    hostile.inode("/a/sparse", "<I", 40 + 4 * 13, double)
    hostile.block(double, "<256I", 0, *([*range(1600, 1609), *[0] * 247]))
    for node in range(1600, 1609):
        hostile.block(node, "<256I", 0, *[1700 + n % 2 for n in range(256)])
    with pytest.raises(MalformedError, match="more blocks than the file system"):
        hostile.opened().data_ranges(hostile.opened().stat("/a/sparse"))
    assert len(hostile.ext.data_ranges(inode)) < 20


@pytest.mark.parametrize("block", [2048, 0xFFFFFFFF])
def test_blocks_outside(hostile: Hostile, block: int) -> None:
    hostile.inode("/a/file", "<I", 40, block)
    hostile.inode("/a/sparse", "<I", 40 + 4 * 13, block)
    ext = hostile.opened()
    for path in ("/a/file", "/a/sparse"):
        with pytest.raises(MalformedError, match="outside"):
            ext.data_ranges(ext.stat(path))


def test_a_size_of_four_exbibytes_takes_no_memory(hostile: Hostile) -> None:
    hostile.inode("/a/text", "<I", 108, 1 << 30)
    ext = hostile.opened()
    tracemalloc.start()
    view = ext.file_view(ext.stat("/a/text"))
    assert view.size == (1 << 62) + 4
    assert view.read(1 << 61, 10) == bytes(10)
    with pytest.raises(RespinError, match="limit"):
        ext.read(ext.stat("/a/text"))
    assert tracemalloc.get_traced_memory()[1] < MiB
    tracemalloc.stop()


class TestExtents:
    """The extent tree of one file, spoiled in one place."""

    @pytest.fixture
    def hostile(self, tmp_path: Path) -> Hostile:
        return Hostile(tmp_path, "ext4")

    CASES: Dict[str, Tuple[str, int, int]] = {
        "magic": ("<H", 0, 0xF30B),
        "more entries than fit": ("<H", 2, 5),
        "depth": ("<H", 6, 6),
        "depth of an index": ("<H", 6, 1),
        "block outside": ("<I", 12 + 8, 0xFFFFFF),
        "block outside, high": ("<H", 12 + 6, 1),
        "block 0": ("<I", 12 + 8, 0),
        "length 0": ("<H", 12 + 4, 0),
        "length": ("<H", 12 + 4, 0x8000),
        "order": ("<I", 12, 0xFFFF),
    }

    @pytest.mark.parametrize("case", list(CASES))
    def test_one_field(self, hostile: Hostile, case: str) -> None:
        layout, offset, value = self.CASES[case]
        hostile.inode("/a/sparse", layout, 40 + offset, value)
        ext = hostile.opened()
        with pytest.raises(MalformedError, match="inode"):
            ext.data_ranges(ext.stat("/a/sparse"))

    def test_a_tree_that_contains_itself(self, hostile: Hostile) -> None:
        node = 1500
        hostile.block(node, "<HHHHI", 0, 0xF30A, 84, 84, 4, 0)
        for number in range(84):
            hostile.block(node, "<IIHH", 12 + 12 * number, number, node, 0, 0)
        hostile.inode("/a/sparse", "<HHHHIIIHH", 40, 0xF30A, 1, 4, 5, 0, 0, node, 0, 0)
        ext = hostile.opened()
        with pytest.raises(MalformedError):
            ext.data_ranges(ext.stat("/a/sparse"))

    def test_a_node_that_is_used_twice(self, hostile: Hostile) -> None:
        hostile.block(1500, "<HHHHIIHHI", 0, 0xF30A, 1, 84, 0, 0, 0, 1, 0, 1000)
        hostile.inode("/a/sparse", "<HHHHIIIHHIIHH", 40, 0xF30A, 2, 4, 1, 0, 0, 1500, 0, 0, 9, 1500, 0, 0)
        ext = hostile.opened()
        with pytest.raises(MalformedError, match="twice"):
            ext.data_ranges(ext.stat("/a/sparse"))


def test_a_file_allocated_beyond_its_end(tmp_path: Path) -> None:
    """What is preallocated (fallocate --keep-size) is no content, but its map belongs to the inode."""
    hostile = Hostile(tmp_path, "ext4")
    before = hostile.ext.stat("/a/sparse")
    hostile.inode("/a/sparse", "<I", 4, 5000)
    ext = hostile.opened()
    inode = ext.stat("/a/sparse")
    assert inode.size == 5000
    assert sum(piece.length for piece in ext.data_ranges(inode)) == 5000
    assert ext.file_view(inode).read(0, 6) == b"data\0\0"
    assert ext.mapping_ranges(inode) == hostile.ext.mapping_ranges(before)
