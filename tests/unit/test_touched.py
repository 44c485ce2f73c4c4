"""Following changed bytes to inodes and names: what could lead astray, each found by the plain way or not judged."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from pathlib import Path
from typing import Callable, Iterable, List, Optional, Tuple

import pytest

from respin.byteview import BytesView
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ExtInode
from respin.node.numbering import Numbering
from respin.node.ranges import Ranges
from respin.node.treediff import compare
from respin.root.delta import Delta
from tests.support.comparing import compare_where_said
from tests.support.images import EPOCH, build_ext, debugfs, fsck_clean, run

_STALE = 1000  # an inode of the first group that a small image does not use


def opened(data: bytes) -> ExtImage:
    return ExtImage.open(BytesView(bytes(data), "root.img"))


def both_ways(old: bytes, new: bytes, said: Iterable[str]) -> Tuple[Delta, Optional[Delta]]:
    """What is found in full, and what where ``said``."""
    changed = Ranges([(0, len(old))])
    return compare(opened(old), opened(new), changed), compare_where_said(opened(old), opened(new), changed, said)


def start(data: bytes, path: str) -> int:
    """The byte of an image where the content of a file begins."""
    image = opened(data)
    offset = image.data_ranges(image.stat(path))[0].offset
    assert offset is not None
    return offset


def flipped(data: bytes, *places: int) -> bytes:
    new = bytearray(data)
    for place in places:
        new[place] ^= 1
    return bytes(new)


def changed_by(image: Path, *commands: str) -> Tuple[bytes, bytes]:
    """An image before and after debugfs worked on it."""
    old = image.read_bytes()
    debugfs(image, *commands)
    return old, image.read_bytes()


class TestSpelling:
    """With surrogates, a path can spell a name in two ways: as text, and as the bytes of which the text is made."""

    @pytest.fixture(scope="class")
    @classmethod
    def stock(cls, tmp_path_factory: pytest.TempPathFactory) -> bytes:
        tree = {"é": b"x" * 5000, "d/é/x": b"y" * 3000, "other/": b""}
        image = build_ext(tmp_path_factory.mktemp("spelling") / "image", tree, size_mib=2)
        debugfs(image, "ln é other/second", "set_inode_field é links_count 2")
        fsck_clean(image)
        return image.read_bytes()

    def test_one_name_in_two_spellings_is_not_two_names(self, stock: bytes) -> None:
        new = flipped(stock, start(stock, "/é"))
        whole, found = both_ways(stock, new, ["/é", "/\udcc3\udca9"])
        assert {entry.path for entry in whole} == {"/é", "/other/second"}
        assert found is None
        assert both_ways(stock, new, ["/é", "/other/second", "/\udcc3\udca9"]) == (whole, whole)

    def test_what_is_found_is_spelled_as_it_is_in_full(self, stock: bytes) -> None:
        new = flipped(stock, start(stock, "/d/é/x"))
        assert both_ways(stock, new, ["/d/\udcc3\udca9/x"]) == (whole := both_ways(stock, new, ())[0], whole)

    def test_a_spelling_of_no_bytes_at_all_is_no_path(self, stock: bytes) -> None:
        new = flipped(stock, start(stock, "/d/é/x"))
        whole, found = both_ways(stock, new, ["/\ud800/x", "//d/./é/x", "/d/../d/é/x"])
        assert (len(whole), found) == (1, None)


def test_behind_the_first_meta_groups_a_block_after_a_superblock_is_content(tmp_path: Path) -> None:
    """A copy of the superblock is there, but not the table of all descriptors: so it is in images that grew mounted."""
    image = build_ext(
        tmp_path / "image",
        fs="ext4",
        size_mib=7,
        options=(
            *("-b", "1024", "-g", "256", "-N", "900", "-G", "64"),
            *("-O", "meta_bg,^resize_inode,flex_bg,^has_journal,^metadata_csum"),
        ),
    )
    debugfs(image, "ssv first_meta_bg 1")
    subprocess.run(["e2fsck", "-fy", image], capture_output=True, check=False)  # the first group's copies move
    (tmp_path / "source").write_bytes(random.Random(1).randbytes(6_600_000))
    debugfs(image, f"write {tmp_path / 'source'} all")
    fsck_clean(image)
    old = image.read_bytes()
    block = 1 + 25 * 256 + 1
    assert f"{block}\t" in debugfs(image, f"icheck {block}")
    assert opened(old).superblock.first_meta_block_group == 1
    new = flipped(old, block * 1024)
    whole, found = both_ways(old, new, ())
    assert [entry.path for entry in whole] == ["/all"]
    assert found is None
    assert both_ways(old, new, ["/all"]) == (whole, whole)


class TestAsMadeByDefault:
    """Flexible groups with bitmaps and inode tables that were never written."""

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        tree = {"a": b"1" * 5000, "b/c": b"2" * 5000}
        return build_ext(tmp_path / "image", tree, fs="ext4", size_mib=40, options=("-b", "1024"))

    def test_what_debugfs_writes_is_found(self, image: Path, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(random.Random(1).randbytes(3_000_000))
        old, new = changed_by(image, f"write {tmp_path / 'source'} b/new", "rm a")
        assert both_ways(old, new, ["/a", "/b", "/b/new"]) == (whole := both_ways(old, new, ())[0], whole)
        assert len(whole) == 2

    def test_a_bitmap_that_was_never_written_is_not_believed(self, image: Path) -> None:
        found = run("dumpe2fs", image).decode().split("BLOCK_UNINIT")[1]
        bitmap = int(found.split("Block bitmap at ")[1].split()[0]) * 1024
        block = int(found.split("Free blocks: ")[1].split("-")[0]) * 1024
        data = bytearray(image.read_bytes())
        data[bitmap : bitmap + 1024] = b"\xff" * 1024
        image.write_bytes(data)
        fsck_clean(image)
        assert both_ways(data, flipped(data, block), ()) == (Delta(()), Delta(()))

    def test_a_stale_inode_does_not_answer_for_the_blocks_of_another(self, image: Path) -> None:
        """In a part of the inode table that nobody looks at, something names the blocks of a file."""
        data = bytearray(image.read_bytes())
        size, slot, stale = 256, *map(opened(data).inode_location, (opened(data).stat("/a").number, _STALE))
        data[stale : stale + size] = data[slot : slot + size]
        image.write_bytes(data)
        fsck_clean(image)
        whole, found = both_ways(data, flipped(data, start(data, "/a"), stale + 8), ())
        assert [entry.path for entry in whole] == ["/a"]
        assert found is None


@pytest.mark.parametrize(("was", "command"), [("/d/a", "mkdir /d/now"), ("/d/e", "symlink /d/now f")])
def test_an_inode_that_is_used_again_for_something_of_another_kind(tmp_path: Path, was: str, command: str) -> None:
    image = build_ext(tmp_path / "image", {"d/a": b"1", "d/b": b"2", "d/e/": b"", "f": b"3"}, size_mib=2)
    old, new = changed_by(image, f"rm{'dir' if was == '/d/e' else ''} {was}", command)
    assert opened(new).stat("/d/now").number == opened(old).stat(was).number
    whole, found = both_ways(old, new, [was, "/d/now"])
    assert [entry.path for entry in whole] == [was, "/d/now"]
    assert found == (whole if was == "/d/a" else None), "what was a directory is not followed to another name"


def test_a_name_in_a_hashed_directory_that_leads_to_another_file(tmp_path: Path) -> None:
    image = build_ext(
        tmp_path / "image", {f"many/{n:0200}": b"%d" % n for n in range(300)}, size_mib=4, options=("-N", "400")
    )
    subprocess.run(["e2fsck", "-fyD", image], capture_output=True, check=False)
    fsck_clean(image)
    old = image.read_bytes()
    directory = opened(old).stat("/many")
    assert directory.flags & 0x1000
    name = f"/many/{7:0200}"
    new = bytearray(old)
    place = old.index(name[6:].encode()) - 8
    struct.pack_into("<I", new, place, opened(old).stat(f"/many/{8:0200}").number)
    whole, found = both_ways(old, new, [name])
    assert [entry.path for entry in whole] == [name]
    assert found is None, "one file has two names now, and nobody followed it"
    old, new = changed_by(image, f"rm {name}", "sif /many/" + "9".zfill(200) + " uid 7")
    whole, found = both_ways(old, new, [name, "/many"])
    assert (len(whole), found) == (2, whole), "of a directory that is known to differ, each name is looked at"


def test_new_inodes_of_an_image_that_was_grown(tmp_path: Path) -> None:
    image = build_ext(tmp_path / "image", {"a": b"1", "b": b"2"}, size_mib=8, options=("-b", "1024", "-N", "16"))
    old = image.read_bytes()
    os.truncate(image, 32 << 20)
    run("resize2fs", "-f", image, env={"E2FSPROGS_FAKE_TIME": str(EPOCH)})
    debugfs(image, "rm a", *(f"mknod n{number} p" for number in range(20)))
    new = image.read_bytes()
    whole, found = both_ways(old, new, ["/a"])
    assert max(inode.number for _, inode in opened(new).walk()) > opened(old).superblock.inode_count
    assert (len(whole), found) == (21, whole)


def test_paths_in_any_order_have_every_directory_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {f"d{n}/f": b"" for n in range(80)}
    old, new = changed_by(build_ext(tmp_path / "image", tree, size_mib=2), "sif /d7/f uid 9")
    before, after, scans = opened(old), opened(new), [0]
    scan: Callable[[ExtImage, ExtInode], object] = ExtImage._scan

    def counted(image: ExtImage, inode: ExtInode) -> object:
        scans[0] += 1
        return scan(image, inode)

    monkeypatch.setattr(ExtImage, "_scan", counted)
    said: List[str] = [f"/d{n}/{name}" for name in "fghij" for n in range(80)]
    found = compare_where_said(before, after, Ranges([(0, len(old))]), said)
    assert found is not None
    assert [entry.path for entry in found] == ["/d7/f"]
    assert scans[0] < 90


def test_an_unknown_feature_is_more_than_is_followed(tmp_path: Path) -> None:
    old = bytearray(build_ext(tmp_path / "image", {"a": b"1"}, size_mib=2).read_bytes())
    assert both_ways(old, flipped(old, start(old, "/a")), ["/a"])[1] is not None
    old[1024 + 103] |= 0x40  # s_feature_ro_compat
    assert both_ways(old, flipped(old, start(old, "/a")), ["/a"])[1] is None


def test_slots_are_those_that_ranges_touch(tmp_path: Path) -> None:
    image = opened(build_ext(tmp_path / "image", size_mib=4, options=("-b", "1024", "-g", "512")).read_bytes())
    chance = random.Random(5)
    places = [chance.randrange(image.view.size - 300) for _ in range(300)]
    ranges = Ranges((place, place + chance.randrange(1, 300)) for place in places)
    size, numbers = image.superblock.inode_size, range(1, image.superblock.inode_count + 1)
    at = map(image.inode_location, numbers)
    touched = {number for number, place in zip(numbers, at) if ranges.touch(place, place + size)}
    assert touched
    assert set(Numbering(image).slots(ranges)) == touched
