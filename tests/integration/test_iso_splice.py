"""Splicing held against independent programs, and against a raw rebuild that shares no code with the splicer."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Dict, Mapping, Optional

import pycdlib
import pytest

from respin.byteview import BytesView, FileView
from respin.errors import MalformedError, UnsupportedError, UsageError
from respin.formats.iso9660 import IsoImage, NewFile, Place, Source, SplicePlan, plan_splice
from respin.process import run
from respin.segments import Zeros
from tests.support import iso, layouts, rawiso
from tests.support.splicing import splice, with_media_check, write_segments

PAYLOAD = "/LiveOS/squashfs.img"
EMPTY: Mapping[str, bytes] = {}


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return iso.build_classic_iso(tmp_path_factory.mktemp("classic"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """isohybrid without GPT."""
    return iso.build_classic_iso(tmp_path_factory.mktemp("plain"), uefi=False)


@pytest.fixture(scope="module")
def by_xorriso(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The xorriso equivalent, whose backup GPT lies inside the volume; kernel and initrd have second names."""
    directory = tmp_path_factory.mktemp("xorriso")
    tree = iso.make_tree(directory)
    (tree / "images").mkdir()
    os.link(tree / "isolinux/vmlinuz0", tree / "images/vmlinuz")
    hybrid = ["-isohybrid-mbr", str(iso.HYBRID_MBR), "-isohybrid-gpt-basdat"]
    return iso.xorrisofs(tree, directory / "x.iso", "--hardlinks", *hybrid)


