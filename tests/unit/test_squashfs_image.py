"""Reading squashfs images: trees, all inode types, attributes, files, views; judged by unsquashfs and what went in."""

from __future__ import annotations

import os
import random
import struct
import threading
import tracemalloc
import zlib
from pathlib import Path
from typing import Dict, Iterator, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.errors import MalformedError, RespinError, UnsupportedError
from respin.formats.squashfs import Kind, PatchedView, SquashfsFile, SquashfsImage, is_squashfs, splice_file
from respin.formats.squashfs.superblock import read_superblock
from tests.support.images import EPOCH, KiB, MiB, build_squashfs, damaged, run

BLOCK = 4 * KiB


def opened(image: Path) -> SquashfsImage:
    return SquashfsImage.open(BytesView(image.read_bytes(), str(image)))


def set_xattr(path: Path, name: str, value: bytes) -> bool:
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def files() -> Dict[str, bytes]:
    rng = random.Random(3)
    return {
        "noise": rng.randbytes(3 * BLOCK),
        "tail": rng.randbytes(2 * BLOCK + 100),
        "holes": bytes(5 * BLOCK) + b"end" + bytes(3 * BLOCK) + b"tail",
        "small": b"small\n",
        "empty": b"",
        "LiveOS/ext3fs.img": b"x" * (300 * BLOCK) + rng.randbytes(BLOCK) + bytes(40 * BLOCK + 7),
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, files: Dict[str, bytes]) -> Path:
    root = tmp_path_factory.mktemp("source")
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
        (root / name).chmod(0o640)
    (root / "link").symlink_to("LiveOS/ext3fs.img")
    os.link(root / "noise", root / "hard")
    (root / "grün").write_bytes(b"name")
    (root / "setuid").write_bytes(b"x")
    (root / "setuid").chmod(0o4755)
    return root


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    devices = ("-p", "null c 666 0 5 1 3", "-p", "disk b 660 0 6 259 70000", "-p", "pipe i 600 7 8 f")
    options = ("-tailends", *devices)
    output = tmp_path_factory.mktemp("image") / "image"
    return build_squashfs(output, source, block_size=BLOCK, options=options, all_root=False)


def test_the_tree_is_what_went_in(image: Path, files: Dict[str, bytes]) -> None:
    squashfs = opened(image)
    assert squashfs.is_small
    assert set(squashfs.entries) == {"/", "/LiveOS"} | {
        f"/{name}" for name in (*files, "link", "hard", "grün", "setuid", "null", "disk", "pipe")
    }
    assert [path for path, _inode in squashfs.walk()] == list(squashfs.entries)
    for name, content in files.items():
        entry = squashfs.entries[f"/{name}"]
        assert isinstance(entry, SquashfsFile)
        assert entry.size == len(content)
        assert squashfs.read_file(name) == content
        assert (entry.inode.mode, entry.inode.mtime, entry.inode.uid) == (0o100640, EPOCH, os.getuid())
    assert squashfs.stat("/noise").nlink == 2
    assert squashfs.stat("/hard").number == squashfs.stat("/noise").number
    assert squashfs.stat("setuid").mode == 0o104755
    assert squashfs.readlink("link") == "LiveOS/ext3fs.img"
    assert squashfs.listdir("/LiveOS") == ["ext3fs.img"]
    null, disk, pipe = (squashfs.stat(name) for name in ("null", "disk", "pipe"))
    assert (null.kind, null.mode, null.rdev, null.gid) == (Kind.CHARACTER_DEVICE, 0o020666, os.makedev(1, 3), 5)
    assert (disk.kind, disk.rdev) == (Kind.BLOCK_DEVICE, os.makedev(259, 70000))
    assert (pipe.kind, pipe.uid) == (Kind.FIFO, 7)


def test_unsquashfs_lists_the_same(image: Path) -> None:
    listing = run("unsquashfs", "-ll", image).decode().splitlines()
    theirs = sorted(
        line.split("squashfs-root", 1)[1].split(" -> ")[0] or "/" for line in listing if "squashfs-root" in line
    )
    assert sorted(path for path, _inode in opened(image).walk()) == theirs


