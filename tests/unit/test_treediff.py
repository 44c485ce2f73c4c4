"""The comparison of two roots: what debugfs changed is found, and the short ways find what the long way finds."""

from __future__ import annotations

import random
import shutil
import stat
import struct
import subprocess
import time
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.errors import RespinError, UnsupportedError
from respin.formats.ext.image import ExtImage
from respin.formats.ext.shown import FINDING
from respin.formats.squashfs.image import SquashfsImage
from respin.node.ranges import Ranges
from respin.node.treediff import attributes, compare
from respin.node.treeindex import FILE, UNKNOWN, TreeIndex
from respin.root.delta import Change, Delta, Entry, Kind
from tests.support.comparing import compare_where_said
from tests.support.images import KiB, Link, build_ext, build_squashfs, damaged, debugfs, fsck_clean
from tests.unit.test_ext_fuzz import Hostile

BLOCK = 16 * KiB  # small blocks of the squashfs let a small image have many
SIZE_MIB = 6


def _tree() -> "Dict[str, bytes | Link]":
    rng = random.Random(7)
    tree: "Dict[str, bytes | Link]" = {
        f"d{d}/s{s}/f{n}": rng.randbytes(rng.choice((0, 40, 900, 5000, 70_000)))
        for d in range(4)
        for s in range(3)
        for n in range(4)
    }
    tree["long"] = rng.randbytes(700_000)
    tree["sparse"] = bytes(300_000) + b"end"
    tree["link"] = Link("d0/s0/f0")
    tree["d1/slow-link"] = Link("x" * 200)
    tree["empty/"] = b""
    return tree