@pytest.fixture(scope="module")
def full_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root directories that have no room for more, and a name so long that it needs a continuation area."""
    files: Dict[str, iso.Content] = {f"file-with-a-long-name-{i:02}.txt": f"{i}\n" for i in range(30)}
    files["n" * 200] = "long\n"
    return iso.build_classic_iso(tmp_path_factory.mktemp("full"), files)


def write(path: Path, plan: Optional[SplicePlan], data: bytes) -> Path:
    """Write an image, with its media check renewed if the plan has a field for one."""
    path.write_bytes(data if plan is None else with_media_check(plan, data))
    return path


def output(*argv: str) -> str:
    done = run(argv, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def tree_by_bsdtar(path: Path, directory: Path) -> Dict[str, bytes]:
    directory.mkdir()
    run(["bsdtar", "-xf", str(path), "-C", str(directory)])
    return {
        str(p.relative_to(directory)): p.read_bytes()
        for p in directory.rglob("*")
        if p.is_file() and not p.is_symlink()
    }


NEW = [
    ("/respin.json", b'{"a": "statement"}' * 500, Place.END),
    ("/respin.sig", b"s" * 20_000, Place.UNCHECKED),
    ("/plugins.tar", b"p" * 5_000, Place.BESIDE),
]


@pytest.mark.parametrize("size", [1_000_001, 3_000_001, 3_000_002, 6_543_210])
@pytest.mark.parametrize("which", ["classic", "plain", "by_xorriso"])
def test_replacing_gives_the_bytes_of_a_raw_rebuild(which: str, size: int, request: pytest.FixtureRequest) -> None:
    base = request.getfixturevalue(which).read_bytes()
    new = iso.noise("new payload", size)
    plan, out = splice(base, {PAYLOAD: new})
    old = next(r for r in rawiso.records(base, False) if r.path == PAYLOAD)
    assert (plan.size - len(base)) % (1 << 20) == 0
    expected = rawiso.relocate(base, old.extent, old.size, new, (plan.size - len(base)) // 2048)
    assert len(out) == len(expected) == plan.size
    assert rawiso.differing(out, expected) == {}


@pytest.mark.parametrize("which", ["classic", "plain"])
@pytest.mark.parametrize("size", [700_000, 5_000_000])
def test_every_byte_is_copied_patched_new_or_zero(which: str, size: int, request: pytest.FixtureRequest) -> None:
    base = request.getfixturevalue(which).read_bytes()
    new = iso.noise("new payload", size)
    plan, out = splice(base, {PAYLOAD: new}, NEW)
    content = {PAYLOAD: new, **{name: data for name, data, _ in NEW}}
    position = 0
    copied = 0
    for piece in plan.origins:
        assert piece.offset == position
        position += piece.length
        bytes_out = out[piece.offset : position]
        if piece.source is Source.BASE:
            assert piece.base_offset is not None
            assert bytes_out == base[piece.base_offset : piece.base_offset + piece.length]
            copied += piece.length
        elif piece.source is Source.FILE:
            assert piece.name is not None
            assert bytes_out == content[piece.name]
        elif piece.source is Source.ZEROS:
            assert not any(bytes_out)
        else:
            assert piece.source is Source.PATCH
    assert position == len(out) == plan.size
    # what is neither copied, content nor padding is small: the patched records and two root directories
    patched = sum(len(patch.data) for patch in plan.patches)
    assert patched < 8192
    assert copied == len(base) - 2048 * -(-3_000_001 // 2048) - sum(
        p.length for p in plan.origins if p.source is Source.PATCH and p.base_offset is not None
    )


@pytest.mark.parametrize("size", [700_000, 5_000_000])
def test_records_differ_exactly_as_requested(classic: Path, size: int) -> None:
    base = classic.read_bytes()
    plan, out = splice(base, {PAYLOAD: iso.noise("new", size)}, NEW)
    names = {name for name, _, _ in NEW}
    for joliet in (False, True):
        before = {(r.path, r.identifier): r for r in rawiso.records(base, joliet)}
        after = {(r.path, r.identifier): r for r in rawiso.records(out, joliet)}
        assert {path for path, _ in set(after) - set(before)} == names
        assert not set(before) - set(after)
        for key, old in before.items():
            new = after[key]
            assert new.raw[:2] == old.raw[:2]
            assert new.raw[18 : 33 + len(old.identifier)] == old.raw[18 : 33 + len(old.identifier)]
            assert new.size == (size if key[0] == PAYLOAD else old.size)
            if not old.is_directory and old.size and key[0] != PAYLOAD:
                assert (
                    out[new.extent * 2048 : new.extent * 2048 + new.size][:8]
                    == base[old.extent * 2048 :][: min(8, old.size)]
                )
            for (signature, _, one), (_, _, other) in zip(old.entries, new.entries):
                if signature in (b"CE", b"CL", b"PL"):
                    assert one[:4] + one[12:] == other[:4] + other[12:]
                else:
                    assert one == other
        for name, data, _ in NEW:
            record = next(r for r in after.values() if r.path == name)
            assert out[record.extent * 2048 : record.extent * 2048 + record.size] == data
            assert plan.files[name] == (record.extent * 2048, len(data))
    rock_ridge = {r.path: r for r in rawiso.records(out, False)}
    sibling, added = rock_ridge["/README.txt"], rock_ridge["/respin.json"]
    entries = {signature: entry for signature, _, entry in added.entries}
    siblings = {signature: entry for signature, _, entry in sibling.entries}
    assert added.raw[18:25] == sibling.raw[18:25]
    assert entries[b"TF"] == siblings[b"TF"]
    assert entries[b"RR"][4] == 0x89  # PX, NM and TF are recorded
    assert rawiso.le(entries[b"PX"], 4) == 0o100444
    assert rawiso.le(entries[b"PX"], 12) == 1
    assert entries[b"PX"][20:36] == siblings[b"PX"][20:36]
    roots = [r for r in rawiso.records(out, False) if r.path.count("/") == 1 and r.identifier not in (b"\0", b"\1")]
    assert [r.identifier for r in roots] == sorted(r.identifier for r in roots)
    assert rock_ridge["/respin.json"].identifier == b"RESPIN.JSO;1"


def test_independent_programs_read_the_output(classic: Path, tmp_path: Path) -> None:
    new = iso.noise("new payload", 4_200_000)
    plan, data = splice(classic.read_bytes(), {PAYLOAD: new}, NEW)
    path = write(tmp_path / "out.iso", plan, data)
    before = tree_by_bsdtar(classic, tmp_path / "before")
    after = tree_by_bsdtar(path, tmp_path / "after")
    assert after == {
        **before,
        PAYLOAD[1:]: new,
        **{name[1:]: content for name, content, _ in NEW},
        "isolinux/isolinux.bin": after["isolinux/isolinux.bin"],  # its boot information table names its new place
    }
    one, other = before["isolinux/isolinux.bin"], after["isolinux/isolinux.bin"]
    assert one[:12] + one[16:] == other[:12] + other[16:]

    assert "PASS" in output("checkisomd5", str(path))
    for option in ("-R", "-J"):
        listing = output("isoinfo", option, "-f", "-i", str(path)).splitlines()
        assert {"/respin.json", "/respin.sig", "/plugins.tar", PAYLOAD} <= set(listing)
    report = output(
        "xorriso",
        "-indev",
        str(path),
        "-report_el_torito",
        "plain",
        "-report_system_area",
        "plain",
        "-find",
        "/",
        "-type",
        "f",
    )
    assert re.search(r"El Torito img path : +1 +/isolinux/isolinux.bin", report)
    assert re.search(r"El Torito img opts : +1 +boot-info-table isohybrid-suitable", report)
    assert re.search(r"El Torito img path : +2 +/isolinux/efiboot.img", report)
    assert re.search(r"MBR partition path : +2 +/isolinux/efiboot.img", report)
    assert re.search(r"GPT partition path : +2 +/isolinux/efiboot.img", report)
    assert "MBR isohybrid cyl-align-on GPT" in report
    assert f"'{PAYLOAD}'" in report
    assert "'/docs/2/3/4/5/6/7/8/9/deep.txt'" in report
    size = path.stat().st_size // 512
    assert re.search(rf"GPT lba range +: +34 +{size - 34} +{size - 1}", report)
    assert re.search(rf"MBR partition +: +1 +0x80 +0x00 +0 +{size}", report)
    for word in ("corrupt", "CRC", "damaged"):
        assert word not in output("sgdisk", "-v", str(path))
    assert output("sgdisk", "-v", str(path)).count("Problem") == output("sgdisk", "-v", str(classic)).count("Problem")
    other_reader = pycdlib.PyCdlib()
    other_reader.open(str(path))
    found = {
        f"{directory.rstrip('/')}/{name}" for directory, _, names in other_reader.walk(rr_path="/") for name in names
    }
    joliet = {
        f"{directory.rstrip('/')}/{name}"
        for directory, _, names in other_reader.walk(joliet_path="/")
        for name in names
    }
    other_reader.close()
    assert {f"/{name}" for name in after} <= found
    assert {f"/{name}" for name in after} <= joliet
    with pytest.raises(AssertionError):  # the oracle can fail: a vendor's sum doesn't fit the output
        assert "PASS" in output("checkisomd5", str(write(tmp_path / "stale.iso", None, data)))


def test_xorriso_made_image(by_xorriso: Path, tmp_path: Path) -> None:
    base = by_xorriso.read_bytes()
    new = iso.noise("kernel", 200_000)
    plan, data = splice(base, {"/isolinux/vmlinuz0": new}, NEW)
    path = write(tmp_path / "out.iso", plan, data)
    after = tree_by_bsdtar(path, tmp_path / "after")
    assert after["images/vmlinuz"] == after["isolinux/vmlinuz0"] == new
    assert after["respin.sig"] == NEW[1][1]
    serials = [
        rawiso.le(entry, 36)
        for record in rawiso.records(data, False)
        for signature, _, entry in record.entries
        if signature == b"PX" and record.path.startswith(("/respin", "/plugins", "/README"))
    ]
    assert len(set(serials)) == 4
    problems = output("sgdisk", "-v", str(path))
    assert "corrupt" not in problems
    assert "CRC" not in problems
    run(["implantisomd5", "--force", str(path)])
    assert "PASS" in output("checkisomd5", str(path))
    report = output("xorriso", "-indev", str(path), "-report_system_area", "plain")
    assert re.search(r"GPT partition path : +2 +/isolinux/efiboot.img", report)


def test_signature_slot_lies_where_the_media_check_does_not_look(classic: Path, tmp_path: Path) -> None:
    plan, data = splice(classic.read_bytes(), {PAYLOAD: b"x" * 10}, NEW)
    offset, size = plan.files["/respin.sig"]
    assert offset >= (plan.volume_space_size - 15) * 2048
    assert offset + size <= (plan.volume_space_size - 1) * 2048
    end, length = plan.files["/respin.json"]
    assert end + length <= (plan.volume_space_size - 15) * 2048
    path = write(tmp_path / "out.iso", plan, data)
    assert "PASS" in output("checkisomd5", str(path))
    signed = bytearray(path.read_bytes())
    signed[offset : offset + size] = iso.noise("signature", size)
    path.write_bytes(signed)
    assert "PASS" in output("checkisomd5", str(path))
    signed[end] ^= 1
    path.write_bytes(signed)
    assert "FAIL" in output("checkisomd5", str(path))


def test_a_new_file_does_not_take_over_the_length_of_a_siblings_damaged_entry(by_xorriso: Path) -> None:
    """It would swallow those behind it, the new file's name among them."""
    base = bytearray(by_xorriso.read_bytes())
    for record in rawiso.records(base, False):
        if not record.path.startswith("/isolinux/") or record.is_directory:
            continue
        end = max(place + len(raw) for _, place, raw in record.entries if place < record.offset + len(record.raw))
        for found, place, _ in record.entries:
            if found == b"PX":
                base[place + 2] = end - place
    _, out = splice(bytes(base), {}, [("/isolinux/added.txt", b"new\n", Place.BESIDE)])
    assert "/isolinux/added.txt" in {record.path for record in rawiso.records(out, False)}


