"""From a delta to debugfs commands: order, quoting, what is refused, and failures that debugfs doesn't report."""

from __future__ import annotations

from pathlib import Path
from typing import List, Mapping

import pytest

from respin.byteview import FileView
from respin.errors import BuildError, PolicyError, UnsupportedError
from respin.formats.ext import ExtImage
from respin.root import script
from respin.root.delta import Attributes, Change, Delta, Entry, Kind
from respin.root.entries import Plan, Removal, Target, make_plan
from respin.root.readback import ReadBack
from respin.root.space import no_space, space_for
from tests.support.images import EPOCH, build_ext, debugfs, fsck_clean

FILE = Attributes(Kind.FILE, 0o644, 0, 0, EPOCH, 1, "aa")
OTHER = Attributes(Kind.FILE, 0o600, 0, 0, EPOCH, 1, "aa")
CONTENT = Attributes(Kind.FILE, 0o644, 0, 0, EPOCH, 1, "bb")
DIRECTORY = Attributes(Kind.DIRECTORY, 0o755, 0, 0, EPOCH)


def plan_of(entries: List[Entry], links: int = 1, acl: bool = False) -> Plan:
    return make_plan(
        Delta(tuple(sorted(entries, key=lambda e: e.path))), {}, "/upper", vendor_links=lambda p: links,
        has_acl=lambda p: acl,
    )  # fmt: skip


def test_order() -> None:
    plan = plan_of(
        [
            Entry("/d", Change.REMOVED, None, DIRECTORY),
            Entry("/d/x", Change.REMOVED, None, FILE),
            Entry("/n", Change.ADDED, DIRECTORY),
            Entry("/n/f", Change.ADDED, FILE),
            Entry("/c", Change.CHANGED, CONTENT, FILE),
            Entry("/kind", Change.CHANGED, DIRECTORY, FILE),
        ]
    )
    assert [r.path for r in plan.removals] == ["/kind", "/d/x", "/d", "/c"]
    assert [(t.path, t.make) for t in plan.targets] == [("/c", True), ("/kind", True), ("/n", True), ("/n/f", True)]
    assert plan.touched_directories == ["/"]


def test_in_place_only_for_an_inode_of_one_name() -> None:
    change = [Entry("/f", Change.CHANGED, OTHER, FILE)]
    assert plan_of(change).targets[0].make is False
    assert plan_of(change, links=2).targets[0].make is True
    grouped = [Entry("/f", Change.CHANGED, OTHER, FILE, "/f"), Entry("/g", Change.ADDED, OTHER, None, "/f")]
    assert [(t.path, t.make, t.links) for t in plan_of(grouped).targets] == [("/f", True, ("/g",))]


def test_refused_entries() -> None:
    with pytest.raises(PolicyError) as caught:
        plan_of([Entry("/dev", Change.ADDED, Attributes(Kind.CHARACTER, 0o600, 0, 0, 0))])
    assert caught.value.finding == "special-file"
    with pytest.raises(UnsupportedError) as refused:
        plan_of([Entry("/f", Change.CHANGED, CONTENT, FILE)], acl=True)
    assert refused.value.finding == "access-control-list"