def test_holes_and_tails_are_known(image: Path, files: Dict[str, bytes]) -> None:
    squashfs = opened(image)
    holes = squashfs.file("holes")
    assert [block.stored_size == 0 for block in holes.blocks] == [*[True] * 5, False, True, True]
    assert holes.fragment is not None
    assert squashfs.file("noise").fragment is None
    assert all(not block.is_compressed for block in squashfs.file("noise").blocks)


def test_what_is_not_there(image: Path) -> None:
    squashfs = opened(image)
    assert squashfs.lookup("/nothing") is None
    assert squashfs.lookup("/noise/below") is None
    assert squashfs.lookup("/link/below") is None
    for call in (squashfs.stat, squashfs.file, squashfs.listdir, squashfs.readlink, squashfs.read_file):
        with pytest.raises(UnsupportedError) as caught:
            call("/nothing")
        assert caught.value.finding == "no-such-path"
    with pytest.raises(UnsupportedError):
        squashfs.file("/LiveOS")
    with pytest.raises(UnsupportedError, match="limit"):
        squashfs.read_file("/LiveOS/ext3fs.img", limit=1000)


def test_extended_attributes(tmp_path: Path) -> None:
    """The kernel's view before mksquashfs is the oracle, as a user's attributes are what everybody may set."""
    root = tmp_path / "root"
    root.mkdir()
    wanted: Dict[str, Dict[str, bytes]] = {}
    for number in range(40):
        path = root / f"file{number:02}"
        path.write_bytes(b"content")
        wanted[path.name] = {}
        for name in [f"user.a{n}" for n in range(number % 4)]:
            value = f"value {number % 7} ".encode() * (1 + 40 * (number % 3))
            if set_xattr(path, name, value):
                wanted[path.name][name] = value
    if not any(wanted.values()):
        pytest.skip("the file system here has no user attributes")
    os.symlink("file01", root / "link")
    if os.geteuid() == 0:
        for name in ("security.test", "trusted.test"):
            if set_xattr(root / "file05", name, b"\0\1"):
                wanted["file05"][name] = b"\0\1"
            if set_xattr(root / "link", name, b"of a link"):
                wanted.setdefault("link", {})[name] = b"of a link"
    squashfs = opened(build_squashfs(tmp_path / "image", root))
    for name, attributes in wanted.items():
        assert dict(squashfs.xattrs(squashfs.stat(name))) == attributes


def test_a_flat_root_is_listed_lazily_and_recognised(tmp_path: Path) -> None:
    """More inodes than a nested image ever has, in directories with indexes, across many metadata blocks."""
    root = tmp_path / "root"
    for directory in range(5):
        (root / f"directory{directory}").mkdir(parents=True)
        for number in range(1000):
            name = f"a rather long name of a file, so that the directory gets an index {number:04}"
            (root / f"directory{directory}" / name).write_bytes(b"%d" % (number % 50))
    squashfs = opened(build_squashfs(tmp_path / "image", root))
    assert not squashfs.is_small
    assert squashfs.root.kind is Kind.DIRECTORY
    assert sum(1 for _ in squashfs.walk()) == 5 * 1000 + 5 + 1
    assert squashfs.stat("directory3").index_count > 1
    assert squashfs.read_file(f"/directory4/{name}") == b"49"
    for call in (lambda: squashfs.entries, lambda: splice_file(squashfs, f"/directory4/{name}", {})):
        with pytest.raises(UnsupportedError) as caught:
            call()
        assert caught.value.finding == "flat-squashfs"


