"""Whether a changed ext image is consistent, held against e2fsck: what it complains of is refused, what it calls clean
is not.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.errors import MalformedError, RespinError
from respin.formats.ext.image import ExtImage
from respin.node.blockbits import FreeBlocks
from respin.node.consistency import is_all, is_even, require_consistent
from respin.node.numbering import Numbering
from respin.node.ranges import Ranges
from respin.node.rootdiff import difference
from respin.node.treediff import compare, compare_where_said
from respin.progress import SILENT
from tests.support.images import KiB, Link, build_ext, debugfs, fsck_clean

_COPIED = ("superblock", "group-descriptors")
_ATTRIBUTE_HASH = b"which is invalid"  # the kernel does not mind
# mke2fs's options, and a size in MiB; of small groups there are many
KINDS: Dict[str, Tuple[str, int, Tuple[str, ...]]] = {
    "ext2": ("ext2", 8, ()),
    "ext2-1k": ("ext2", 12, ("-b", "1024", "-I", "128", "-g", "2048")),
    "ext3": ("ext3", 16, ()),
    "ext4": ("ext4", 16, ("-b", "1024", "-g", "2048", "-G", "4")),
    "ext4-uninit": ("ext4", 16, ("-b", "1024", "-g", "2048", "-O", "^metadata_csum,^64bit,uninit_bg")),
    "ext4-metabg": ("ext4", 16, ("-b", "1024", "-g", "2048", "-O", "meta_bg,^resize_inode")),
    "ext4-inline": ("ext4", 16, ("-I", "256", "-O", "inline_data")),
    "ext4-super2": ("ext4", 16, ("-b", "1024", "-g", "2048", "-O", "sparse_super2,^resize_inode")),
}


def opened(data: bytes) -> ExtImage:
    return ExtImage.open(BytesView(bytes(data), "root.img"))


@pytest.fixture(scope="module", params=sorted(KINDS))
def stock(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    fs, size, options = KINDS[request.param]
    image = tmp_path_factory.mktemp("consistency") / "root.img"
    rng = random.Random(5)
    tree: "Dict[str, bytes | Link]" = {
        f"d{d}/s{s}/f{n}": rng.randbytes(rng.choice((0, 40, 900, 5000, 70_000)))
        for d in range(4)
        for s in range(3)
        for n in range(4)
    }
    tree.update({"long": rng.randbytes(700_000), "sparse": bytes(300_000) + b"end", "link": Link("d0/s0/f0")})
    tree.update({"d1/slow-link": Link("x" * 200), "empty/": b"", "d3/deep/deeper/": b""})
    tree.update({f"many/{n:03}-{'x' * 40}": b"" for n in range(200)})
    build_ext(image, tree, fs=fs, size_mib=size, options=options)
    large = image.parent / "value"
    large.write_bytes(b"v" * 300)
    debugfs(image, "ea_set /d0/s1/f1 user.note value", f"ea_set -f {large} /d0/s1/f2 user.large")
    debugfs(image, "ln d2/s0/f0 d2/second-name", "cd /d3", "mknod console c 5 1")
    debugfs(image, "set_inode_field /d2/s0/f0 links_count 2")  # debugfs counts no link
    fsck_clean(image)
    return image


def is_clean(image: Path) -> bool:
    return subprocess.run(["e2fsck", "-fn", image], capture_output=True, check=False).returncode == 0


def problem(old: bytes, new: bytes, numbers: Optional[Iterable[int]] = None) -> Optional[RespinError]:
    """What is said of an image, None if nothing: in the comparison, which comes first, or of its consistency."""
    changed = Ranges([(0, max(len(old), len(new)))])
    try:
        before, after = opened(old), opened(new)
        compare(before, after, changed)
        changed = changed.narrowed(before.view, after.view, before.superblock.block_size)
        if numbers is None:
            numbers = {*before.numbers_in_use(), *after.numbers_in_use(), *Numbering(before).slots(changed)}
        require_consistent(before, after, numbers, changed)
    except RespinError as error:
        return error
    return None


def changed_by(stock: Path, work: Path, *commands: str) -> Tuple[bytes, Path]:
    """The stock image, and a copy that debugfs worked on."""
    image = work / "root.img"
    shutil.copyfile(stock, image)
    (work / "source").write_bytes(random.Random(3).randbytes(30_000))
    (work / "large").write_bytes(random.Random(4).randbytes(900_000))
    (work / "value").write_bytes(b"w" * 400)
    debugfs(image, *(command.format(work=work) for command in commands))
    return stock.read_bytes(), image


HONEST = (
    "cd /d0\nwrite {work}/source new",
    "cd /empty\nwrite {work}/large other",
    "cd /d3/deep\nwrite {work}/source new\nwrite {work}/source another",
    "rm /d1/s1/f2",
    "rm /long\ncd /\nwrite {work}/source long",
    "rm /d0/s0/f3\nmkdir /d0/s0/f3",
    "mkdir /d2/s1/fresh\nmkdir /d2/s1/fresh/below",
    "symlink /d3/l d0",
    "symlink /d3/far " + "y" * 300,
    "ln d0/s0/f1 /d1/hard\nset_inode_field /d0/s0/f1 links_count 2",
    "unlink /d2/second-name\nset_inode_field /d2/s0/f0 links_count 1",
    "set_inode_field /d0/s2/f3 mode 0104755",
    "ea_set /d2/s2/f1 security.capability abcdefgh",
    "ea_set -f {work}/value /d2/s2/f2 user.large",
    "ea_rm /d0/s1/f1 user.note",
    "ea_rm /d0/s1/f2 user.large",
    "rmdir /empty",
    "rmdir /d3/deep/deeper",
    "rm /link",
    "cd /d0\nmknod pipe p",
    "cd /many\n" + "\n".join(f"write {{work}}/value {'z' * 50}{n}" for n in range(120)),
    "\n".join(f"rm /many/{n:03}-{'x' * 40}" for n in range(0, 200, 3)),
)


@settings(max_examples=12, deadline=None)
@given(chosen=st.lists(st.sampled_from(HONEST), min_size=1, max_size=6, unique=True))
def test_what_debugfs_leaves_is_judged_as_by_e2fsck(
    stock: Path, tmp_path_factory: pytest.TempPathFactory, chosen: List[str]
) -> None:
    old, image = changed_by(stock, tmp_path_factory.mktemp("changed"), *chosen)
    new = image.read_bytes()
    found = problem(old, new)
    assert (found is None) == is_clean(image), found
    if found is None:
        before, after = opened(old), opened(new)
        everywhere = Ranges([(0, len(old))])
        said = [entry.path for entry in compare(before, after, everywhere)]
        where_said = compare_where_said(before, after, everywhere, said)
        assert where_said is None or problem(old, new, where_said.numbers) is None
        assert difference(before, after, everywhere, said, SILENT) == compare(before, after, everywhere)


DISHONEST = {
    "a vendor's block called free": "freeb {block}",
    "a free block called in use": "setb {free_block}",
    "a vendor's inode called free": "freei /d0/s0/f1",
    "a free inode called in use": "seti <{free_inode}>",
    "free blocks miscounted": "set_bg 0 free_blocks_count 7\nset_bg 0 checksum calc",
    "free inodes miscounted": "set_bg 0 free_inodes_count 7\nset_bg 0 checksum calc",
    "directories miscounted": "set_bg 0 used_dirs_count 1\nset_bg 0 checksum calc",
    "a link too many": "set_inode_field /d0/s0/f1 links_count 2",
    "a link too few": "set_inode_field /d2/s0/f0 links_count 1",
    "directories in a directory miscounted": "set_inode_field /d1 links_count 9",
    "a name that does not count": "ln d0/s0/f1 /d1/hard",
    "a name taken away": "unlink /d0/s0/f1",
    "a directory without a name": "unlink /d0/s1",
    "a directory with two names": "ln /d0/s1 /d3/again\nset_inode_field /d3 links_count 4",
    "a directory in itself": "unlink /d0\nln <{d0}> /d1/s0/d0",
    "sectors miscounted": "set_inode_field /long blocks 8",
    "in use and deleted": "set_inode_field /long dtime 1600000000",
    "cut short": "set_inode_field /long size 5",
}


@pytest.mark.parametrize("what", DISHONEST)
def test_what_e2fsck_complains_of_is_refused(stock: Path, tmp_path: Path, what: str) -> None:
    image = opened(stock.read_bytes())
    free_inode = next(n for n in range(12, image.superblock.inode_count) if not image.slot(n).links)
    facts = {
        "block": (image.data_ranges(image.stat("/long"))[0].offset or 0) // image.superblock.block_size,
        "free_block": next(n for n in range(100, 1 << 20) if not image.holds_content(n)),
        "free_inode": free_inode,
        "d0": image.stat("/d0").number,
    }
    old, changed = changed_by(stock, tmp_path, DISHONEST[what].format(**facts))
    if old == changed.read_bytes():
        pytest.skip("debugfs cannot link into a full inline directory")
    assert not is_clean(changed), "this is no test"
    found = problem(old, changed.read_bytes())
    assert isinstance(found, MalformedError), found
    assert found.where
    assert found.exit_code == 3


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32), data=st.data())
def test_random_damage_is_refused_if_e2fsck_complains(
    stock: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, data: st.DataObject
) -> None:
    old = stock.read_bytes()
    image = opened(old)
    areas = [
        (part.offset, part.length) for part in image.metadata_ranges() if part.kind not in _COPIED or not part.group
    ]
    areas += [(image.inode_location(inode.number), image.superblock.inode_size) for _, inode in image.walk()]
    areas += [place for _, inode in image.walk() for place in image.mapping_ranges(inode)]
    for _, inode in image.walk():
        if inode.is_directory and not inode.is_inline:
            areas += [(place.offset, place.length) for place in image.data_ranges(inode) if place.offset is not None]
    offset, length = areas[random.Random(seed).randrange(len(areas))]
    place = offset + data.draw(st.integers(0, min(length, 4 * KiB) - 1))
    new = bytearray(old)
    new[place] ^= 1 << data.draw(st.integers(0, 7))
    work = tmp_path_factory.mktemp("damaged") / "root.img"
    work.write_bytes(new)
    found = subprocess.run(["e2fsck", "-fn", work], capture_output=True, check=False)
    if found.returncode and _ATTRIBUTE_HASH not in found.stdout:
        assert problem(old, bytes(new)) is not None, hex(place)


@pytest.mark.parametrize("field", ["free_blocks_count", "free_inodes_count"])
def test_what_the_superblock_counts(stock: Path, tmp_path: Path, field: str) -> None:
    """e2fsck puts that right without a word."""
    old, changed = changed_by(stock, tmp_path, f"set_super_value {field} 99")
    assert "the superblock counts" in str(problem(old, changed.read_bytes()))


def test_a_clean_image_comes_out_even(stock: Path) -> None:
    image = opened(stock.read_bytes())
    assert is_all(image)
    assert is_even(image)


UNEVEN = {
    "a block in use that is free in bitmap and counters": "freeb {block}\nset_bg 0 free_blocks_count {blocks}",
    "an inode in use that is free in bitmap and counters": "freei /long\nset_bg 0 free_inodes_count {inodes}",
    "an inode that forgot its blocks": "clri /long",
    "directories miscounted": "set_bg 0 used_dirs_count 1",
}


@pytest.mark.parametrize("what", UNEVEN)
def test_what_does_not_come_out_even(stock: Path, tmp_path: Path, what: str) -> None:
    image = opened(stock.read_bytes())
    group = image.groups[0]
    facts = {
        "block": (image.data_ranges(image.stat("/d0/s0/f0"))[0].offset or 0) // image.superblock.block_size,
        "blocks": group.free_blocks + 1,
        "inodes": group.free_inodes + 1,
    }
    _, changed = changed_by(stock, tmp_path, UNEVEN[what].format(**facts))
    assert not is_clean(changed), "this is no test"
    assert not is_even(opened(changed.read_bytes()))


@pytest.mark.parametrize("feature", ["quota", "project", "ea_inode"])
def test_books_that_are_not_looked_at(tmp_path: Path, feature: str) -> None:
    image = build_ext(tmp_path / "root.img", {"file": b"x"}, fs="ext4", size_mib=16, options=("-O", feature))
    assert not is_all(opened(image.read_bytes()))
    assert not is_even(opened(image.read_bytes()))


def test_what_no_file_has_is_the_vendors_or_zeros(stock: Path, tmp_path: Path) -> None:
    """e2fsck does not look there, but who looks for superblocks of others does."""
    old, image = changed_by(stock, tmp_path, "cd /empty\nwrite {work}/source new")
    new = bytearray(image.read_bytes())
    assert problem(old, bytes(new)) is None
    after = opened(bytes(new))
    size = after.superblock.block_size
    free = FreeBlocks(after)
    last = next(number for number in reversed(range(after.superblock.block_count)) if free[number])
    inode = after.inode(after.stat("/empty/new").number)
    assert inode.size % size
    run = after.allocation(inode)[0][-1]
    assert run.physical is not None
    end = (run.physical + run.count - 1) * size + inode.size % size
    for at in (last * size + 8, end, end + size - inode.size % size - 1):
        forged = bytearray(new)
        forged[at] = 7
        (tmp_path / "forged").write_bytes(forged)
        assert is_clean(tmp_path / "forged")
        found = problem(old, bytes(forged))
        assert found is not None
        assert found.finding == "not-consistent"
        assert "is not the vendor's" in found.what