def test_all_names_of_an_extent_are_replaced_together(tmp_path: Path) -> None:
    tree = iso.make_tree(tmp_path)
    (tree / "images").mkdir()
    os.link(tree / "isolinux/initrd0.img", tree / "images/initrd.img")
    path = iso.genisoimage(tree, tmp_path / "v.iso", "-cache-inodes")
    run(["isohybrid", "--uefi", str(path)])
    new = iso.noise("initrd", 150_000)
    plan, data = splice(path.read_bytes(), {"/images/initrd.img": new})
    after = tree_by_bsdtar(write(tmp_path / "out.iso", plan, data), tmp_path / "after")
    assert after["images/initrd.img"] == after["isolinux/initrd0.img"] == new
    with pytest.raises(UsageError, match="another name"):
        splice(path.read_bytes(), {"/images/initrd.img": new, "/isolinux/initrd0.img": new})


def test_several_files_and_the_efi_image(classic: Path, tmp_path: Path) -> None:
    new = {
        PAYLOAD: iso.noise("payload 2", 2_000_000),
        "/isolinux/initrd0.img": iso.noise("initrd 2", 400_000),
        "/isolinux/efiboot.img": iso.noise("efi 2", 131_072),
        "/isolinux/isolinux.cfg": b"default other\n",
        "/EFI/BOOT/grub.cfg": b"",
    }
    plan, data = splice(classic.read_bytes(), new, NEW)
    path = write(tmp_path / "out.iso", plan, data)
    after = tree_by_bsdtar(path, tmp_path / "after")
    assert {f"/{name}": after[name] for name in after if f"/{name}" in new} == new
    report = output("xorriso", "-indev", str(path), "-report_el_torito", "plain", "-report_system_area", "plain")
    assert re.search(r"El Torito boot img : +2 +UEFI +y +none +0x0000 +0x00 +256 ", report)
    assert re.search(r"MBR partition path : +2 +/isolinux/efiboot.img", report)
    assert re.search(r"MBR partition +: +2 +0x00 +0xef +\d+ +256\b", report)
    assert re.search(r"GPT start and size : +2 +\d+ +256\b", report)
    assert "PASS" in output("checkisomd5", str(path))


