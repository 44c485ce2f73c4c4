"""What a reader of trees sees and the kernel would not, in what differs from the vendor's. e2fsck is the oracle."""

from __future__ import annotations

import os
import random
import stat
import struct
import subprocess
from pathlib import Path
from typing import Callable, Dict, Tuple

import pytest

from respin.byteview import BytesView
from respin.errors import MalformedError
from respin.formats.ext.dirhash import name_hash
from respin.formats.ext.image import ExtImage
from respin.formats.ext.shown import Shown
from respin.node.ranges import Ranges
from respin.node.treediff import compare
from respin.node.treeindex import TreeIndex
from tests.support.comparing import compare_where_said
from tests.support.images import KiB, Link, build_ext, debugfs, run

SEED = "6c1d9ea3-2d05-4c0f-9ac1-7e5a7ba4e6d1"
WORLDS: Dict[str, Tuple[str, ...]] = {
    "plain": ("-b", "1024", "-I", "256", "-O", "^metadata_csum,^64bit"),
    "checksums": ("-b", "1024", "-I", "256", "-O", "metadata_csum"),
}


def _fsck(image: Path, *options: str) -> int:
    return subprocess.run(["e2fsck", "-f", *options, str(image)], capture_output=True, check=False).returncode


def _names(count: int) -> Dict[str, "bytes | Link"]:
    rng = random.Random(5)
    return {f"many/{number} {'x' * rng.randrange(60)}": b"" for number in range(count)}


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, bytes]:
    """Images with an indexed directory, one without an index, a file of many extents, links, attributes in a block."""
    made: Dict[str, bytes] = {}
    for name, options in WORLDS.items():
        directory = tmp_path_factory.mktemp(name)
        image = build_ext(directory / "root.img", _tree(directory), fs="ext4", size_mib=24, options=options)
        value = directory / "value"
        value.write_bytes(b"v" * 100)
        debugfs(image, f"ea_set -f {value} file user.aaa", f"ea_set -f {value} file user.bbb")
        assert _fsck(image, "-y", "-D") in (0, 1)
        assert _fsck(image, "-n") == 0
        made[name] = image.read_bytes()
    return made


def _tree(directory: Path) -> Path:
    tree = directory / "tree"
    for name in _names(600):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"")
    (tree / "few").mkdir()
    (tree / "few/one").write_bytes(b"1")
    (tree / "file").write_bytes(b"content")
    (tree / "link").symlink_to("few/one")
    with (tree / "pieces").open("wb") as sink:
        for number in range(400):
            sink.seek(number * 8 * KiB)
            sink.write(b"piece %d" % number)
    return tree


def opened(data: bytes) -> ExtImage:
    return ExtImage.open(BytesView(bytes(data), "root.img"))


def differences(before: bytes, after: bytes) -> Tuple[str, ...]:
    delta = compare(opened(before), opened(after), Ranges([(0, len(before))]))
    return tuple(entry.path for entry in delta)


def edited(data: bytes, tmp_path: Path, *commands: str) -> bytes:
    image = tmp_path / "edited.img"
    image.write_bytes(data)
    debugfs(image, *commands)
    return image.read_bytes()


def refused(before: bytes, after: bytes, tmp_path: Path, match: str) -> None:
    image = tmp_path / "after.img"
    image.write_bytes(after)
    assert _fsck(image, "-n") != 0, "the oracle sees nothing wrong"
    with pytest.raises(MalformedError, match=match) as caught:
        differences(before, after)
    assert caught.value.finding in ("not-as-the-kernel", "malformed")


def _directory_block(data: bytes, path: str, number: int) -> int:
    image = opened(data)
    size = image.superblock.block_size
    blocks = [
        at
        for offset, length in image.data_ranges(image.stat(path))
        for at in range(offset or 0, (offset or 0) + length, size)
    ]
    return blocks[number]


