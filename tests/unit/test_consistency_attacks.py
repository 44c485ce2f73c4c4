"""What somebody who writes every byte of the changed ext image may try: each is refused, and none takes long.

The worlds have no checksums of metadata, so that one changed field is all that is wrong.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import pytest

from respin.byteview import BytesView
from respin.digest import sha256_content
from respin.errors import MalformedError, RespinError, UnsupportedError
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ExtInode
from respin.limits import LIMITS, MiB
from respin.node.ranges import Ranges
from respin.node.rootdiff import difference
from respin.node.treediff import link_groups
from respin.progress import SILENT
from tests.support.images import Link, build_ext, debugfs, fsck_clean

_KINDS: Dict[str, Tuple[str, ...]] = {
    "plain": ("-b", "1024", "-O", "^metadata_csum,^64bit"),
    "inline": ("-b", "1024", "-O", "^metadata_csum,^64bit,inline_data"),
    "untyped": ("-b", "1024", "-O", "^metadata_csum,^64bit,^filetype"),
}


@dataclass
class Forge:
    """The bytes of an image to change."""

    before: ExtImage
    data: bytearray

    def inode(self, path: str) -> ExtInode:
        return self.before.stat(path)

    def at(self, path: str) -> int:
        """The byte where the slot of the inode at ``path`` begins."""
        return self.before.inode_location(self.inode(path).number)

    def put(self, offset: int, layout: str, *values: int) -> None:
        struct.pack_into("<" + layout, self.data, offset, *values)

    def first(self, path: str) -> int:
        """The byte where the content begins."""
        offset = self.before.data_ranges(self.inode(path))[0].offset
        assert offset is not None
        return offset


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, bytes]:
    found = {}
    for name, options in _KINDS.items():
        image = tmp_path_factory.mktemp("attacks") / "root.img"
        tree = {
            "d/a": b"a" * 3000,
            "d/b": b"b" * 90_000,
            "d/sub/c": b"c",
            "short": Link("d/a"),
            "slow": Link("/" + "x" * 100),
            "small/n": b"",
            "void/": b"",
        }
        build_ext(image, tree, fs="ext4", size_mib=16, options=options)
        large = image.parent / "value"
        large.write_bytes(b"v" * 500)
        debugfs(image, "ea_set /d/a user.note value", f"ea_set -f {large} /d/b user.large")
        fsck_clean(image)
        found[name] = image.read_bytes()
    return found


def judged(old: bytes, new: bytes) -> Optional[RespinError]:
    before, after = (ExtImage.open(BytesView(data, "root.img")) for data in (old, new))
    try:
        difference(before, after, Ranges([(0, len(new))]), (), SILENT)
    except RespinError as error:
        return error
    return None


def _inline_names(forge: Forge) -> None:
    """The kernel goes by the size of the value, a reader of trees by that of the inode."""
    at, number = forge.at("/small"), forge.inode("/d/b").number
    assert forge.inode("/small").is_inline
    # entries in i_block: n and the rest; the value: a name that only the kernel sees
    start = at + 160
    assert forge.data[start : start + 4] == struct.pack("<I", 0xEA020000)
    found = forge.data.index(b"data", start)
    entry = found - 16
    forge.put(entry + 2, "H", 60)
    forge.put(entry + 8, "I", 12)
    value = start + 4 + 60
    forge.put(value, "IHBB", number, 12, 1, 1)
    forge.data[value + 8 : value + 12] = b"evil"


def _short_record(forge: Forge) -> None:
    """The kernel takes no record of less than 12 bytes, and then none of its block."""
    start = forge.first("/d/sub")
    length = struct.unpack_from("<H", forge.data, start + 16)[0]
    assert length == 12
    # '..' of 12 bytes, then c with the rest
    at = start + 24
    inode, rest = struct.unpack_from("<IH", forge.data, at)
    forge.data[at : at + 32] = bytes(32)
    forge.put(at, "IH", 0, 8)
    forge.put(at + 8, "IHBB", inode, rest - 8, 1, 1)
    forge.data[at + 16 : at + 17] = b"c"


def _short_last_record(forge: Forge) -> None:
    at = forge.first("/d/sub") + 24
    _inode, rest = struct.unpack_from("<IH", forge.data, at)
    forge.put(at + 4, "H", rest - 8)
    forge.put(at + rest - 8, "IHH", 0, 8, 0)


def _second_dots(forge: Forge) -> None:
    at = forge.first("/d/sub") + 24
    _inode, rest = struct.unpack_from("<IH", forge.data, at)
    forge.put(at + 4, "H", 12)
    forge.put(at + 12, "IHBB", 2, rest - 12, 2, 2)
    forge.data[at + 20 : at + 22] = b".."


def _far_time(forge: Forge) -> None:
    """Room for the time's upper bits, and none for the last fields."""
    at = forge.at("/short")
    forge.put(at + 128, "H", 12)
    forge.put(at + 136, "I", 1)
    forge.data[at + 140 : at + 256] = bytes(116)


