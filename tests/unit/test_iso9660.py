"""Reading ISO 9660: numbers, dates, records, system use entries, boot catalogue, partition tables, limits."""

from __future__ import annotations

import calendar
import json
import math
import struct
import zlib
from pathlib import Path
from typing import Callable, Dict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.errors import MalformedError, RespinError, UnsupportedError, UsageError
from respin.formats.iso9660 import IsoImage, NewFile, Place, plan_splice
from respin.formats.iso9660.fields import both32, epoch, to_both32
from respin.formats.iso9660.mbr import ISOHYBRID_GEOMETRY, chs
from respin.formats.iso9660.susp import read_entries
from respin.process import run
from respin.segments import Data, Zeros, total
from tests.support import iso, rawiso, splicing

B = 2048


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A classic image with a small payload."""
    return iso.build_classic_iso(tmp_path_factory.mktemp("iso"), {iso.PAYLOAD: iso.noise("small", 50_000)}).read_bytes()


def opened(data: bytes) -> IsoImage:
    return IsoImage.open(BytesView(data, "test.iso"))


def record(data: bytes, path: str, joliet: bool = False) -> rawiso.Raw:
    return next(r for r in rawiso.records(data, joliet) if r.path == path)


def poke(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


# --- numbers and dates


@given(st.integers(0, 0xFFFFFFFF))
def test_numbers_in_both_orders(value: int) -> None:
    assert both32(b"xx" + to_both32(value), 2, "here") == value


def test_numbers_that_disagree() -> None:
    with pytest.raises(MalformedError, match="1 and 2"):
        both32(struct.pack("<L", 1) + struct.pack(">L", 2), 0, "here")


@pytest.mark.parametrize(
    ("text", "offset", "expected"),
    [
        ("2014061012345699", 0, calendar.timegm((2014, 6, 10, 12, 34, 56))),
        ("2014061012345600", 4, calendar.timegm((2014, 6, 10, 11, 34, 56))),
        ("2014061012345600", -28, calendar.timegm((2014, 6, 10, 19, 34, 56))),
        ("1970010100000000", 0, 0),
        ("0000000000000000", 0, None),
        ("2014023012345600", 0, None),
        ("2014063112345600", 0, None),
        ("2014061099345600", 0, None),
        ("2014061012345600", 57, None),
        ("2014 61012345600", 0, None),
        ("0000010100000001", 0, None),
    ],
)
def test_volume_dates(text: str, offset: int, expected: "int | None") -> None:
    assert epoch(text.encode() + struct.pack("b", offset)) == expected


@given(st.binary(min_size=0, max_size=20))
def test_any_bytes_as_a_date(data: bytes) -> None:
    assert isinstance(epoch(data), (int, type(None)))


# --- a whole image, against isoinfo and xorriso


def test_paths_are_xorriso_s_and_contents_isoinfo_s(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "small.iso"
    path.write_bytes(small)
    image = opened(small)
    found = run(["xorriso", "-indev", str(path), "-find", "/"]).stdout.decode().splitlines()
    listed = {line.strip("'") for line in found if line.startswith("'/")}
    assert set(image.files) | set(image.listing.symlinks) | set(image.listing.directories) == listed - {""}
    for name in image.files:
        if "/docs/2/" not in name:  # isoinfo knows relocated directories only by the place where they are recorded
            assert image.read(name) == run(["isoinfo", "-R", "-i", str(path), "-x", name]).stdout
    assert image.read("/docs/2/3/4/5/6/7/8/9/deep.txt") == b"deep\n"
    assert image.listing.symlinks == {"/docs/link": "../LiveOS/squashfs.img"}
    assert image.files["/docs/empty"].lba is None


def test_facts(small: bytes) -> None:
    image = opened(small)
    assert image.volume_id == iso.VOLUME_ID
    assert image.volume_space_size == rawiso.pvd_space(small)
    assert image.application_use == small[image.application_use_offset :][:512]
    assert image.application_use.startswith(b"ISO MD5SUM = ")
    assert image.created is not None
    assert [(e.platform_name, e.path, e.boot_info) for e in image.boot] == [
        ("BIOS", "/isolinux/isolinux.bin", True),
        ("UEFI", "/isolinux/efiboot.img", False),
    ]
    summary = json.loads(json.dumps(image.describe()))
    assert summary["trees"] == ["ISO 9660 with Rock Ridge", "Joliet"]
    assert summary["system_area"]["boot_code"] == "isolinux"
    assert summary["system_area"]["gpt_valid"] is True
    assert summary["system_area"]["mbr"][1]["type"] == 0xEF
    assert summary["files"] == 13


def test_the_creation_date_is_xorriso_s(tmp_path: Path) -> None:
    tree = iso.make_tree(tmp_path)
    path = iso.xorrisofs(tree, tmp_path / "x.iso", "--modification-date=2014061012345600")
    assert opened(path.read_bytes()).created == calendar.timegm((2014, 6, 10, 12, 34, 56))


def test_without_rock_ridge_the_names_are_joliet_s(tmp_path: Path) -> None:
    tree = iso.make_tree(tmp_path)
    path = tmp_path / "joliet.iso"
    run(["genisoimage", "-quiet", "-J", "-D", "-V", "X", "-o", str(path), str(tree)])
    assert opened(path.read_bytes()).read("/isolinux/isolinux.cfg").startswith(b"default")
    run(["genisoimage", "-quiet", "-D", "-V", "X", "-o", str(path), str(tree)])
    assert opened(path.read_bytes()).read("/ISOLINUX/ISOLINUX.CFG").startswith(b"default")


def test_reading_what_is_not_there(small: bytes) -> None:
    image = opened(small)
    with pytest.raises(UsageError, match="no file"):
        image.read("/liveos/squashfs.img")
    with pytest.raises(MalformedError, match="at most 10"):
        image.read("/README.txt", 10)


# --- damage: one thing changed each time


@pytest.mark.parametrize("joliet", [False, True])
@pytest.mark.parametrize("offset", [*range(2, 18), *range(28, 32)])
def test_a_record_whose_numbers_disagree(small: bytes, offset: int, joliet: bool) -> None:
    """Extent, data length, sequence number: each byte of both orders counts."""
    found = record(small, "/README.txt", joliet)
    spoiled = poke(small, found.offset + offset, bytes((found.raw[offset] ^ 1,)))
    with pytest.raises(MalformedError, match="both byte orders differs") as caught:
        opened(spoiled)
    assert str(caught.value.where).endswith(f"directory record at byte {found.offset}")


def _loop(data: bytes) -> bytes:
    """The deepest directory becomes its own ancestor."""
    root = record(data, "/.")
    inner = record(data, "/docs/2")
    return poke(data, inner.offset + 2, to_both32(root.extent) + to_both32(root.size))


def _ce_loop(data: bytes) -> bytes:
    """The root's continuation area names itself as the next one."""
    _, at, entry = next(e for e in record(data, "/.").entries if e[0] == b"CE")
    where = rawiso.le(entry, 4) * B + rawiso.le(entry, 12)
    data = poke(data, at + 20, to_both32(28 + 237))
    return poke(data, where, entry[:20] + to_both32(28 + 237) + data[where : where + 237])