class TestNestedView:
    """Random access to one file."""

    PATH = "/LiveOS/ext3fs.img"

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_any_range(self, image: Path, files: Dict[str, bytes], data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(["noise", "tail", "holes", "small", "empty", "LiveOS/ext3fs.img"]))
        content = files[name]
        view = opened(image).open_file(name)
        assert view.size == len(content)
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, len(content) - start))
        assert view.read(start, length) == content[start : start + length]

    def test_only_what_is_wanted_is_read(self, image: Path, files: Dict[str, bytes]) -> None:
        view = opened(image).open_file(self.PATH)
        assert (view.blocks_total, view.blocks_read) == (342, 0)
        view.read(10 * BLOCK + 5, BLOCK)
        view.read(10 * BLOCK, 1)
        assert view.blocks_read == 2
        assert view.is_hole(320)
        assert not view.is_hole(10)
        view.read(310 * BLOCK, 20 * BLOCK)
        assert view.blocks_read == 2
        assert len(view.block(341)) == view.block_length(341) == 7

    def test_the_cache_is_bounded(self, image: Path) -> None:
        view = opened(image).open_file(self.PATH, cache_size=4 * BLOCK)
        for number in range(view.blocks_total):
            view.block(number)
        assert len(view._cache) <= 4  # the bound itself has no other outward sign
        assert view.blocks_read == 302

    def test_threads_get_the_right_bytes(self, image: Path, files: Dict[str, bytes]) -> None:
        content = files["LiveOS/ext3fs.img"]
        view = opened(image).open_file(self.PATH, cache_size=8 * BLOCK)
        wrong: List[int] = []

        def reader(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(300):
                at = rng.randrange(len(content) - 9000)
                if view.read(at, 9000) != content[at : at + 9000]:
                    wrong.append(at)

        threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert view.blocks_read <= 302

    @pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 10**9), (342 * BLOCK, 1), (5, -1)])
    def test_ranges_outside(self, image: Path, offset: int, length: int) -> None:
        with pytest.raises(MalformedError):
            opened(image).open_file(self.PATH).read(offset, length)

    @pytest.mark.parametrize("index", [-1, 342, 10**12])
    def test_blocks_outside(self, image: Path, index: int) -> None:
        with pytest.raises(MalformedError):
            opened(image).open_file(self.PATH).block(index)

    def test_patched(self, image: Path, files: Dict[str, bytes]) -> None:
        content = files["LiveOS/ext3fs.img"]
        base = opened(image).open_file(self.PATH)
        view = PatchedView(base, {2: b"y" * BLOCK, 341: b"1234567"})
        expected = content[: 2 * BLOCK] + b"y" * BLOCK + content[3 * BLOCK : -7] + b"1234567"
        assert view.read(0, view.size) == expected
        assert (view.size, view.block_size, view.blocks_total) == (len(content), BLOCK, 342)

    def test_a_bomb_in_a_block(self, unpacked: bytes, files: Dict[str, bytes]) -> None:
        """A block whose stream is sound but unpacks to far more than a block."""
        data = bytearray(unpacked)
        stored = BLOCK | 1 << 24
        inode = data.index(
            struct.pack("<3I", len(files["tail"]), stored, stored), struct.unpack_from("<Q", data, 64)[0]
        )
        struct.pack_into("<I", data, inode + 4, BLOCK)  # the first block is compressed now
        bomb = zlib.compress(bytes(3 * MiB), 9)
        assert len(bomb) < BLOCK
        offset = struct.unpack_from("<I", data, inode - 12)[0]
        data[offset : offset + len(bomb)] = bomb
        view = SquashfsImage.open(BytesView(bytes(data), "bomb")).open_file("tail")
        assert view.block(1) == files["tail"][BLOCK : 2 * BLOCK]
        tracemalloc.start()
        with pytest.raises(MalformedError, match="more than 4096"):
            view.block(0)
        assert tracemalloc.get_traced_memory()[1] < MiB
        tracemalloc.stop()


