"""A flat squashfs read as a root: held against the directory it was made of, and against damage and malice."""

from __future__ import annotations

import os
import random
import stat
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.errors import MalformedError, RespinError, UnsupportedError
from respin.formats.ext import ExtImage
from respin.formats.squashfs import Kind
from respin.formats.squashfs.merge import Put, Removal, merge_changes
from respin.formats.squashfs.root import SquashfsRoot
from respin.roottree import InodeT, RootTree
from tests.support.flatroots import Maker, observed, pack, write_root
from tests.support.images import KiB, MiB, build_ext, damaged

BLOCK = 4 * KiB
TABLES_AS_THEY_ARE = ("-noI", "-noX", "-noF", "-noId")


def opened(image: Path) -> SquashfsRoot:
    return SquashfsRoot.open(BytesView(image.read_bytes(), image.name))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(Maker(random.Random(21), BLOCK).root(150), tmp_path_factory.mktemp("source") / "tree")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    return pack(source, tmp_path_factory.mktemp("image") / "image", "-b", "4K", "-tailends")


def test_the_tree_is_what_went_in(source: Path, image: Path) -> None:
    root = opened(image)
    names: Dict[int, List[str]] = {}
    found: Dict[str, Tuple[Any, ...]] = {}
    for path, inode in root.walk():
        if not inode.is_directory:
            names.setdefault(inode.number, []).append(path[1:])
    for path, inode in root.walk():
        content = root.file_view(inode) if inode.is_file else None
        assert content is None or content.read(0, content.size) == (source / path[1:]).read_bytes()
        wanted = (source / path[1:]).lstat()
        found[path[1:] or "."] = (
            oct(inode.mode),
            inode.uid,
            inode.gid,
            inode.mtime * 1_000_000_000,
            inode.rdev,
            None,
            inode.size if inode.is_file else None,
            root.readlink(inode) if inode.is_symlink else None,
            dict(root.xattrs(inode)),
            sorted(names.get(inode.number, ())),
        )
        assert inode.is_directory or inode.nlink == wanted.st_nlink
    assert found == {path: (*facts[:5], None, *facts[6:]) for path, facts in observed(source).items()}


def test_paths(source: Path, image: Path) -> None:
    root = opened(image)
    below = sorted(path for path in source.rglob("*") if path.is_dir() and not path.is_symlink())
    directory = max(below, key=lambda path: len(list(path.iterdir())))
    path = f"/{directory.relative_to(source)}"
    assert root.listdir(path) == sorted((p.name for p in directory.iterdir()), key=os.fsencode)
    assert [p for p, _ in root.walk(path)] == [p for p, _ in root.walk() if p == path or p.startswith(path + "/")]
    assert [p for p, _ in root.walk("/", lambda p: p == "/")] == ["/", *(f"/{name}" for name in root.listdir("/"))]
    assert sorted(p for p, _ in root.directories()) == sorted(p for p, inode in root.walk() if inode.is_directory)
    assert root.lookup("/nothing") is None
    assert root.lookup(path + "/nothing/below") is None
    for call in (root.stat, root.listdir):
        with pytest.raises(UnsupportedError) as caught:
            call("/nothing")
        assert caught.value.finding == "no-such-path"
    with pytest.raises(UnsupportedError):
        root.scan(next(inode for _, inode in root.walk() if inode.is_file))
    with pytest.raises(UnsupportedError, match="limit"):
        root.read(max((inode for _, inode in root.walk() if inode.is_file), key=lambda inode: inode.size), limit=10)
    with pytest.raises(UnsupportedError):
        root.readlink(root.root)


def leads_to(tree: RootTree[InodeT], path: str) -> "str | None":
    """Whatever the root is: this is what the layers above do with it."""
    found = tree.resolve(path)
    if found is None:
        return None
    assert tree.stat(found.path).number == found.inode.number
    return found.path


@pytest.mark.parametrize("kind", ["ext", "squashfs"])
def test_links_lead_to_the_same_in_every_kind_of_root(tmp_path: Path, kind: str) -> None:
    tree = tmp_path / "tree"
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "usr/lib/file").write_bytes(b"content")
    for name, target in {"lib": "usr/lib", "up": "../../usr", "root": "/", "abs": "/lib/file", "loop": "loop"}.items():
        (tree / name).symlink_to(target)
    if kind == "ext":
        root: "ExtImage | SquashfsRoot" = ExtImage.open(
            BytesView(build_ext(tmp_path / "image", tree, size_mib=4).read_bytes(), "image")
        )
    else:
        root = opened(pack(tree, tmp_path / "image"))
    wanted = {
        "/lib/file": "/usr/lib/file",
        "/up/lib/../lib/./file": "/usr/lib/file",
        "/root/root/abs": "/usr/lib/file",
        "/": "/",
        "/../..": "/",
        "/loop": None,
        "/lib/nothing": None,
        "/abs/below": None,
    }
    assert {path: leads_to(root, path) for path in wanted} == wanted  # type: ignore[arg-type]