def test_a_full_root_directory_grows(full_root: Path, tmp_path: Path) -> None:
    base = full_root.read_bytes()
    many = [(f"/added-{i:02}.json", f"new {i}".encode(), Place.BESIDE) for i in range(24)]
    plan, data = splice(base, {PAYLOAD: iso.noise("p", 3_100_000)}, many + NEW[:2])
    assert rawiso.records(data, False)[0].extent == rawiso.records(base, False)[0].extent
    assert rawiso.records(data, False)[0].size > rawiso.records(base, False)[0].size
    assert rawiso.records(data, True)[0].size > rawiso.records(base, True)[0].size
    out = write(tmp_path / "out.iso", plan, data)
    after = tree_by_bsdtar(out, tmp_path / "after")
    assert all(after[name[1:]] == content for name, content, _ in many)
    assert after["docs/2/3/4/5/6/7/8/9/deep.txt"] == b"deep\n"
    for joliet in (False, True):
        listed = rawiso.records(data, joliet)
        root, size = listed[0].extent, listed[0].size
        assert all(
            (r.extent, r.size) == (root, size) for r in listed if r.path.count("/") == 2 and r.path.endswith("/..")
        )
    listing = output("isoinfo", "-J", "-f", "-i", str(out)).splitlines()
    assert {name for name, _, _ in many} <= set(listing)
    assert "PASS" in output("checkisomd5", str(out))
    listing = output("xorriso", "-indev", str(out), "-find", "/", "-name", "added-*").splitlines()
    assert sum("added-" in line for line in listing) == 24