@pytest.fixture(scope="module", params=["ext2", "ext4", "ext2-1k", "ext4-inline"])
def stock(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    fs, *more = str(request.param).split("-")
    options = {"1k": ("-b", "1024", "-I", "128"), "inline": ("-O", "inline_data", "-I", "256")}.get("".join(more), ())
    image = tmp_path_factory.mktemp("treediff") / "root.img"
    build_ext(image, _tree(), fs=fs, size_mib=SIZE_MIB if fs == "ext2" else 12, options=options)
    debugfs(image, "ea_set /d0/s1/f1 user.note value", "ln d2/s0/f0 d2/second-name", "cd /d3", "mknod console c 5 1")
    debugfs(image, "set_inode_field /d2/s0/f0 links_count 2")  # debugfs counts no link
    fsck_clean(image)
    return image


def opened(data: bytes) -> ExtImage:
    return ExtImage.open(BytesView(data, "root.img"))


def changed_blocks(old: bytes, new: bytes) -> Ranges:
    numbers = [at // BLOCK for at in range(0, len(old), BLOCK) if old[at : at + BLOCK] != new[at : at + BLOCK]]
    return Ranges.of_blocks(numbers, BLOCK, len(old))


def in_full(before: ExtImage, after: ExtImage) -> Delta:
    """The plain way: read everything of both trees, compare path by path."""
    trees = [
        {path: (attributes(image, inode), inode.rdev, inode.number) for path, inode in image.walk("/")}
        for image in (before, after)
    ]
    entries: List[Entry] = []
    for path in sorted({*trees[0], *trees[1]}):
        old, new = trees[0].get(path), trees[1].get(path)
        if old is None or new is None:
            change = Change.ADDED if old is None else Change.REMOVED
            entries.append(Entry(path, change, new and new[0], old and old[0]))
        elif old[0] != new[0] or (old[0].kind in (Kind.CHARACTER, Kind.BLOCK) and old[1] != new[1]):
            entries.append(Entry(path, Change.CHANGED, new[0], old[0]))
    groups: Dict[int, List[str]] = {}
    for entry in entries:
        if entry.new is not None and entry.kind is not Kind.DIRECTORY:
            groups.setdefault(trees[1][entry.path][2], []).append(entry.path)
    first = {path: paths[0] for paths in groups.values() if len(paths) > 1 for path in paths}
    return Delta(tuple(Entry(e.path, e.change, e.new, e.old, first.get(e.path)) for e in entries))


def outcome(before: ExtImage, data: bytes, old: bytes, *, how: str) -> Tuple[str, object]:
    try:
        after = opened(data)
        if how == "plain":
            return "delta", in_full(before, after)
        if how == "said":
            return "delta", where_said(before, after, old, data)
        index = TreeIndex(before) if how == "index" else None
        return "delta", compare(before, after, changed_blocks(old, data), index)
    except RespinError as error:
        return "kernel" if error.finding == FINDING else "error", type(error)


def where_said(before: ExtImage, after: ExtImage, old: bytes, new: bytes) -> Delta:
    """The way of :func:`compare_where_said`, told of all that differs, of some, of nothing, and of what does not."""
    whole = compare(before, after, changed_blocks(old, new))
    paths = [entry.path for entry in whole]
    for said in (paths, paths[1:], paths[::2], (), ["/d0/s0/f0", "/no/such/path", "/", "", "/d0/s0/f0/x"]):
        found = compare_where_said(before, after, changed_blocks(old, new), said)
        assert found in (None, whole), said
    return whole


def refused_or_unsure(before: ExtImage, new: bytes, old: bytes) -> bool:
    paths = [path for path, _ in before.walk()]
    for said in (paths, paths[::3], ()):
        try:
            if compare_where_said(before, opened(new), changed_blocks(old, new), said) is not None:
                return False
        except RespinError:
            pass
    return True


INVISIBLE = "set_inode_field /d0/s2/f2 atime 1600000009"
COMMANDS = (
    "cd /d0\nwrite {source} new",
    "cd /empty\nwrite {source} other",
    "rm /d1/s1/f2",
    "rm /long",
    "unlink /d2/second-name",
    "mkdir /d2/s1/fresh",
    "symlink /d3/l d0",
    "ln d0/s0/f1 /d1/hard",
    "set_inode_field /d0/s2/f3 mode 0104755",
    "set_inode_field /d0/s2/f2 mtime 1600000009",
    INVISIBLE,
    "set_inode_field /d3 uid 12",
    "set_inode_field /d3/console block[0] 1282",
    "ea_set /d2/s2/f1 security.capability abcdefgh",
    "ea_rm /d0/s1/f1 user.note",
    "rmdir /empty",
    "unlink /link",
    "cd /d0\nmknod pipe p",
)


@settings(max_examples=15, deadline=None)
@given(chosen=st.lists(st.sampled_from(COMMANDS), min_size=1, max_size=5, unique=True))
def test_the_short_way_finds_what_the_plain_way_finds(
    stock: Path, tmp_path_factory: pytest.TempPathFactory, chosen: List[str]
) -> None:
    work = tmp_path_factory.mktemp("changed")
    (work / "source").write_bytes(random.Random(3).randbytes(30_000))
    image = work / "root.img"
    shutil.copyfile(stock, image)
    debugfs(image, *(command.format(source=work / "source") for command in chosen))
    old, new = stock.read_bytes(), image.read_bytes()
    before = opened(old)
    # debugfs does what it is told: together, commands can leave names of inodes that are not in use.
    plain = outcome(before, new, old, how="plain")
    # debugfs cannot link into a full inline directory and then does nothing; that proves nothing either.
    assume(chosen == [INVISIBLE] or plain != ("delta", Delta(())))
    found = {how: outcome(before, new, old, how=how) for how in ("index", "none", "said")}
    if found["none"][0] == "kernel":  # a name of an inode that is something else by now; a reader does not mind
        assert subprocess.run(["e2fsck", "-fn", image], capture_output=True, check=False).returncode != 0
        plain = found["none"]
    assert found == dict.fromkeys(found, plain)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_on_hostile_images_both_ways_agree(stock: Path, seed: int) -> None:
    """Damage in metadata and content: the same delta, or a refusal by both."""
    old = stock.read_bytes()
    before = opened(old)
    areas = [(place.offset, place.offset + place.length) for place in before.metadata_ranges()]
    areas += [(start, start + length) for _, inode in before.walk() for start, length in before.mapping_ranges(inode)]
    new = damaged(old, seed, areas if seed % 3 else ())
    if len(new) != len(old):
        return
    found = outcome(before, new, old, how="index")
    # A reader of trees does not mind what the kernel would; only whoever compares is that strict.
    assert found == outcome(before, new, old, how="none" if found[0] == "kernel" else "plain")
    if found[0] == "delta":
        assert outcome(before, new, old, how="said") == found
    else:  # what was read in full was refused, so what is read in part must be refused or not be enough
        assert refused_or_unsure(before, new, old)


def test_content_that_changes_in_place_is_found(stock: Path) -> None:
    old = stock.read_bytes()
    before = opened(old)
    for path, inode in before.walk():
        if stat.S_ISREG(inode.mode) and inode.size and not inode.is_inline:
            place = before.data_ranges(inode)[-1]
            if place.offset is None:
                continue
            new = bytearray(old)
            new[place.offset + place.length - 1] ^= 1
            delta = compare(before, opened(bytes(new)), changed_blocks(old, bytes(new)), TreeIndex(before))
            names = {name for name, other in before.walk() if other.number == inode.number}
            assert {entry.path for entry in delta} == names, path
            where = before, opened(bytes(new)), changed_blocks(old, bytes(new))
            assert compare_where_said(*where, ()) is None, "somebody's block differs, and nobody says whose"
            assert compare_where_said(*where, names) in ((delta,) if len(names) == inode.nlink else (None,))


def test_an_index_spares_reading(stock: Path) -> None:
    old = stock.read_bytes()
    before = opened(old)
    index = TreeIndex(before)
    assert UNKNOWN not in {index.kinds[inode.number] for _, inode in before.walk()}
    same = index.same(opened(old), Ranges(()))
    assert same == index.kinds
    inode = before.stat("/long")
    place = before.data_ranges(inode)[0]
    assert place.offset is not None
    one = index.same(opened(old), Ranges([(place.offset, place.offset + 1)]))
    assert [number for number, kind in enumerate(one) if kind != index.kinds[number]] == [inode.number]
    assert index.kinds[inode.number] == FILE


def test_other_group_descriptors_make_nothing_the_same(stock: Path) -> None:
    """An inode table elsewhere: every number means another slot, though no slot has changed."""
    old = stock.read_bytes()
    before = opened(old)
    descriptors = next(place for place in before.metadata_ranges() if place.kind == "group-descriptors")
    new = bytearray(old)
    new[descriptors.offset + 8] ^= 1
    try:
        after = opened(bytes(new))
    except RespinError:
        return
    assert not any(TreeIndex(before).same(after, changed_blocks(old, bytes(new))))


def test_a_nested_image_gives_the_same_index(stock: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copyfile(stock, source / "root.img")
    squashfs = build_squashfs(tmp_path / "squashfs.img", source, block_size=BLOCK)
    nested = SquashfsImage.open(BytesView(squashfs.read_bytes(), "squashfs.img")).open_file("root.img")
    assert TreeIndex(ExtImage.open(nested)).kinds == TreeIndex(opened(stock.read_bytes())).kinds


def test_a_file_that_claims_exbibytes_is_not_hashed(tmp_path: Path) -> None:
    """Its blocks are holes, so the image stays small; hashing zeros would take decades."""
    hostile = Hostile(tmp_path)
    before = ExtImage.open(BytesView(bytes(hostile.data), "before"))
    hostile.inode("/a/text", "<I", 108, 1 << 28)
    started = time.process_time()
    with pytest.raises(UnsupportedError) as caught:
        compare(before, hostile.opened(), Ranges([(0, len(hostile.data))]))
    assert time.process_time() - started < 2
    assert (caught.value.finding, caught.value.exit_code) == ("too-large", 7)
    assert caught.value.where


@pytest.mark.parametrize("command", COMMANDS)
def test_whoever_is_told_all_that_differs_need_not_read_the_rest(stock: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "source").write_bytes(random.Random(3).randbytes(30_000))
    image = tmp_path / "root.img"
    shutil.copyfile(stock, image)
    debugfs(image, command.format(source=tmp_path / "source"))
    old, new = stock.read_bytes(), image.read_bytes()
    before, after = opened(old), opened(new)
    whole = compare(before, after, changed_blocks(old, new))
    said = [entry.path for entry in whole] + ["/d0/s2/f2"]  # of whose new atime no delta tells
    found = compare_where_said(before, after, changed_blocks(old, new), said)
    if command.startswith("ln "):  # debugfs counts no link, and a file that is the same has one name more
        assert found in (None, whole)
    else:
        assert found == whole


def test_a_directory_with_a_second_name_is_read_in_full(stock: Path, tmp_path: Path) -> None:
    """What is below it stands at no path that anybody was told of, and nothing of it differs."""
    image = tmp_path / "root.img"
    shutil.copyfile(stock, image)
    debugfs(image, "ln d0/s1 /d2/s0/again")
    old, new = stock.read_bytes(), image.read_bytes()
    if old == new:
        pytest.skip("debugfs cannot link into a full inline directory")
    assert refused_or_unsure(opened(old), new, old)
    with pytest.raises(RespinError):
        compare(opened(old), opened(new), changed_blocks(old, new))


def test_an_attribute_block_of_two_inodes_is_not_taken_for_one_of_its_own(tmp_path: Path) -> None:
    """Only one of the two is told of; the other one has the changed value, too."""
    image = build_ext(tmp_path / "root.img", {"a": b"1", "b": b"2"}, fs="ext2", size_mib=4, options=("-I", "128"))
    debugfs(image, "ea_set /a user.note value", "ea_set /b user.note other")
    old = bytearray(image.read_bytes())
    before = opened(bytes(old))
    ((block, size),) = before.mapping_ranges(before.stat("/a"))
    slots = [before.inode_location(before.stat(path).number) for path in ("/a", "/b")]
    old[slots[1] + 104 : slots[1] + 108] = old[slots[0] + 104 : slots[0] + 108]  # i_file_acl
    struct.pack_into("<I", old, block + 4, 2)  # h_refcount
    new = bytearray(old)
    new[block : block + size] = new[block : block + size].replace(b"value", b"VALUE")
    struct.pack_into("<2I", new, block + 12, 0, 0)  # h_hash, h_checksum
    before, after = opened(bytes(old)), opened(bytes(new))
    everything = Ranges([(0, len(old))])
    whole = compare(before, after, everything)
    assert {entry.path for entry in whole} == {"/a", "/b"}
    assert compare_where_said(before, after, everything, ["/a"]) is None
    struct.pack_into("<I", old, block + 4, 1)
    struct.pack_into("<I", new, block + 4, 1)
    found = compare_where_said(opened(bytes(old)), opened(bytes(new)), everything, ["/a"])
    assert found is not None, "by its own count it belongs to one"


@pytest.mark.parametrize("problem", ["state", "feature"])
def test_a_vendors_file_system_that_is_not_clean_is_read_in_full(tmp_path: Path, problem: str) -> None:
    old = bytearray(build_ext(tmp_path / "root.img", {"a": b"1"}, fs="ext2", size_mib=4).read_bytes())
    new = bytearray(old)
    place = opened(bytes(old)).data_ranges(opened(bytes(old)).stat("/a"))[0].offset
    assert place is not None
    new[place] ^= 1
    everything = Ranges([(0, len(old))])
    assert compare_where_said(opened(bytes(old)), opened(bytes(new)), everything, ["/a"]) is not None
    for image in (old, new):
        if problem == "state":
            struct.pack_into("<H", image, 1024 + 58, 3)  # s_state: valid, errors
        else:
            image[1024 + 101] |= 0x40  # s_feature_ro_compat: shared_blocks
    assert compare_where_said(opened(bytes(old)), opened(bytes(new)), everything, ["/a"]) is None