def test_small_files_of_one_fragment_unpack_it_once(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / f"tree/{number}").write_bytes(b"%d" % number * 100)
    root = opened(pack(tmp_path / "tree", tmp_path / "image"))
    calls = []
    real = root.image.codec.decompress
    root.image.codec.decompress = lambda data, limit: calls.append(limit) or real(data, limit)  # type: ignore[method-assign, func-returns-value]
    for path, inode in root.walk():
        if inode.is_file:
            assert root.read(inode) == (tmp_path / f"tree{path}").read_bytes()
    assert calls.count(128 * KiB) <= 2


class Hostile:
    """A small image with tables that are not compressed, to be spoiled in one place."""

    def __init__(self, tmp: Path, files: int = 3) -> None:
        tree = tmp / "tree"
        (tree / "a/b/c").mkdir(parents=True)
        for number in range(files):
            (tree / f"a/b/file{number:05}").write_bytes(b"x")
        (tree / "a/text").write_bytes(b"text")
        (tree / "a/link").symlink_to("text")
        self.data = bytearray(pack(tree, tmp / "image", *TABLES_AS_THEY_ARE).read_bytes())
        self.root = self.opened()

    def opened(self) -> SquashfsRoot:
        return SquashfsRoot.open(BytesView(bytes(self.data), "hostile"))

    def entry(self, name: bytes) -> int:
        """The byte of a directory entry."""
        return self.data.index(name, self.root.image.superblock.directory_table) - 8

    def inode(self, path: str) -> int:
        """The byte of an inode in the first block of the table."""
        reference = self.root.reference(self.root.stat(path).number)
        assert reference >> 16 == 0
        return self.root.image.superblock.inode_table + 2 + reference


@pytest.fixture
def hostile(tmp_path: Path) -> Hostile:
    return Hostile(tmp_path)


def test_a_number_that_is_not_the_inodes(hostile: Hostile) -> None:
    """The kernel takes files of one number for one file: which content it shows would depend on what it read first."""
    at = hostile.entry(b"text")
    (delta,) = struct.unpack_from("<h", hostile.data, at + 2)
    struct.pack_into("<h", hostile.data, at + 2, delta - 1)
    with pytest.raises(MalformedError):
        list(hostile.opened().walk())
    with pytest.raises(MalformedError):
        hostile.opened().stat("/a/text")


@pytest.mark.parametrize("number", [0, 9999, 0xFFFFFFFF])
def test_a_number_that_no_inode_has(hostile: Hostile, number: int) -> None:
    struct.pack_into("<I", hostile.data, hostile.inode("/a/text") + 12, number)
    with pytest.raises(MalformedError):
        hostile.opened().stat("/a/text")


def test_two_inodes_of_one_number(hostile: Hostile) -> None:
    (number,) = struct.unpack_from("<I", hostile.data, hostile.inode("/a/link") + 12)
    struct.pack_into("<I", hostile.data, hostile.inode("/a/text") + 12, number)
    link, text = hostile.entry(b"link"), hostile.entry(b"text")
    hostile.data[text + 2 : text + 4] = hostile.data[link + 2 : link + 4]
    with pytest.raises(MalformedError, match="another place"):
        hostile.opened().listdir("/a")


def test_a_type_that_is_not_the_inodes(hostile: Hostile) -> None:
    struct.pack_into("<H", hostile.data, hostile.entry(b"text") + 4, Kind.SYMLINK)
    with pytest.raises(MalformedError, match="differ"):
        hostile.opened().stat("/a/text")


def test_a_directory_that_holds_its_parent(hostile: Hostile) -> None:
    """The directory c gets the listing of its parent, and so itself."""
    hostile.data[hostile.inode("/a/b/c") + 16 : hostile.inode("/a/b/c") + 32] = hostile.data[
        hostile.inode("/a/b") + 16 : hostile.inode("/a/b") + 32
    ]
    for read in (SquashfsRoot.walk, SquashfsRoot.directories):
        with pytest.raises(MalformedError, match="loop"):
            list(read(hostile.opened()))


def test_a_listing_in_many_directories(tmp_path: Path) -> None:
    """Every directory shows the same thousand files: more names than so few inodes can have honestly."""
    tree = tmp_path / "tree"
    (tree / "full").mkdir(parents=True)
    for number in range(1000):
        (tree / f"full/{number:04}").write_bytes(b"")
    for number in range(120):
        (tree / f"empty{number}").mkdir()
    data = bytearray(pack(tree, tmp_path / "image", *TABLES_AS_THEY_ARE).read_bytes())
    root = SquashfsRoot.open(BytesView(bytes(data), "bomb"))
    listing = root.stat("/full").listing
    assert listing is not None
    assert listing.block < 1 << 16
    for number in range(120):
        reference = root.reference(root.stat(f"/empty{number}").number)
        at = root.image.superblock.inode_table + (reference >> 16) + 2 + (reference & 0xFFFF)
        if (reference & 0xFFFF) + 32 <= 8 * KiB:
            struct.pack_into("<I", data, at + 16, listing.block)
            struct.pack_into("<HH", data, at + 24, listing.size + 3, listing.offset)
    with pytest.raises(UnsupportedError, match="limit"):
        list(SquashfsRoot.open(BytesView(bytes(data), "bomb")).walk())