def test_growing_roots_give_the_bytes_of_a_raw_rebuild(full_root: Path) -> None:
    """Directories, path tables, CE, CL and PL move too; all but the two root directories is rebuilt independently."""
    base = full_root.read_bytes()
    new = iso.noise("p", 3_100_000)
    many = [(f"/added-{i:02}.json", f"new {i}".encode(), Place.BESIDE) for i in range(24)]
    plan, out = splice(base, {PAYLOAD: new}, many)
    payload = next(r for r in rawiso.records(base, False) if r.path == PAYLOAD)
    roots = [(joliet, rawiso.records(base, joliet)[0], rawiso.records(out, joliet)[0]) for joliet in (True, False)]
    growth = [(one.size - old.size) // 2048 for _, old, one in roots]
    growth = [blocks + blocks % 2 for blocks in growth]
    assert all(growth)
    total = (plan.size - len(base)) // 2048
    expected = rawiso.relocate(base, payload.extent, payload.size, new, total - sum(growth))
    for (_, old, _), blocks in zip(roots, growth):  # the last one first: the numbers of the other stay
        expected = rawiso.relocate(expected, old.extent + old.size // 2048, 0, b"", blocks)
    rebuilt, written = bytearray(expected), bytearray(out)
    for joliet, _, one in roots:
        for at, kind in rawiso.volumes(expected):
            if kind == joliet:
                rebuilt[at + 166 : at + 174] = one.raw[10:18]
        for record in rawiso.records(expected, joliet):
            if record.extent == one.extent:
                rebuilt[record.offset + 10 : record.offset + 18] = one.raw[10:18]
    for _, _, one in roots:
        for image in (rebuilt, written):
            image[one.extent * 2048 : one.extent * 2048 + one.size] = bytes(one.size)
    for name, content, _ in many:
        offset, size = plan.files[name]
        assert written[offset : offset + size] == content
        written[offset : offset + size] = bytes(size)
    assert rawiso.differing(bytes(written), bytes(rebuilt)) == {}


def test_the_plan_is_deterministic_and_the_base_untouched(classic: Path) -> None:
    base = classic.read_bytes()
    with classic.open("rb") as file:
        image = IsoImage.open(FileView(file.fileno(), "one"))
        plans = [plan_splice(image, {PAYLOAD: 5_000_000}, [NewFile("/a", 3)]) for _ in range(2)]
    assert plans[0].pieces == plans[1].pieces
    assert plans[0].patches == plans[1].patches
    assert splice(base, {PAYLOAD: b"x"}, NEW)[1] == splice(base, {PAYLOAD: b"x"}, NEW)[1]
    assert classic.read_bytes() == base


def test_nothing_asked_nothing_changed(classic: Path) -> None:
    base = classic.read_bytes()
    plan, out = splice(base, EMPTY)
    assert out == base
    assert not plan.patches


@pytest.mark.parametrize("layout", sorted(iso.FOREIGN))
def test_foreign_layouts_are_described_and_refused(layout: str, tmp_path: Path) -> None:
    path = iso.build_foreign_iso(tmp_path, layout)
    with path.open("rb") as file:
        image = IsoImage.open(FileView(file.fileno(), path.name))
        assert image.describe()["files"] >= 12
        assert image.read("/README.txt") == b"a file in the root directory\n"
        with pytest.raises(UnsupportedError, match=iso.FOREIGN[layout][1]) as caught:
            plan_splice(image, {PAYLOAD: 1}, [])
    assert caught.value.exit_code == 7


@pytest.fixture
def in_two_extents(tmp_path: Path) -> bytes:
    """An image with a small file that lies in two extents."""
    one, two = iso.noise("one", 4096), iso.noise("two", 5000)
    path = iso.build_classic_iso(tmp_path, {"zoo/part.a": one, "zoo/part.b": two}, joliet=False)
    base = bytearray(path.read_bytes())
    first = next(r for r in rawiso.records(base, False) if r.path == "/zoo/part.a")
    second = next(r for r in rawiso.records(base, False) if r.path == "/zoo/part.b")
    assert second.extent == first.extent + 2
    base[first.offset + 25] |= 0x80  # more extents follow; only the name of the second record is left to change
    renamed = second.raw.replace(b"PART.B", b"PART.A").replace(b"part.b", b"part.a")
    base[second.offset : second.offset + len(renamed)] = renamed
    image = IsoImage.open(BytesView(bytes(base), "multi.iso"))
    assert image.read("/zoo/part.a") == one + two
    return bytes(base)


def test_a_file_of_several_extents_moves(in_two_extents: bytes) -> None:
    out = splice(in_two_extents, {PAYLOAD: b"x" * 5_000_000})[1]
    before, after = (IsoImage.open(BytesView(data, "multi.iso")) for data in (in_two_extents, out))
    assert after.read("/zoo/part.a") == before.read("/zoo/part.a")
    assert len(after.file("/zoo/part.a").extents) == 2


@pytest.mark.parametrize("size", [3, 9_096, 100_000])
def test_a_file_of_several_extents_becomes_one(in_two_extents: bytes, size: int, tmp_path: Path) -> None:
    new = iso.noise("new", size)
    path = tmp_path / "out.iso"
    path.write_bytes(splice(in_two_extents, {"/zoo/part.a": new}, NEW)[1])
    assert tree_by_bsdtar(path, tmp_path / "after")["zoo/part.a"] == new
    records = [r for r in rawiso.records(path.read_bytes(), False) if r.path == "/zoo/part.a"]
    assert [(record.size, record.raw[25]) for record in records] == [(size, 0)]
    assert output("isoinfo", "-i", str(path), "-R", "-x", "/zoo/part.a") == new.decode("utf-8", "replace")


def test_more_than_4_gib_go_into_several_extents_and_back(tmp_path: Path) -> None:
    """Written as a sparse file, so that this takes no time; listed by programs that read records themselves."""
    tree = layouts.make_tree(tmp_path)
    base = tmp_path / "base.iso"
    layouts.LAYOUTS["lorax-10"](tree, base, "LARGE")
    large = (1 << 32) + 123_456_789
    sizes = {PAYLOAD: large, "/images/huge.img": (1 << 32) - 1, "/images/huger.img": 2 * large}
    out = tmp_path / "out.iso"
    _splice_sparsely(base, out, {PAYLOAD: large}, {name: sizes[name] for name in list(sizes)[1:]})
    listing = output("bsdtar", "-tvf", str(out))
    for name, size in sizes.items():
        assert re.search(rf" {size} .* {name[1:]}$", listing, re.M), name
        assert re.search(rf" {size} .*'{name}'$", output("xorriso", "-indev", str(out), "-lsl", name, "--"), re.M)
        assert re.search(rf" {size} .* {name[1:]}$", output("7z", "l", str(out)), re.M)
    again = tmp_path / "again.iso"
    _splice_sparsely(out, again, {PAYLOAD: 3_000_001, "/images/huge.img": 5, "/images/huger.img": large + 1}, {})
    listing = output("bsdtar", "-tvf", str(again))
    for name, size in {PAYLOAD: 3_000_001, "/images/huge.img": 5, "/images/huger.img": large + 1}.items():
        assert re.search(rf" {size} .* {name[1:]}$", listing, re.M), name
    assert "No problems found" in output("sgdisk", "-v", str(again))
    with out.open("rb") as file:
        image = IsoImage.open(FileView(file.fileno(), "out"))
    assert [extent.size for extent in image.file(PAYLOAD).extents] == [0xFFFFF800, large - 0xFFFFF800]
    assert [len(image.file(name).records) for name in sizes] == [2, 1, 3]


def _splice_sparsely(base: Path, out: Path, replace: Mapping[str, int], add: Mapping[str, int]) -> None:
    with base.open("rb") as file, out.open("wb") as new:
        image = IsoImage.open(FileView(file.fileno(), base.name))
        plan = plan_splice(image, replace, [NewFile(name, size) for name, size in add.items()])
        content = {name: [Zeros(size)] for name, size in {**replace, **add}.items()}
        write_segments(plan.segments(content), file.fileno(), new.fileno())


def test_a_truncated_image_is_refused(classic: Path) -> None:
    base = classic.read_bytes()
    with pytest.raises(MalformedError) as caught:
        splice(base[: rawiso.pvd_space(base) * 2048 - 1], {PAYLOAD: b"x"})
    assert caught.value.exit_code == 3
    with pytest.raises(UnsupportedError, match="backup of the GUID"):
        splice(base[:-512], {PAYLOAD: b"x"})
