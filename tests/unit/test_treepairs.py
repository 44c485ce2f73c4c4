"""Comparing roots in pairs of paths: what an extension says is what reading both trees in full says."""

from __future__ import annotations

import random
import stat
from pathlib import Path
from typing import Any, List, Optional, Set, Tuple

import pytest

from respin.build.newroot import in_order
from respin.byteview import BytesView
from respin.errors import MalformedError, UnsupportedError, VerificationError
from respin.formats.ext.image import ExtImage
from respin.formats.squashfs.extension import read_extension
from respin.formats.squashfs.image import SquashfsImage
from respin.formats.squashfs.inode import Kind
from respin.formats.squashfs.merge import Put, merge_changes
from respin.formats.squashfs.merge.tree import TreeWriter
from respin.formats.squashfs.root import SquashfsRoot
from respin.node.rootimage import FlatRoot
from respin.node.treepairs import all_pairs, delta_of, pairs_of_extension, visit_all
from respin.progress import SILENT
from respin.root.delta import Change
from respin.segments import Copy, Data, SegmentsView, Zeros
from respin.verify.flat import compare_flat
from tests.support.flatroots import Maker, Root, pack, request, write_root
from tests.support.images import KiB, build_ext

PACK = ("-b", "4K")


class World:
    """A vendor's flat image, and one that was made of it by a merge."""

    def __init__(self, tmp: Path, seed: int) -> None:
        maker = Maker(random.Random(seed), 4 * KiB)
        self.before: Root = maker.root(150)
        self.after = maker.changed(self.before, 12)
        self.vendor = pack(write_root(self.before, tmp / "before"), tmp / "vendor", *PACK).read_bytes()
        image = SquashfsImage.open(BytesView(self.vendor, "vendor"))
        merged = merge_changes(image, request(self.before, self.after))
        view = SegmentsView(merged.segments, image.view, "output")
        assert view.size == merged.size
        self.output = view.read(0, view.size)

    def roots(self, output: Optional[bytes] = None) -> Tuple[FlatRoot, FlatRoot]:
        """The output and the vendor's, opened anew."""
        views = BytesView(output or self.output, "output"), BytesView(self.vendor, "vendor")
        return FlatRoot.open(SquashfsImage.open(views[0])), FlatRoot.open(SquashfsImage.open(views[1]))


@pytest.fixture(scope="module", params=[1, 2, 3])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), request.param)


def test_an_extension_says_what_both_trees_say(world: World) -> None:
    output, vendor = world.roots()
    extension = read_extension(vendor.squashfs, output.squashfs)
    assert extension is not None
    few = list(pairs_of_extension(vendor.tree, output.tree, extension))
    found = delta_of(vendor.tree, output.tree, few)
    output, vendor = world.roots()
    every = list(all_pairs(vendor.tree, output.tree))
    assert found.entries == delta_of(vendor.tree, output.tree, every).entries
    assert found.entries
    assert {path for path, _old, _new in few} <= {path for path, _old, _new in every}


def test_the_delta_is_what_was_changed(world: World) -> None:
    output, vendor = world.roots()
    size, delta = compare_flat(output, vendor, SILENT)
    assert size > 0
    said = {entry.path: entry.change for entry in delta}
    added, removed = world.after.keys() - world.before.keys(), world.before.keys() - world.after.keys()
    assert {path for path, change in said.items() if change is Change.ADDED} == added
    assert {path for path, change in said.items() if change is Change.REMOVED} == removed
    facts = ("kind", "mode", "uid", "gid", "mtime", "content", "target", "rdev", "xattrs")
    changed: Set[str] = set()
    for path in world.before.keys() & world.after.keys():
        one, other = world.before[path], world.after[path]
        if any(getattr(one, fact) != getattr(other, fact) for fact in facts):
            changed.add(path)
    assert {path for path, change in said.items() if change is Change.CHANGED} == changed


def test_pairs_of_all_are_each_path_once_in_the_order_of_a_walk(world: World) -> None:
    output, vendor = world.roots()
    paths = [path for path, _old, _new in all_pairs(vendor.tree, output.tree)]
    assert sorted(paths) == sorted({*world.before, *world.after})
    alone = [path for path, _inode in vendor.tree.walk("/")]
    assert [path for path in paths if path in world.before] == alone


def test_an_image_that_was_packed_anew_is_not_the_vendors(world: World, tmp_path: Path) -> None:
    anew = pack(write_root(world.after, tmp_path / "after"), tmp_path / "anew", *PACK).read_bytes()
    with pytest.raises(VerificationError) as caught:
        compare_flat(*world.roots(anew), SILENT)
    assert caught.value.finding == "not-the-vendors"