def _one_link(forge: Forge) -> None:
    forge.put(forge.at("/d") + 26, "H", 1)


def _no_name(forge: Forge) -> None:
    """A value of an attribute, where attributes have no inodes."""
    number = next(n for n in range(12, 4000) if not forge.before.slot(n).links)
    at = forge.before.inode_location(number)
    forge.data[at : at + 256] = forge.data[forge.at("/short") :][:256]
    forge.put(at + 32, "I", 0x200000)
    group = forge.before.groups[0]
    bitmap = group.inode_bitmap * 1024 + (number - 1) // 8
    forge.data[bitmap] |= 1 << (number - 1) % 8
    forge.put(1024 + 16, "I", forge.before.superblock.free_inodes - 1)
    forge.put(2048 + 14, "H", group.free_inodes - 1)


def _no_extents(forge: Forge) -> None:
    """A tree of extents that goes on, nowhere."""
    at = forge.at("/d/sub/c")
    forge.data[at + 40 : at + 100] = struct.pack("<HHHH", 0xF30A, 0, 4, 1) + bytes(52)
    forge.put(at + 28, "I", 0)
    block = forge.first("/d/sub/c") // 1024
    _free(forge, block)


def _free(forge: Forge, block: int) -> None:
    group, bit = divmod(block - 1, 8192)
    forge.data[forge.before.groups[group].block_bitmap * 1024 + bit // 8] &= ~(1 << bit % 8)
    _count_blocks(forge, group, 1)


def _count_blocks(forge: Forge, group: int, more: int) -> None:
    forge.put(2048 + 32 * group + 12, "H", forge.before.groups[group].free_blocks + more)
    forge.put(1024 + 12, "I", forge.before.superblock.free_blocks + more)


def _link_goes_on(forge: Forge) -> None:
    """The kernel of late takes no target without an end."""
    at = forge.at("/short")
    forge.data[at + 40 + 3] = ord("x")


def _long_target(forge: Forge) -> None:
    """The kernel reads one block of it."""
    at = forge.at("/slow")
    size = 1024
    forge.put(at + 4, "I", size)
    start = forge.first("/slow")
    forge.data[start : start + size] = b"/" + b"x" * (size - 1)


def _value_cut_by_padding(forge: Forge) -> None:
    """The kernel counts values in steps of four bytes."""
    at = forge.at("/d/a") + 160
    entry = at + 4
    assert forge.data[entry + 16 : entry + 20] == b"note"
    forge.put(entry + 2, "H", 256 - 160 - 4 - 5)
    forge.data[at + 96 - 5 : at + 96] = b"value"


def _attributes_without_end(forge: Forge) -> None:
    """Empty ones, up to the end: four of 23 bytes, in steps of four."""
    at = forge.at("/d/a") + 160
    forge.data[at : at + 96] = struct.pack("<I", 0xEA020000) + bytes(92)
    for number, (start, length) in enumerate(((0, 4), (20, 8), (44, 8), (68, 8))):
        forge.put(at + 4 + start, "BBHIII", length, 1, 0, 0, 0, 0)
        forge.data[at + 20 + start : at + 20 + start + length] = bytes((ord("a") + number,)) * length


def _name_with_an_end(forge: Forge) -> None:
    entry = forge.at("/d/a") + 164
    forge.data[entry + 17] = 0


def _magic_alone(forge: Forge) -> None:
    """The kernel takes it for damage, and shows none of the attributes in the block either."""
    at = forge.at("/d/b")
    forge.put(at + 128, "H", 124)
    forge.data[at + 160 : at + 252] = bytes(92)
    forge.put(at + 252, "I", 0xEA020000)


def _half_a_tree(forge: Forge) -> None:
    """A node of the tree that begins behind where it is said to begin."""
    at = forge.at("/d/b")
    start = forge.first("/d/b")
    logical, count, high, low = struct.unpack_from("<IHHI", forge.data, at + 52)
    assert (logical, low) == (0, start // 1024)
    node = low + count - 1  # the file's last block, from now on
    forge.data[at + 40 : at + 100] = struct.pack("<HHHHIIIHH", 0xF30A, 1, 4, 1, 0, 0, node, 0, 0) + bytes(36)
    forge.data[node * 1024 : node * 1024 + 1024] = bytes(1024)
    forge.put(node * 1024, "HHHHIIHHI", 0xF30A, 1, 84, 0, 0, 1, count - 2, high, low + 1)
    forge.put(at + 28, "I", 2 * count)
    _free(forge, low)


def _renamed_attribute(forge: Forge) -> None:
    """Reads the same here, and the kernel does not find it."""
    entry = forge.at("/d/a") + 164
    forge.data[entry : entry + 92] = bytes(92)
    forge.put(entry, "BBHIII", 9, 0, 80, 0, 5, 0)
    forge.data[entry + 16 : entry + 25] = b"user.note"
    forge.data[entry + 80 : entry + 85] = b"value"


def _directory_becomes_file(forge: Forge) -> None:
    """Where names note no types, nothing in the directory above it changes, which has one directory less."""
    at = forge.at("/void")
    forge.put(at, "H", 0o100755)
    forge.put(at + 26, "H", 1)
    forge.put(2048 + 16, "H", forge.before.groups[0].directories - 1)


ATTACKS: Dict[str, Tuple[str, Callable[[Forge], None]]] = {
    "names that only the kernel sees": ("inline", _inline_names),
    "a record of 8 bytes": ("plain", _short_record),
    "a last record of 8 bytes": ("plain", _short_last_record),
    "dots": ("plain", _second_dots),
    "attributes without an end": ("plain", _attributes_without_end),
    "the name of an attribute with an end": ("plain", _name_with_an_end),
    "attributes of no size": ("plain", _magic_alone),
    "a directory less": ("untyped", _directory_becomes_file),
    "half a tree": ("plain", _half_a_tree),
    "a link count of 1": ("plain", _one_link),
    "an inode without a name": ("plain", _no_name),
    "extents that go nowhere": ("plain", _no_extents),
    "a target without an end": ("plain", _link_goes_on),
    "a target of more than the kernel reads": ("plain", _long_target),
    "a value cut by its padding": ("plain", _value_cut_by_padding),
    "an attribute under a whole name": ("plain", _renamed_attribute),
}


@pytest.mark.parametrize("what", ATTACKS)
def test_it_is_refused(worlds: Dict[str, bytes], what: str) -> None:
    world, attack = ATTACKS[what]
    old = worlds[world]
    forge = Forge(ExtImage.open(BytesView(old, "root.img")), bytearray(old))
    attack(forge)
    found = judged(old, bytes(forge.data))
    assert found is not None
    assert found.where
    assert found.exit_code == 3


def test_a_time_for_which_there_is_room(worlds: Dict[str, bytes]) -> None:
    """The kernel goes by each field, not by the last one."""
    before = ExtImage.open(BytesView(worlds["plain"], "root.img"))
    forge = Forge(before, bytearray(worlds["plain"]))
    _far_time(forge)
    after = ExtImage.open(BytesView(bytes(forge.data), "root.img"))
    assert after.stat("/short").mtime == before.stat("/short").mtime + (1 << 32)
    assert after.stat("/short").crtime is None
    delta = difference(before, after, Ranges([(0, len(forge.data))]), (), SILENT)
    assert [entry.path for entry in delta] == ["/short"]


def test_a_bitmap_that_was_never_written_where_other_groups_have_metadata(tmp_path: Path) -> None:
    """The kernel would make one, and call their inode tables free."""
    image = build_ext(
        tmp_path / "root.img", {"a": b"x"}, fs="ext4", size_mib=16, options=("-b", "1024", "-g", "2048", "-G", "4")
    )
    old = image.read_bytes()
    before = ExtImage.open(BytesView(old, "root.img"))
    assert not before.groups[4].no_block_bitmap
    assert before.groups[5].inode_table in before.groups.blocks_in(4)
    debugfs(image, "set_bg 4 flags 7", "set_bg 4 checksum calc")
    assert "never written" in str(judged(old, image.read_bytes()))


def test_blocks_that_many_files_have(worlds: Dict[str, bytes]) -> None:
    """They are read no oftener than there are blocks."""
    forge = Forge(ExtImage.open(BytesView(worlds["plain"], "root.img")), bytearray(worlds["plain"]))
    for path in ("/d/a", "/d/b", "/d/sub/c"):
        at = forge.at(path)
        forge.put(at + 4, "I", 6_000_000)
        forge.put(at + 40, "HHHHIIHHI", 0xF30A, 1, 4, 0, 0, 0, 6000, 0, 9000)
    assert "more bytes than the file system has" in str(judged(worlds["plain"], bytes(forge.data)))


def test_holes_without_end(worlds: Dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is more than the limit."""
    monkeypatch.setattr("respin.node.contents.LIMITS", LIMITS._replace(content=5 * MiB))
    forge = Forge(ExtImage.open(BytesView(worlds["plain"], "root.img")), bytearray(worlds["plain"]))
    for path in ("/d/b", "/d/sub/c"):
        forge.put(forge.at(path) + 4, "I", 4 * MiB)
    assert "the files that differ have more than" in str(judged(worlds["plain"], bytes(forge.data)))


def test_many_names_of_a_file_that_are_read_once(
    worlds: Dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "root.img"
    image.write_bytes(worlds["plain"])
    (tmp_path / "new").write_bytes(b"new" * 9000)
    debugfs(image, f"write {tmp_path / 'new'} new", "ln new d/second", "ln new third", "sif new links_count 3")
    read: List[int] = []
    monkeypatch.setattr(
        "respin.node.contents.sha256_content", lambda view: read.append(view.size) or sha256_content(view)
    )
    assert judged(worlds["plain"], image.read_bytes()) is None
    assert read == [27_000]


@pytest.mark.parametrize("size", [1 << 40, 1 << 62])
def test_a_directory_larger_than_any_memory(tmp_path: Path, size: int) -> None:
    image = build_ext(tmp_path / "root.img", {"d/a": b"a"}, fs="ext4", size_mib=16, options=("-O", "large_dir"))
    old = image.read_bytes()
    debugfs(image, f"sif d size {size}")
    found = judged(old, image.read_bytes())
    assert isinstance(found, (MalformedError, UnsupportedError)), found


def test_as_many_names_of_one_inode_as_there_may_be() -> None:
    """What stands for all of them is found once."""
    names = [f"/many/{number}" for number in range(60_000)]
    begun = time.process_time()
    assert set(link_groups([names, ["/alone"], ["/b", "/a"]]).values()) == {"/many/0", "/a"}
    assert time.process_time() - begun < 2