class TestSuperblock:
    """One field wrong at a time."""

    def test_packs_to_the_same_bytes(self, image: Path) -> None:
        data = image.read_bytes()
        assert read_superblock(BytesView(data, "image")).pack() == data[:96]

    @pytest.mark.parametrize(
        ("layout", "offset", "value"),
        [
            ("<I", 4, 0),  # inodes
            ("<I", 4, 1_000_000),
            ("<I", 4, 0xFFFFFFFF),
            ("<I", 12, 5000),  # block size
            ("<I", 12, 1 << 21),
            ("<I", 16, 0xFFFFFFFF),  # fragments
            ("<H", 20, 0),  # compressor
            ("<H", 20, 7),
            ("<H", 22, 17),  # block log
            ("<H", 22, 0xFFFF),
            ("<H", 26, 0),  # ids
            ("<H", 28, 3),  # version
            ("<H", 30, 1),
            ("<Q", 32, 0xFFFFFFFFFFFFFFFF),  # root inode
            ("<Q", 32, 0xFFFF),
            ("<Q", 40, 95),  # bytes used
            ("<Q", 40, 1 << 60),
            ("<Q", 48, 0),  # id table
            ("<Q", 48, 0xFFFFFFFFFFFFFFFF),
            ("<Q", 56, 1 << 63),  # xattr table
            ("<Q", 64, 0),  # inode table
            ("<Q", 64, 1 << 50),
            ("<Q", 72, 96),  # directory table
            ("<Q", 80, 200),  # fragment table
            ("<Q", 88, 200),  # export table
        ],
    )
    def test_impossible_fields(self, image: Path, layout: str, offset: int, value: int) -> None:
        data = bytearray(image.read_bytes())
        struct.pack_into(layout, data, offset, value)
        with pytest.raises((MalformedError, UnsupportedError)):
            SquashfsImage.open(BytesView(bytes(data), "image"))

    def test_something_else(self) -> None:
        for data in (b"", b"hsqs", b"sqsh" + bytes(200), bytes(96)):
            view = BytesView(data, "else")
            assert not is_squashfs(view)
            with pytest.raises(UnsupportedError):
                SquashfsImage.open(view)

    def test_truncated(self, image: Path) -> None:
        data = image.read_bytes()
        used = struct.unpack_from("<Q", data, 40)[0]
        for length in (96, used // 2, used - 1):
            with pytest.raises(MalformedError):
                SquashfsImage.open(BytesView(data[:length], "cut"))


def use_everything(data: bytes) -> Iterator[str]:
    """Read all there is in an image, whatever it says."""
    squashfs = SquashfsImage.open(BytesView(data, "fuzzed"))
    for path, inode in squashfs.walk():
        yield path
        squashfs.xattrs(inode)
        if inode.kind is Kind.FILE and inode.size < 4 * MiB:
            squashfs.read_file(path)
    big = squashfs.open_file("/LiveOS/ext3fs.img")
    for number in range(0, min(big.blocks_total, 2000), 37):
        big.block(number)
    splice_file(squashfs, "/LiveOS/ext3fs.img", {0: b"z" * big.block_length(0)} if big.size else {})


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory, source: Path) -> bytes:
    """An image whose metadata is not compressed, so that damage reaches the parsers."""
    set_xattr(source / "small", "user.fuzz", b"value" * 100)
    set_xattr(source / "empty", "user.fuzz", b"value" * 100)
    options = ("-tailends", "-noI", "-noX", "-noF", "-p", "null c 666 0 5 1 3", "-p", "pipe i 600 7 8 f")
    output = tmp_path_factory.mktemp("unpacked") / "image"
    return build_squashfs(output, source, block_size=BLOCK, options=options).read_bytes()


def test_the_undamaged_image_reads_without_error(unpacked: bytes) -> None:
    assert len(list(use_everything(unpacked))) == 14


def exit_code(data: bytes) -> int:
    """0, or the exit code of the error; any other exception is a bug."""
    try:
        for _ in use_everything(data):
            pass
    except RespinError as error:
        return error.exit_code
    return 0


@given(st.integers(0, 1 << 32))
@settings(max_examples=300, deadline=None)
def test_damage_gives_typed_errors_only(unpacked: bytes, seed: int) -> None:
    tables = struct.unpack_from("<Q", unpacked, 64)[0]
    areas = [(tables, len(unpacked)), (tables, len(unpacked)), (0, 96)]
    assert exit_code(damaged(unpacked, seed, areas)) in (0, 3, 7)


@given(st.integers(0, 1 << 32))
@settings(max_examples=100, deadline=None)
def test_damage_to_compressed_images(image: Path, seed: int) -> None:
    assert exit_code(damaged(image.read_bytes(), seed)) in (0, 3, 7)