@pytest.mark.parametrize("name", ["a\nb", 'a"b', "a\tb", "a\x7fb", ""])
def test_unwritable_names(name: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        script.quote(name)
    assert caught.value.finding == "unwritable-name"


def test_times_beyond_2038(tmp_path: Path) -> None:
    image = build_ext(tmp_path / "image", fs="ext4", size_mib=8)
    source = tmp_path / "source"
    source.write_bytes(b"x")
    times = (0, 2**31 - 1, 2**31, 2**32, 2**33 + 5)
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    targets = tuple(
        Target(f"/t{mtime}", Attributes(Kind.FILE, 0o644, 0, 70000, mtime, 1, digest), True, str(source))
        for mtime in times
    )
    write(image, Plan((), targets), tmp_path)
    read_back(image, Plan((), targets))
    fsck_clean(image)


def write(image: Path, plan: Plan, tmp: Path) -> None:
    script.run(str(image), list(script.commands(plan, lambda v: "", large_inodes=True)), str(tmp / "script"), EPOCH)


def read_back(image: Path, plan: Plan) -> None:
    with image.open("rb") as stream:
        ReadBack(ExtImage.open(FileView(stream.fileno(), "image")), "image").check(plan, {})


def test_debugfs_failures_are_noticed(tmp_path: Path) -> None:
    image = build_ext(tmp_path / "image", {"/there": b"x"}, fs="ext4", size_mib=8)
    big = tmp_path / "big"
    big.write_bytes(bytes(range(1, 251)) * 60_000)
    for plan in (
        Plan((), (Target("/f", FILE, True, str(tmp_path / "missing")),)),
        Plan((), (Target("/no/such/dir/f", FILE, True, str(big)),)),
        Plan((), (Target("/there", FILE, True, str(big)),)),
        Plan((Removal("/gone", Kind.FILE),), ()),
        Plan((), (Target("/big", FILE, True, str(big)),)),
    ):
        with pytest.raises(BuildError) as caught:
            write(image, plan, tmp_path)
        assert caught.value.finding == "cannot-write-root"
    with pytest.raises(UnsupportedError):
        script.run(str(image), ["rm " + "x" * 9000], str(tmp_path / "script"), EPOCH)


WRONG: Mapping[str, str] = {
    "content": "rm f\nwrite {other} f\nsif f mode 0100644\nsif f mtime @{epoch}\nsif f atime @{epoch}",
    "mode": "sif f mode 0100600",
    "uid": "sif f uid 1",
    "gid": "sif f gid 65537",
    "mtime": "sif f mtime @1",
    "ctime": "sif f ctime @1",
    "crtime": "sif f crtime @1",
    "nlink": "sif f links_count 2",
    "attributes": "ea_set f user.x y",
    "missing": "rm f",
    "points": "rm l\nsymlink l elsewhere\nsif l mtime @{epoch}",
    "hard link": "unlink h\nwrite {source} h",
}


@pytest.mark.parametrize("what", WRONG)
def test_read_back_sees(what: str, tmp_path: Path) -> None:
    image = build_ext(tmp_path / "image", fs="ext4", size_mib=8)
    source, other = tmp_path / "source", tmp_path / "other"
    source.write_bytes(b"x")
    other.write_bytes(b"y")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    good = Attributes(Kind.FILE, 0o644, 0, 0, EPOCH, 1, digest)
    plan = Plan(
        (),
        (
            Target("/a", good, True, str(source), links=("/h",)),
            Target("/f", good, True, str(source)),
            Target("/l", Attributes(Kind.SYMLINK, 0o777, 0, 0, EPOCH, target="somewhere"), True),
        ),
    )
    write(image, plan, tmp_path)
    read_back(image, plan)
    debugfs(image, *WRONG[what].format(other=other, source=source, epoch=EPOCH).splitlines())
    with pytest.raises(BuildError) as caught:
        read_back(image, plan)
    assert caught.value.finding == "read-back-differs"


def test_space(tmp_path: Path) -> None:
    image = build_ext(tmp_path / "image", {"/old": b"x" * 2_000_000}, fs="ext2", size_mib=8, options=("-b", "1024"))
    with image.open("rb") as stream:
        ext = ExtImage.open(FileView(stream.fileno(), "image"))
        free = ext.superblock.free_blocks
        source = tmp_path / "source"
        source.write_bytes(b"x" * (free * 1024))
        plan = Plan((), (Target("/f", FILE, True, str(source)),))
        space = space_for(plan, ext)
        assert not space.enough
        refusal = no_space(space, 1024, "image", "why")
        assert refusal.finding == "no-space-in-root"
        assert f"{free} free blocks" in refusal.what
        assert "inodes" not in refusal.what
        # what is removed before makes room
        plan = Plan((Removal("/old", Kind.FILE),), plan.targets)
        assert space_for(plan, ext).enough
        need = space_for(plan, ext).need
    write(image, plan, tmp_path)
    fsck_clean(image)
    with image.open("rb") as stream:
        after = ExtImage.open(FileView(stream.fileno(), "image"))
        used = free + -(-2_000_000 // 1024) - after.superblock.free_blocks
        assert used <= need.blocks