def test_another_byte_of_the_vendors_data(world: World) -> None:
    output = bytearray(world.output)
    start = SquashfsImage.open(BytesView(world.vendor, "vendor")).options.data_start
    output[start + 10] ^= 1
    with pytest.raises(VerificationError, match="data") as caught:
        compare_flat(*world.roots(bytes(output)), SILENT)
    assert caught.value.finding == "not-the-vendors"
    assert str(caught.value.where) == f"output, byte {start + 10}"


def test_a_new_file_with_the_number_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes inodes of one number for one file: what it shows depends on which name was used first."""
    source = tmp_path / "tree"
    (source / "bin").mkdir(parents=True)
    (source / "share").mkdir()
    (source / "bin/sudo").write_bytes(b"the vendor's")
    vendor = SquashfsImage.open(BytesView(pack(source, tmp_path / "vendor").read_bytes(), "vendor"))
    taken = SquashfsRoot(vendor).stat("/bin/sudo").number
    monkeypatch.setattr(TreeWriter, "_number", lambda self: taken)
    put = Put("/share/new", Kind.FILE, 0o644, 0, 0, 0, content=BytesView(b"another", "new"))
    merged = merge_changes(vendor, [put])
    output = SquashfsImage.open(SegmentsView(merged.segments, vendor.view, "output"))
    with pytest.raises(MalformedError, match=f"inode {taken} ") as caught:
        compare_flat(FlatRoot.open(output), FlatRoot.open(vendor), SILENT)
    assert caught.value.finding == "malformed"


def test_bytes_behind_the_new_image(world: World) -> None:
    with pytest.raises(UnsupportedError) as caught:
        compare_flat(*world.roots(world.output + b"more"), SILENT)
    assert caught.value.finding == "data-behind-squashfs"


def test_an_ext_root_and_a_flat_one(tmp_path: Path) -> None:
    old = build_ext(tmp_path / "old.img", {"a": b"same", "d/b": b"one"}, size_mib=8)
    ext = ExtImage.open(BytesView(old.read_bytes(), "ext"))
    source = tmp_path / "tree"
    (source / "d").mkdir(parents=True)
    (source / "a").write_bytes(b"same")
    (source / "d/b").write_bytes(b"other")
    flat = SquashfsRoot.open(BytesView(pack(source, tmp_path / "flat").read_bytes(), "flat"))
    met: List[str] = []

    def visit(path: str, was: Optional[Any], now: Optional[Any]) -> None:
        met.append(path)
        assert was is None or now is None or stat.S_IFMT(was.mode) == stat.S_IFMT(now.mode)

    delta = visit_all(ext, flat, visit)
    assert met == ["/", "/a", "/d", "/d/b", "/lost+found"]
    digests = {entry.path: (entry.old, entry.new) for entry in delta}
    was, now = digests["/d/b"]
    assert was is not None
    assert now is not None
    assert was.sha256 != now.sha256
    assert digests["/lost+found"][1] is None


def test_copies_are_put_in_order() -> None:
    """One pass over the base writes the output; what is copied twice is new bytes the second time."""
    base = BytesView(bytes(range(200)), "base")
    segments = [Copy(0, 100), Copy(40, 10), Data(b"new"), Copy(90, 20), Copy(100, 50), Zeros(3), Copy(160, 5)]
    ordered = list(in_order(segments, base))
    assert [s for s in ordered if isinstance(s, Copy)] == [Copy(0, 100), Copy(100, 50), Copy(160, 5)]
    views = [SegmentsView(one, base, "output") for one in (segments, ordered)]
    assert views[0].read(0, views[0].size) == views[1].read(0, views[1].size)


@pytest.mark.parametrize("seed", range(5))
def test_a_view_of_segments_reads_what_they_describe(seed: int) -> None:
    rng = random.Random(seed)
    base = rng.randbytes(500)
    segments, whole = [], b""
    for _ in range(20):
        length = rng.choice((0, 1, 7, 40))
        offset = rng.randrange(400)
        kind = rng.randrange(3)
        data = rng.randbytes(length)
        segments.append((Copy(offset, length), Data(data), Zeros(length))[kind])
        whole += (base[offset : offset + length], data, bytes(length))[kind]
    view = SegmentsView(segments, BytesView(base, "base"), "whole")
    assert view.size == len(whole)
    for start in range(len(whole) + 1):
        end = rng.randrange(start, len(whole) + 1)
        assert view.read(start, end - start) == whole[start:end]