def _endian(data: bytes) -> bytes:
    return poke(data, record(data, "/README.txt").offset + 6, b"\x7f")


def _endian_joliet(data: bytes) -> bytes:
    return poke(data, record(data, "/README.txt", True).offset + 14, b"\x7f")


def _endian_ce(data: bytes) -> bytes:
    _, at, _ = next(e for e in record(data, "/.").entries if e[0] == b"CE")
    return poke(data, at + 8, b"\x7f")


def _slash(data: bytes) -> bytes:
    return data.replace(b"README.txt", b"READ/E.txt")


def _dots(data: bytes) -> bytes:
    at = data.index(b"NM\x0f\x01\x00README.txt")
    return poke(data, at, b"NM\x07\x01\x00..XX\x08\x01\x00\x00\x00\x00")


def _double(data: bytes) -> bytes:
    return data.replace(b"isolinux.cfg", b"isolinux.bin")


def _escape(data: bytes) -> bytes:
    return poke(data, record(data, "/docs").offset + 2, to_both32(1 << 24))


def _huge_directory(data: bytes) -> bytes:
    return poke(data, record(data, "/docs").offset + 10, to_both32(1 << 30))


def _record_length(data: bytes) -> bytes:
    return poke(data, record(data, "/README.txt").offset, b"\x21")


def _identifier(data: bytes) -> bytes:
    return poke(data, record(data, "/README.txt").offset + 32, b"\xf0")


def _no_terminator(data: bytes) -> bytes:
    return poke(data, 19 * B, bytes(B))


def _unknown_descriptor(data: bytes) -> bytes:
    return poke(data, 18 * B, b"\x09")


def _catalogue(data: bytes) -> bytes:
    return poke(data, rawiso.le(data, 17 * B + 71) * B + 4, b"x")