def test_a_directory_size_beyond_the_table_takes_no_memory(hostile: Hostile) -> None:
    at = hostile.inode("/a")
    body = struct.pack("<IIIIHHI", 3, 0xFFFF_FFFF, 0, 1, 0, 0, 0xFFFF_FFFF)
    hostile.data[at : at + 2] = struct.pack("<H", 8)
    hostile.data[at + 16 : at + 16 + len(body)] = body
    tracemalloc.start()
    with pytest.raises(RespinError):
        hostile.opened().listdir("/a")
    assert tracemalloc.get_traced_memory()[1] < 4 * MiB
    tracemalloc.stop()


def use_everything(data: bytes) -> int:
    """Read all there is, whatever it says, and change something; the number of names."""
    root = SquashfsRoot.open(BytesView(data, "fuzzed"))
    count = 0
    for path, inode in root.walk():
        count += 1
        root.xattrs(inode)
        if inode.is_symlink:
            root.readlink(inode)
            root.resolve(path)
        if inode.is_file:
            view = root.file_view(inode)
            for at in {0, view.size // 2, max(0, view.size - 5000)}:
                view.read(at, min(5000, view.size - at))
    top = [name for name in root.listdir("/") if stat.S_ISDIR(root.stat(f"/{name}").mode)]
    changes = [Removal(f"/{top[0]}"), Put("/new", Kind.FIFO, 0o600, 5, 5, 5, xattrs={"user.x": b"y"})] if top else []
    merge_changes(root.image, changes)
    return count


@pytest.fixture(scope="module")
def plain(source: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return pack(source, tmp_path_factory.mktemp("plain") / "image", "-b", "4K", *TABLES_AS_THEY_ARE).read_bytes()


def outcome(data: bytes) -> int:
    """0, or the exit code of the error; any other exception is a bug."""
    started = time.process_time()
    try:
        use_everything(data)
    except RespinError as error:
        return error.exit_code
    finally:
        assert time.process_time() - started < 10
    return 0


def test_the_undamaged_image_reads_without_error(plain: bytes, source: Path) -> None:
    assert use_everything(plain) == 1 + len(list(source.rglob("*")))


@given(st.integers(0, 1 << 32))
@settings(max_examples=100, deadline=None)
def test_damage_gives_typed_errors_only(plain: bytes, seed: int) -> None:
    tables = struct.unpack_from("<Q", plain, 64)[0]
    areas = [(tables, len(plain)), (tables, len(plain)), (0, 96)]
    assert outcome(damaged(plain, seed, areas)) in (0, 3, 5, 7)  # 5: another compressor, whose module isn't here


class TestLookups:
    """What the kernel goes by when it looks a name up must not differ from what the listing says."""

    @pytest.fixture
    def large(self, tmp_path: Path) -> Hostile:
        return Hostile(tmp_path, files=1200)

    def index(self, hostile: Hostile) -> int:
        """The byte of the directory's second index entry."""
        assert hostile.root.stat("/a/b").index_count >= 2
        names = [b"file%05d" % number for number in range(1200)]
        at = -1
        for _ in range(2):
            found = [hostile.data.find(name, at + 1, hostile.root.image.superblock.directory_table) for name in names]
            at = min(place for place in found if place >= 0)
        return at - 12

    def test_the_undamaged_one_reads(self, large: Hostile) -> None:
        assert len(large.opened().listdir("/a/b")) == 1201

    @pytest.mark.parametrize(("offset", "value"), [(0, 12), (4, 0), (4, 8194 * 2), (8, 7)])
    def test_an_index_that_leads_elsewhere(self, large: Hostile, offset: int, value: int) -> None:
        at = self.index(large)
        position, block, length = struct.unpack_from("<III", large.data, at)
        assert (position > 8000, block > 0, length) == (True, True, 8)
        struct.pack_into("<I", large.data, at + offset, value)
        with pytest.raises(MalformedError):
            large.opened().listdir("/a/b")

    def test_an_index_with_another_name(self, large: Hostile) -> None:
        at = self.index(large)
        large.data[at + 12] -= 1
        with pytest.raises(MalformedError, match="index"):
            large.opened().listdir("/a/b")

    def test_names_out_of_order(self, large: Hostile) -> None:
        at = large.entry(b"text") + 8
        large.data[at : at + 4] = b"aaaa"
        with pytest.raises(MalformedError, match="behind"):
            large.opened().listdir("/a")