@pytest.mark.parametrize("world", WORLDS)
def test_what_e2fsprogs_writes_is_shown(stock: Dict[str, bytes], world: str, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    commands = [f"write {tmp_path}/new many/new-{number}" for number in range(40)]
    after = edited(stock[world], tmp_path, *commands, "symlink few/other one", "mkdir few/deeper")
    assert len(differences(stock[world], after)) >= 42
    for image in (opened(stock[world]), opened(after)):
        shown = Shown(image)
        for _path, inode in image.walk("/"):
            shown.require(inode)


@pytest.mark.parametrize("version", range(3))
@pytest.mark.parametrize("unsigned", [False, True])
def test_every_hash_leads_to_every_name(version: int, unsigned: bool, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "many").mkdir(parents=True)
    rng = random.Random(version)
    for number in range(700):
        letters = bytes(rng.choice(range(33, 256)) for _ in range(rng.randrange(1, 120))).replace(b"/", b"_")
        (tree / "many" / os.fsdecode(b"%d" % number + letters)).write_bytes(b"")
    image = build_ext(tmp_path / "root.img", tree, fs="ext2", size_mib=8, options=("-b", "1024"))
    debugfs(image, f"set_super_value def_hash_version {version}", f"set_super_value flags {2 if unsigned else 1}")
    assert _fsck(image, "-y", "-D") in (0, 1)
    root = opened(image.read_bytes())
    directory = root.stat("/many")
    assert directory.flags & 0x1000, "it has no index"
    Shown(root).require(directory)


def test_hashes_are_those_of_debugfs() -> None:
    words = struct.unpack("<4I", bytes.fromhex(SEED.replace("-", "")))
    for version, kind in enumerate(("legacy", "half_md4", "tea")):
        for name in ("a", "four", "x" * 31, "y" * 32, "z" * 33, "gr\u00fcn", "w" * 255):
            said = run("debugfs", "-R", f"dx_hash -h {kind} -s {SEED} {name}").decode("utf-8", "replace")
            assert int(said.split(" is ")[1].split()[0], 16) & ~1 == name_hash(name.encode(), version, words)


def test_an_index_that_leads_elsewhere(stock: Dict[str, bytes], tmp_path: Path) -> None:
    after = bytearray(stock["plain"])
    at = _directory_block(stock["plain"], "/many", 0) + 32 + 8
    after[at + 4 : at + 8], after[at + 12 : at + 16] = after[at + 12 : at + 16], after[at + 4 : at + 8]
    refused(stock["plain"], bytes(after), tmp_path, "does not lead to")


def test_an_index_that_leaves_a_block_out(stock: Dict[str, bytes], tmp_path: Path) -> None:
    after = bytearray(stock["plain"])
    at = _directory_block(stock["plain"], "/many", 0) + 32
    limit, count = struct.unpack_from("<HH", after, at)
    struct.pack_into("<HH", after, at, limit, count - 1)
    refused(stock["plain"], bytes(after), tmp_path, "does not lead to")


def test_an_index_where_there_is_none(stock: Dict[str, bytes], tmp_path: Path) -> None:
    flags = opened(stock["plain"]).stat("/few").flags | 0x1000
    after = edited(stock["plain"], tmp_path, f"set_inode_field few flags {flags:#x}")
    refused(stock["plain"], after, tmp_path, "index")


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(
    ("what", "flag"),
    [("file", 0x200000), ("file", 0x10000000), ("few", 0x10000000)],
    ids=["value", "inline", "inline-dir"],
)
def test_flags_that_mean_something_else(
    stock: Dict[str, bytes], world: str, what: str, flag: int, tmp_path: Path
) -> None:
    flags = opened(stock[world]).stat(f"/{what}").flags | flag
    after = edited(stock[world], tmp_path, f"set_inode_field {what} flags {flags:#x}")
    with pytest.raises(MalformedError):
        differences(stock[world], after)


def test_a_link_that_the_kernel_reads_elsewhere(stock: Dict[str, bytes], tmp_path: Path) -> None:
    after = edited(stock["plain"], tmp_path, "set_inode_field link blocks 2")
    refused(stock["plain"], after, tmp_path, "sectors")


@pytest.mark.parametrize("how", ["by the directory", "by the inode"])
def test_a_name_that_is_said_to_be_something_else(how: str, stock: Dict[str, bytes], tmp_path: Path) -> None:
    """readdir(3) tells the type that is noted with a name; programs take no file for one that is called a directory."""
    before = stock["plain"]
    after = bytearray(before)
    if how == "by the directory":
        after[before.index(b"\3\1one", _directory_block(before, "/few", 0)) + 1] = 2
    else:  # nothing of the directory differs, and what it notes is wrong now
        image = opened(before)
        struct.pack_into("<H", after, image.inode_location(image.stat("/few/one").number), stat.S_IFIFO)
    refused(before, bytes(after), tmp_path, "of type")
    changed = Ranges([(0, len(before))])
    with pytest.raises(MalformedError, match="of type"):
        compare(opened(before), opened(after), changed, TreeIndex(opened(before)))
    with pytest.raises(MalformedError, match="of type"):
        compare_where_said(opened(before), opened(after), changed, ["/few/one"])


def test_fixed_fields_beyond_the_slot(stock: Dict[str, bytes], tmp_path: Path) -> None:
    after = bytearray(stock["plain"])
    image = opened(stock["plain"])
    struct.pack_into("<H", after, image.inode_location(image.stat("/few/one").number) + 128, 0xFFFC)
    refused(stock["plain"], bytes(after), tmp_path, "fixed fields")


def test_extents_that_their_index_does_not_lead_to(stock: Dict[str, bytes], tmp_path: Path) -> None:
    after = bytearray(stock["plain"])
    image = opened(stock["plain"])
    (block,) = struct.unpack_from("<I", after, image.inode_location(image.stat("/pieces").number) + 40 + 16)
    at = block * image.superblock.block_size
    magic, entries, _most, depth = struct.unpack_from("<HHHH", after, at)
    assert (magic, depth) == (0xF30A, 1)
    assert entries > 1
    (logical,) = struct.unpack_from("<I", after, at + 24)
    struct.pack_into("<I", after, at + 24, logical + 4)
    refused(stock["plain"], bytes(after), tmp_path, "index of its extents")


def test_attributes_out_of_order(stock: Dict[str, bytes], tmp_path: Path) -> None:
    after = bytearray(stock["plain"])
    image = opened(stock["plain"])
    inode = image.stat("/file")
    assert inode.xattr_block
    at = inode.xattr_block * image.superblock.block_size + 32
    one, other = after[at : at + 20], after[at + 20 : at + 40]
    assert (one[16:19], other[16:19]) == (b"aaa", b"bbb")
    after[at : at + 40] = other + one
    with pytest.raises(MalformedError, match="order"):
        differences(stock["plain"], bytes(after))


def _slot(image: ExtImage) -> int:
    return image.inode_location(image.stat("/few/one").number) + 124


def _extents(image: ExtImage) -> int:
    return image.mapping_ranges(image.stat("/pieces"))[0][0] + image.superblock.block_size - 4


def _attributes(image: ExtImage) -> int:
    return image.stat("/file").xattr_block * image.superblock.block_size + 16


def _place_in(path: str, number: int) -> Callable[[ExtImage], int]:
    def place(image: ExtImage) -> int:
        size = image.superblock.block_size
        return _directory_block(image.view.read(0, image.view.size), path, number) + size - 4

    return place


@pytest.mark.parametrize(
    "place",
    [_slot, _extents, _attributes, _place_in("/few", 0), _place_in("/many", 0), _place_in("/many", 3)],
    ids=["inode", "extents", "attributes", "names", "index", "leaf"],
)
def test_a_wrong_checksum(stock: Dict[str, bytes], place: Callable[[ExtImage], int], tmp_path: Path) -> None:
    after = bytearray(stock["checksums"])
    after[place(opened(stock["checksums"]))] ^= 0x55
    refused(stock["checksums"], bytes(after), tmp_path, "checksum|index is damaged")