def _child_link(data: bytes) -> bytes:
    at = next(o for r in rawiso.records(data, False) for s, o, _ in r.entries if s == b"CL")
    return poke(data, at + 4, to_both32(3))


def _short_entry(data: bytes) -> bytes:
    at = next(o for s, o, _ in record(data, "/README.txt").entries if s == b"TF")
    return poke(data, at + 2, b"\x02")


def _long_entry(data: bytes) -> bytes:
    at = next(o for s, o, _ in record(data, "/README.txt").entries if s == b"TF")
    return poke(data, at + 2, b"\xff")


def _link_component(data: bytes) -> bytes:
    at = next(o for s, o, _ in record(data, "/docs/link").entries if s == b"SL")
    return poke(data, at + 6, b"\xf0")


DAMAGE: Dict[str, Callable[[bytes], bytes]] = {
    function.__name__[1:]: function
    for function in (
        _loop,
        _ce_loop,
        _endian,
        _endian_joliet,
        _endian_ce,
        _slash,
        _dots,
        _double,
        _escape,
        _huge_directory,
        _record_length,
        _identifier,
        _no_terminator,
        _unknown_descriptor,
        _catalogue,
        _child_link,
        _short_entry,
        _long_entry,
        _link_component,
    )
}


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_damage_is_malformed_with_exit_code_3(small: bytes, kind: str) -> None:
    damaged = DAMAGE[kind](small)
    assert len(damaged) == len(small)
    assert damaged != small
    with pytest.raises(MalformedError) as caught:
        opened(damaged)
    assert caught.value.exit_code == 3
    assert "test.iso" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"what a server says of its error"])
