"""The parts of a comparison: lines as diff(1) finds them, archives as cpio(1) made them, packages, small ISOs."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import random
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView, FileView
from respin.diff import lines as lines_module
from respin.diff.diff import diff, first_difference
from respin.diff.lines import changed_lines
from respin.diff.model import Difference
from respin.diff.packages import _pairs
from respin.diff.root import _Visitor
from respin.errors import MalformedError, UnsupportedError
from respin.formats import cpio
from respin.formats.ext.image import ExtImage
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.whereis import place_of
from respin.limits import LIMITS
from respin.node.treepairs import visit_all
from respin.progress import SILENT
from tests.support import rawiso
from tests.support.images import build_ext, damaged, debugfs, run
from tests.support.iso import build_classic_iso

B = 2048
LINES = st.lists(st.sampled_from(["a", "b", "c", "label x", ""]), max_size=14)


@settings(max_examples=60, deadline=None)
@given(old=LINES, new=LINES)
def test_changed_lines_are_no_more_than_diff_finds(
    old: List[str], new: List[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = changed_lines(old, new)
    work = tmp_path_factory.mktemp("lines")
    for name, lines in (("old", old), ("new", new)):
        (work / name).write_text("".join(f"{line}\n" for line in lines))
    said = subprocess.run(
        ["diff", "--minimal", "-U0", "old", "new"], cwd=work, capture_output=True, text=True
    ).stdout.splitlines()[2:]
    expected = [line for line in said if not line.startswith("@@")]
    assert len(found) == len(expected)
    for sign in "+-":
        mine = sorted(line for line in found if line[0] == sign)
        assert len(mine) == sum(1 for line in expected if line[0] == sign)
    kept = list(old)
    for line in found:
        if line[0] == "-":
            kept.remove(line[1:])
    assert sorted([*kept, *(line[1:] for line in found if line[0] == "+")]) == sorted(new)


def test_lines_of_hostile_length_are_given_as_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "_MOST_PAIRS", 3)
    assert changed_lines(["x", "a", "b", "y"], ["x", "b", "c", "y"]) == ["-a", "-b", "+b", "+c"]


def archive(directory: Path, files: Mapping[str, bytes]) -> bytes:
    """What cpio(1) makes of these files, and of a link and a directory beside them."""
    directory.mkdir()
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    (directory / "link").symlink_to("somewhere")
    for path in sorted(directory.rglob("*"), reverse=True):
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    names = sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
    command = ["cpio", "-o", "-H", "newc", "--quiet", "--reproducible"]
    listed = "".join(f"{name}\n" for name in names).encode()
    return subprocess.run(command, cwd=directory, input=listed, capture_output=True, check=True).stdout


FILES = {"init": b"#!/bin/sh\n", "lib/one": random.Random(1).randbytes(700_000), "lib/empty": b"", "odd": b"abc"}
PACKINGS: Dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return archive(tmp_path_factory.mktemp("cpio") / "tree", FILES)


@pytest.mark.parametrize("packing", PACKINGS)
def test_members_are_those_that_cpio_put_in(plain: bytes, packing: str, tmp_path: Path) -> None:
    early = archive(tmp_path / "early", {"kernel/x86/microcode": b"microcode" * 100})
    whole = early + bytes(1024) + PACKINGS[packing](plain) + bytes(36) + PACKINGS[packing](early)
    found = cpio.read(BytesView(whole, "initrd"))
    assert set(found) == {*FILES, "lib", "link", "kernel", "kernel/x86", "kernel/x86/microcode"}
    for name, content in FILES.items():
        assert (found[name].size, found[name].mtime) == (len(content), 1_600_000_000)
        (tmp_path / "content").write_bytes(content)
        assert found[name].sha256 == run("sha256sum", tmp_path / "content").decode().split()[0]
    assert found["link"].target == "somewhere"
    assert found["lib"].sha256 is None


@pytest.mark.parametrize(
    "data",
    [b"", bytes(100), b"something else", b"070707" + b"0" * 200, gzip.compress(b"no archive", mtime=0)],
    ids=repr,
)
def test_what_is_no_archive_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(UnsupportedError):
        cpio.read(BytesView(data, "initrd"))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32), packing=st.sampled_from(sorted(PACKINGS)))
def test_a_damaged_archive_is_read_or_refused(plain: bytes, seed: int, packing: str) -> None:
    with contextlib.suppress(MalformedError, UnsupportedError):
        cpio.read(BytesView(damaged(PACKINGS[packing](plain), seed), "initrd"))


def test_numbers_that_int_would_take_and_the_kernel_would_not_are_refused(plain: bytes) -> None:
    for number in (b"0000_001", b"      01", b"-0000001"):
        with pytest.raises(MalformedError):
            cpio.read(BytesView(plain[:6] + number + plain[14:], "initrd"))


def test_an_archive_that_unpacks_to_too_much_is_refused(plain: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(plain, mtime=0)
    monkeypatch.setattr(cpio, "LIMITS", LIMITS._replace(initrd=len(plain)))
    with pytest.raises(UnsupportedError, match="more than"):
        cpio.read(BytesView(packed, "initrd"))
    monkeypatch.setattr(cpio, "LIMITS", LIMITS._replace(initrd=len(plain) + len(packed), initrd_members=3))
    with pytest.raises(UnsupportedError, match="more members"):
        cpio.read(BytesView(packed, "initrd"))


def facts(version: str, build: str = "x") -> Dict[str, Any]:
    return {"epoch": None, "version": version, "release": "1", "header_sha256": build}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([facts("1")], [facts("1")], []),
        ([facts("1")], [facts("2")], [("1", "2")]),
        ([facts("1")], [facts("1", "y")], [("1", "1")]),
        ([facts("1")], [facts("1"), facts("2")], [(None, "2")]),
        ([facts("1"), facts("2")], [facts("2"), facts("3")], [("1", "3")]),
        ([facts("1"), facts("2")], [facts("3")], [("1", None), ("2", None), (None, "3")]),
        ([facts("1"), facts("2")], [facts("2", "y")], [("2", "2"), ("1", None)]),
    ],
)
def test_versions_of_one_package_are_paired(old: Any, new: Any, expected: Any) -> None:
    found = [
        (one.old and one.old["version"], one.new and one.new["version"]) for one in _pairs("name.noarch", old, new)
    ]
    assert found == expected


def test_names_that_change_their_inode_are_told(tmp_path: Path) -> None:
    """a=b, c=d becomes a=c, b=d: every attribute of every path stays, and the link counts, too."""
    old = build_ext(tmp_path / "old.img", {"a": b"same", "c": b"same"}, size_mib=8)
    debugfs(old, "ln /a /b", "sif /a links_count 2", "ln /c /d", "sif /c links_count 2")
    new = tmp_path / "new.img"
    new.write_bytes(old.read_bytes())
    debugfs(new, "unlink /b", "unlink /c", "ln /a /c", "ln /d /b")
    before, after = (ExtImage.open(BytesView(image.read_bytes(), image.name)) for image in (old, new))
    visitor = _Visitor(before, after)
    found = visitor.differences(visit_all(before, after, visitor.visit))
    links = {
        one.name: (one.old and one.old["hard_link"]["first"], one.new and one.new["hard_link"]["first"])
        for one in found
        if "hard_link" in one.differs
    }
    assert links == {"/b": ("/a", "/b"), "/c": ("/c", "/a"), "/d": ("/c", "/b")}


def test_more_names_than_were_met_are_looked_for(tmp_path: Path) -> None:
    image = build_ext(tmp_path / "root.img", {"a": b"x", "dir/": b""}, size_mib=8)
    debugfs(image, "ln /a /dir/b", "sif /a links_count 2")
    root = ExtImage.open(BytesView(image.read_bytes(), "root"))
    visitor = _Visitor(root, root)
    visitor.visit("/a", root.lookup("/a"), root.lookup("/a"))
    assert visitor._links(0) == {"/a": {"hard_link": {"first": "/a", "names": 2}}}


@pytest.fixture(scope="module")
def initrd(plain: bytes) -> bytes:
    return gzip.compress(plain, mtime=0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, initrd: bytes) -> Path:
    return build_classic_iso(tmp_path_factory.mktemp("small"), {"isolinux/initrd0.img": initrd})


def test_lines_of_the_boot_configuration_and_members_of_the_initrd(
    small: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = archive(tmp_path / "tree", {**FILES, "init": b"#!/bin/bash\n", "new": b"new"})
    with small.open("rb") as file:
        iso = IsoImage.open(FileView(file.fileno(), str(small)))
        configuration = iso.read("/isolinux/isolinux.cfg").decode()
    lines = configuration.splitlines()
    changed = "\n".join([*lines[:-1], "append debug", ""])
    files = {"isolinux/initrd0.img": gzip.compress(other, mtime=0), "isolinux/isolinux.cfg": changed}
    found = diff(small, build_classic_iso(tmp_path / "b", files))
    boot = {one.name: one for one in found.section("boot").differences}
    assert boot["/isolinux/isolinux.cfg"].detail["lines"] == [f"-{lines[-1]}", "+append debug"]
    members = found.section("initrds").differences[0].detail["members"]
    assert {one["name"]: one["change"] for one in members} == {"init": "changed", "new": "added"}
    assert "link" not in {one["name"] for one in members}


def test_an_initrd_that_cannot_be_read_is_compared_by_its_digest(small: Path, tmp_path: Path) -> None:
    found = diff(small, build_classic_iso(tmp_path, {"isolinux/initrd0.img": b"something else"}))
    one = found.section("initrds").differences[0]
    assert "sha256" in one.differs
    assert "neither" in one.detail["members_not_compared"]


def test_structure_that_differs_is_told_by_its_field(small: Path, tmp_path: Path) -> None:
    data = bytearray(small.read_bytes())
    data[16 * B + 318 : 16 * B + 324] = b"VENDOR"
    data[440:444] = b"\1\2\3\4"
    (tmp_path / "b.iso").write_bytes(data)
    found = diff(small, tmp_path / "b.iso")
    told = {one.name: one for one in found.section("structure").differences}
    assert set(told) == {"descriptor.0.publisher", "system_area.disk_id"}
    assert told["system_area.disk_id"].new == {"value": "04030201"}


def test_files_that_overlap_are_not_read_for_ever(small: Path, tmp_path: Path) -> None:
    data = bytearray(small.read_bytes())
    for number, record in enumerate(one for one in rawiso.records(data, False) if not one.is_directory):
        start, size = 20 + number, len(data) - (20 + number) * B
        for at, value in ((2, start), (10, size)):
            data[record.offset + at : record.offset + at + 4] = value.to_bytes(4, "little")
            data[record.offset + at + 4 : record.offset + at + 8] = value.to_bytes(4, "big")
    (tmp_path / "b.iso").write_bytes(data)
    with pytest.raises(MalformedError, match="overlap"):
        diff(small, tmp_path / "b.iso")


def test_every_byte_of_an_iso_has_a_place(small: Path) -> None:
    data = small.read_bytes()
    iso = IsoImage.open(BytesView(data, "small.iso"))
    assert str(place_of(iso, 100)) == "master boot record, byte 100"
    assert place_of(iso, 16 * B + 7).structure == "volume descriptor (primary descriptor)"
    for record in rawiso.records(data, False):
        if record.size and not record.is_directory:
            found = place_of(iso, record.extent * B + record.size - 1)
            # Deep directories are recorded elsewhere than they belong, so the last part of the path is compared.
            twins = {one.path for one in rawiso.records(data, False) if one.extent == record.extent}
            assert Path(str(found.path)).name in {Path(twin).name for twin in twins}
            assert found.offset == record.size - 1
    assert iso.catalog is not None
    assert {place_of(iso, at).structure for at in range(0, len(data), B)} >= {
        "file", "master boot record", "path table (Joliet)", "directory (Joliet)", "backup GPT",
    }  # fmt: skip


def test_the_first_difference_outside_of_holes() -> None:
    a, b = bytes(5000), bytearray(5000)
    b[100] = b[3000] = 1
    views = BytesView(a, "a"), BytesView(bytes(b), "b")
    assert first_difference(*views, [], SILENT) == 100
    assert first_difference(*views, [(90, 20)], SILENT) == 3000
    assert first_difference(*views, [(3000, 1), (100, 1)], SILENT) is None
    assert first_difference(views[0], BytesView(a[:-1], "short"), [], SILENT) == 4999


def test_what_is_on_one_side_only_differs_in_nothing() -> None:
    assert Difference("x", None, {"size": 1}).differs == ()
    assert Difference("x", {"size": 1}, {"size": 1, "mode": 2}).differs == ("mode",)