def test_what_is_left_of_a_download(data: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        opened(data)
    assert caught.value.finding == "truncated"


@pytest.mark.parametrize("data", [b"not an ISO" * 4000, bytes(100_000)])
def test_what_is_no_iso(data: bytes) -> None:
    with pytest.raises(UnsupportedError, match="not an ISO 9660 image") as caught:
        opened(data)
    assert caught.value.finding == "not-an-iso"


def test_other_block_sizes(small: bytes) -> None:
    with pytest.raises(UnsupportedError, match="512 bytes"):
        opened(poke(small, 16 * B + 128, struct.pack("<H", 512) + struct.pack(">H", 512)))


def test_system_use_entries_end_at_st_and_at_zero() -> None:
    view = BytesView(bytes(B), "x")
    entries, areas = read_entries(view, b"AA\x05\x01xST\x04\x01BB\x05\x01x", 0)
    assert [entry.signature for entry in entries] == [b"AA"]
    assert areas == ()
    assert read_entries(view, b"\0" * 7, 0) == ((), ())


# --- what may not be spliced


def _crc(data: bytes) -> bytes:
    return poke(data, 512 + 16, b"\0\0\0\0")


def _backup_crc(data: bytes) -> bytes:
    return poke(data, len(data) - 512 + 16, b"\0\0\0\0")


def _entries_crc(data: bytes) -> bytes:
    return poke(data, 1024 + 56, b"Y")


def _interleaved(data: bytes) -> bytes:
    return poke(data, record(data, "/README.txt").offset + 26, b"\1\1")


def _xattr(data: bytes) -> bytes:
    return poke(data, record(data, "/README.txt").offset + 1, b"\1")


def _other_volume(data: bytes) -> bytes:
    return poke(data, record(data, "/README.txt").offset + 28, b"\2\0\0\2")


def _volume_set(data: bytes) -> bytes:
    return poke(data, 16 * B + 120, b"\2\0\0\2")


def _overlap(data: bytes) -> bytes:
    payload = record(data, "/LiveOS/squashfs.img")
    return poke(data, record(data, "/README.txt").offset + 2, to_both32(payload.extent + 1))


def _same_start(data: bytes) -> bytes:
    payload = record(data, "/LiveOS/squashfs.img")
    return poke(data, record(data, "/README.txt").offset + 2, to_both32(payload.extent))


def _boot_code(data: bytes) -> bytes:
    return poke(data, 432, struct.pack("<Q", 7))


def _partition_inside(data: bytes) -> bytes:
    """A partition that is neither a file nor the volume, with the payload in it."""
    payload = record(data, "/LiveOS/squashfs.img").extent
    return poke(data, 446 + 16 + 8, struct.pack("<LL", (payload - 2) * 4, 400))


def _partition_end(data: bytes) -> bytes:
    return poke(data, 446 + 16 + 12, struct.pack("<L", 1 << 30))


def _unknown_header(data: bytes) -> bytes:
    """A section header of no known kind: what follows it could boot all the same."""
    return poke(data, rawiso.le(data, 17 * B + 71) * B + 64, b"\x8f")


def _no_announcement(data: bytes) -> bytes:
    """Without an SP entry of the right length Rock Ridge is not in use; Linux reads it all the same."""
    root = rawiso.records(data, False)[0]
    return poke(data, root.offset + 34 + 2, b"\x08")


def _sun(data: bytes) -> bytes:
    return poke(data, 0, bytes(1024) + b"boot block" + bytes(16 * B - 1034))


def _boot_system(data: bytes) -> bytes:
    return poke(data, 17 * B + 7, b"ANOTHER BOOT SYSTEM".ljust(32))


def _character_set(data: bytes) -> bytes:
    return poke(data, 18 * B + 88, b"%/X")


REFUSED: "dict[str, tuple[Callable[[bytes], bytes], str]]" = {
    "gpt header checksum": (_crc, "checksums"),
    "backup header checksum": (_backup_crc, "backup"),
    "gpt entries checksum": (_entries_crc, "checksums"),
    "interleaved": (_interleaved, "interleaved"),
    "extended attribute record": (_xattr, "extended attribute"),
    "file on another volume": (_other_volume, "volume 2"),
    "volume set": (_volume_set, "set of 2"),
    "overlapping extent": (_overlap, "overlaps"),
    "same start, other size": (_same_start, "overlaps"),
    "boot code": (_boot_code, "boot code"),
    "partition inside": (_partition_inside, "no volume that respin knows"),
    "partition end": (_partition_end, "behind the end"),
    "foreign system area": (_sun, "not a PC's master boot record"),
    "unknown boot section": (_unknown_header, "behind its entries"),
    "unannounced Rock Ridge": (_no_announcement, "does not announce"),
    "boot system": (_boot_system, "ANOTHER"),
    "character set": (_character_set, "character set"),
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_a_splice_would_damage_is_refused_with_exit_code_7(small: bytes, kind: str) -> None:
    change, words = REFUSED[kind]
    image = opened(change(small))  # and yet it can be read and described
    json.dumps(image.describe())
    with pytest.raises(UnsupportedError, match=words) as caught:
        plan_splice(image, {"/LiveOS/squashfs.img": 100})
    assert caught.value.exit_code == 7


def test_boot_images_and_empty_files_are_no_targets(small: bytes) -> None:
    image = opened(small)
    with pytest.raises(UnsupportedError, match="boot information table"):
        plan_splice(image, {"/isolinux/isolinux.bin": 100})
    with pytest.raises(UnsupportedError, match="catalogue"):
        plan_splice(image, {"/isolinux/boot.cat": 100})
    with pytest.raises(UnsupportedError, match="is empty"):
        plan_splice(image, {"/docs/empty": 100})
    with pytest.raises(UsageError, match="cannot be"):
        plan_splice(image, {"/README.txt": -1})


@pytest.mark.parametrize("geometry", [(64, 32), (72, 32), (150, 32), (140, 63), (255, 63)], ids=str)
def test_the_image_goes_on_ending_with_a_cylinder(small: bytes, geometry: "tuple[int, int]") -> None:
    """xorriso takes larger cylinders for images above one GiB, and says so in the address of the partition's end."""
    cylinder = geometry[0] * geometry[1]
    sectors = -(-len(small) // 512 // cylinder) * cylinder
    sectors *= 4 // math.gcd(4, sectors)
    data = small.ljust(sectors * 512, b"\0")
    data = poke(data, 512, bytes(512))
    data = poke(data, 446, b"\x80\0\1\0\0" + chs(sectors - 1, geometry) + struct.pack("<LL", 0, sectors))
    plan = plan_splice(opened(data), {"/LiveOS/squashfs.img": 2_000_000}, [NewFile("/a", 5)])
    out = splicing.joined(data, plan.segments({"/LiveOS/squashfs.img": [Zeros(2_000_000)], "/a": [Data(b"12345")]}))
    assert len(out) > len(data)
    assert len(out) % (cylinder * 512) == 0
    assert (len(out) - len(data)) % 4096 == 0
    assert struct.unpack_from("<L", out, 446 + 12) == (len(out) // 512,)
    assert out[446 + 5 : 446 + 8] == chs(len(out) // 512 - 1, geometry)
    assert out[446 + 5] == geometry[0] - 1
    assert out[446 + 6] & 63 == geometry[1]


def test_cylinders_too_large_to_grow_by_are_refused(small: bytes) -> None:
    data = small.ljust(251 * 61 * 8 * 512, b"\0")
    data = poke(data, 512, bytes(512))
    entries = b""
    for heads, per_track in ((251, 61), (241, 59)):
        sectors = heads * per_track * 8
        entries += b"\x80\0\1\0\0" + chs(sectors - 1, (heads, per_track)) + struct.pack("<LL", 0, sectors)
    with pytest.raises(UnsupportedError, match="cylinders"):
        plan_splice(opened(poke(data, 446, entries)), {"/LiveOS/squashfs.img": 10})


@pytest.mark.parametrize(
    "files",
    [
        [NewFile("/a/b", 1)],
        [NewFile("/..", 1)],
        [NewFile("/", 1)],
        [NewFile("/-rf", 1)],
        [NewFile("/ü", 1)],
        [NewFile("/a" * 65, 1)],
        [NewFile("/readme.TXT", 1)],
        [NewFile("/docs", 1)],
        [NewFile("/a", 1), NewFile("/a", 2)],
        [NewFile("/a", 1), NewFile("/A", 2)],
        [NewFile("/slot", 14 * B + 1, Place.UNCHECKED)],
        [NewFile("/one", 1, Place.UNCHECKED), NewFile("/two", 1, Place.UNCHECKED)],
    ],
)
def test_new_files_that_make_no_sense(small: bytes, files: "list[NewFile]") -> None:
    with pytest.raises(UsageError):
        plan_splice(opened(small), {}, files)


def test_the_gpt_header_is_checked_over_its_own_length(small: bytes) -> None:
    """Reserved bytes behind a header of 92 bytes don't count."""
    header = bytearray(small[512:1024])
    assert zlib.crc32(header[:16] + bytes(4) + header[20:92]) == rawiso.le(header, 16)
    header[100] = 1
    image = opened(poke(small, 512, bytes(header)))
    assert plan_splice(image, {"/LiveOS/squashfs.img": 100_000}).patches


@pytest.mark.parametrize(
    ("sector", "expected"),
    [(0, (0, 1, 0)), (31, (0, 32, 0)), (32, (1, 1, 0)), (2047, (63, 32, 0)), (2048 * 256, (0, 0x41, 0))],
)
def test_cylinder_head_sector(sector: int, expected: "tuple[int, int, int]") -> None:
    assert tuple(chs(sector, ISOHYBRID_GEOMETRY)) == expected
    assert tuple(chs(1 << 30, ISOHYBRID_GEOMETRY)) == (63, 32 | 0xC0, 0xFF)


# --- anything at all


def _try(data: bytes) -> None:
    """A correct reading or a typed error; a plan's segments always add up."""
    try:
        image = opened(data)
        json.dumps(image.describe())
        for path in image.files:
            try:
                image.read(path)
            except RespinError:
                pass
        plan = plan_splice(
            image,
            {"/LiveOS/squashfs.img": 90_000},
            [NewFile("/a.json", 5_000, Place.END), NewFile("/a.sig", 9_000, Place.UNCHECKED)],
        )
        content = {path: [Data(bytes(size))] for path, (_, size) in plan.files.items()}
        assert total(plan.segments(content)) == plan.size
    except (UsageError, MalformedError, UnsupportedError):
        pass  # exit codes 2, 3 and 7


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 64 * B), st.integers(16 * B, 19 * B), st.integers(26 * B, 64 * B)),
            st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(0, 255)),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_flipped_bytes(small: bytes, changes: "list[tuple[int, int]]") -> None:
    data = bytearray(small)
    for at, byte in changes:
        data[at] = byte
    _try(bytes(data))


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([0, 1, 16, 29, 255, 1 << 20, 1 << 31, 0xFFFFFFFF]))
def test_numbers_changed_in_both_orders(small: bytes, data: st.DataObject, value: int) -> None:
    records = rawiso.records(small, data.draw(st.booleans()))
    chosen = data.draw(st.sampled_from(records))
    places = [chosen.offset + 2, chosen.offset + 10, 16 * B + 80, 16 * B + 132, 16 * B + 158, 16 * B + 166]
    places += [at + 4 for signature, at, _ in chosen.entries if signature in (b"CE", b"CL", b"PL", b"PX")]
    places += [at + 20 for signature, at, _ in chosen.entries if signature == b"CE"]
    at = data.draw(st.sampled_from(places))
    _try(poke(small, at, to_both32(value)))


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.integers(0, 70 * B), st.integers(0, 1 << 20)))
def test_truncation(small: bytes, length: int) -> None:
    _try(small[:length])
