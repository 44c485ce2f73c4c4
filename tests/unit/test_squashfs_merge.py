"""Changing a flat squashfs: held against mksquashfs of the changed tree, as unsquashfs and the kernel read both."""

from __future__ import annotations

import os
import random
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Iterable, List, Optional, Sequence, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView, FileView
from respin.errors import MalformedError, MissingToolError, RespinError, UnsupportedError
from respin.formats.squashfs import Kind, SquashfsImage
from respin.formats.squashfs.codec import make_codec
from respin.formats.squashfs.directory import ENTRY, HEADER, read_directory, read_runs, run_headers
from respin.formats.squashfs.merge import Change, MergedSquashfs, Put, Removal, merge_changes
from respin.formats.squashfs.merge.grown import GrownTable
from respin.formats.squashfs.merge.records import Target, write_listing
from respin.formats.squashfs.metadata import BytesCursor, Table
from respin.formats.squashfs.options import GzipOptions
from respin.formats.squashfs.root import SquashfsRoot
from respin.formats.squashfs.superblock import ABSENT, NO_XATTRS
from respin.segments import Copy, Data, Zeros
from tests.support.flatroots import IS_ROOT, Maker, Root, Thing, observed, pack, request, unpack, write_root
from tests.support.images import EPOCH, KiB, mounted, write_segments

BLOCK = 4 * KiB


def opened(image: Path) -> SquashfsImage:
    try:
        return SquashfsImage.open(BytesView(image.read_bytes(), image.name))
    except MissingToolError as error:
        return pytest.skip(str(error))  # type: ignore[return-value]


def merged(image: Path, changes: Sequence[Change], output: Path) -> MergedSquashfs:
    result = merge_changes(opened(image), changes)
    write_segments(image, result.segments, output)
    assert output.stat().st_size == result.size
    return result


def check(tmp: Path, before: Root, after: Root, options: Sequence[str]) -> MergedSquashfs:
    """Merge, and compare with mksquashfs of the changed root, attribute by attribute."""
    image = pack(write_root(before, tmp / "before"), tmp / "vendor", *options)
    reference = pack(write_root(after, tmp / "after"), tmp / "reference", *options)
    changes = request(before, after)
    result = merged(image, changes, tmp / "output")

    theirs = observed(unpack(reference, tmp / "theirs"))
    ours = observed(unpack(tmp / "output", tmp / "ours"))
    assert ours == theirs

    vendor, output = image.read_bytes(), (tmp / "output").read_bytes()
    assert output[96 : result.vendor_end] == vendor[96 : result.vendor_end]
    assert struct.unpack_from("<Q", vendor, 64)[0] == result.vendor_end
    counters = result.counters
    assert counters.blocks == counters.holes + counters.kept + counters.copied + counters.compressed

    random.Random(1).shuffle(changes)
    merged(image, changes, tmp / "again")
    assert (tmp / "again").read_bytes() == output
    numbers_are_sound(tmp / "output", after, opened(image).superblock.inode_count)
    return result


def numbers_are_sound(image: Path, after: Root, vendors: int) -> None:
    """One number for each inode, link counts that are the names', and exports that lead to it."""
    root = SquashfsRoot(opened(image))
    names = {}
    for path, inode in root.walk():
        names.setdefault(inode.number, []).append(path)
        if inode.is_directory:
            below = [p for p in after if p != "/" and p.rpartition("/")[0] == path.rstrip("/")]
            assert inode.nlink == 2 + sum(1 for p in below if after[p].kind is Kind.DIRECTORY)
        else:
            assert inode.nlink == sum(1 for thing in after.values() if thing is after[path])
    assert max(names) <= root.image.superblock.inode_count == max(vendors, len(names))
    if root.image.superblock.export_table is not None:
        for number in range(1, root.image.superblock.inode_count + 1):
            wanted = root.reference(number) if number in names else ABSENT
            assert exported(root.image, number) == wanted


def exported(image: SquashfsImage, number: int) -> int:
    from respin.formats.squashfs import lookup

    superblock = image.superblock
    assert superblock.export_table is not None
    content = lookup.content(image.view, image.codec, superblock.export_table, superblock.inode_count, 8)
    return int(struct.unpack_from("<Q", content, 8 * (number - 1))[0])


@pytest.mark.parametrize("seed", range(3))
def test_every_sort_of_change(tmp_path: Path, seed: int) -> None:
    """Each action of the maker at least once, among them a change to all names of a vendor's file."""
    rng = random.Random(seed)
    maker = Maker(rng, BLOCK)
    before = maker.root(60)
    for number in range(4):
        before[f"/linked{number}"] = before[f"/linked also{number}"] = maker.thing(Kind.FILE)
    after = dict(before)
    for action in (maker.rewrite_linked, maker.restyle_linked, maker.relink, maker.unlink, maker.refill, maker.retype):
        was = dict(after)
        while after == was:
            action(after)
    check(tmp_path, before, after, OPTIONS)


@given(st.integers(0, 1 << 32), st.sampled_from([(), ("-tailends",), ("-no-fragments",), ("-no-exports", "-noI")]))
@settings(max_examples=20, deadline=None)
def test_any_change_to_any_root(seed: int, options: Sequence[str]) -> None:
    rng = random.Random(seed)
    maker = Maker(rng, BLOCK)
    before = maker.root(rng.choice((0, 5, 30)))
    after = maker.changed(before, rng.choice((1, 3, 12)))
    tmp = Path(tempfile.mkdtemp(prefix="merge"))
    try:
        check(tmp, before, after, ("-comp", "gzip", "-b", str(BLOCK), *options))
    finally:
        shutil.rmtree(tmp)


MATRIX: List[Sequence[str]] = [
    ("-comp", "gzip", "-b", "8K", "-Xcompression-level", "3", "-Xwindow-size", "12"),
    ("-comp", "gzip", "-b", "1M", "-noI", "-noD", "-noF", "-noX"),
    ("-comp", "xz", "-b", "16K", "-Xbcj", "x86,arm", "-Xdict-size", "8K"),
    ("-comp", "xz", "-b", "128K", "-tailends"),
    ("-comp", "zstd", "-b", "32K", "-Xcompression-level", "5"),
    ("-comp", "lz4", "-b", "64K", "-Xhc"),
    ("-comp", "lzo", "-b", "256K"),
    ("-comp", "gzip", "-b", "512K", "-no-xattrs"),
]


@pytest.mark.parametrize("options", MATRIX, ids=" ".join)
def test_every_compressor_and_block_size(tmp_path: Path, options: Sequence[str]) -> None:
    rng = random.Random(77)
    maker = Maker(rng, 128 * KiB)
    before = maker.root(40)
    after = maker.changed(before, 25)
    if "-no-xattrs" in options:
        for root in (before, after):
            for thing in root.values():
                thing.xattrs = {}
    check(tmp_path, before, after, options)


def simple(kind: Kind = Kind.FILE, **attributes: object) -> Thing:
    values = {"mode": 0o755 if kind is Kind.DIRECTORY else 0o644, "uid": 0, "gid": 0, "mtime": EPOCH, **attributes}
    return Thing(kind, **values)  # type: ignore[arg-type]


@pytest.fixture
def before() -> Root:
    rng = random.Random(3)
    return {
        "/": simple(Kind.DIRECTORY),
        "/etc": simple(Kind.DIRECTORY),
        "/etc/large": simple(content=rng.randbytes(10 * BLOCK) + b"t" * 9 * BLOCK + rng.randbytes(10)),
        "/etc/small": simple(content=b"small"),
        "/empty": simple(Kind.DIRECTORY, mtime=5),
    }


OPTIONS = ("-comp", "gzip", "-b", str(BLOCK))


def changed_large(before: Root, content: bytes) -> Root:
    return {**before, "/etc/large": simple(content=content)}


class TestContent:
    """What becomes of the blocks of a file that is written anew."""

    def test_one_block_changed(self, tmp_path: Path, before: Root) -> None:
        content = bytearray(before["/etc/large"].content)
        content[5 * BLOCK] ^= 1
        counters = check(tmp_path, before, changed_large(before, bytes(content)), (*OPTIONS, "-no-fragments")).counters
        assert (counters.blocks, counters.kept, counters.copied, counters.compressed) == (20, 0, 19, 1)
        assert counters.bytes_left == counters.bytes_copied + counters.bytes_new

    def test_only_attributes_changed(self, tmp_path: Path, before: Root) -> None:
        after = {**before, "/etc/large": simple(content=before["/etc/large"].content, mode=0o600)}
        counters = check(tmp_path, before, after, OPTIONS).counters
        assert (counters.files, counters.blocks, counters.bytes_new, counters.bytes_left) == (0, 0, 0, 0)
        assert (counters.inodes, counters.directories) == (3, 2)

    def test_the_same_content_once_more(self, tmp_path: Path, before: Root) -> None:
        image = pack(write_root(before, tmp_path / "before"), tmp_path / "vendor", *OPTIONS, "-tailends")
        content = BytesView(before["/etc/large"].content, "large")
        change = Put("/etc/large", Kind.FILE, 0o644, 0, 0, EPOCH, content=content)
        result = merged(image, [change], tmp_path / "output")
        assert (result.counters.kept, result.counters.bytes_new, result.counters.bytes_left) == (19, 0, 0)
        assert result.data_end == result.vendor_end
        theirs, ours = (
            observed(unpack(image, tmp_path / "theirs")),
            observed(unpack(tmp_path / "output", tmp_path / "o")),
        )
        assert ours == theirs

    def test_cut_at_a_block(self, tmp_path: Path, before: Root) -> None:
        after = changed_large(before, before["/etc/large"].content[: 7 * BLOCK])
        counters = check(tmp_path, before, after, OPTIONS).counters
        assert (counters.blocks, counters.kept) == (7, 7)

    def test_holes(self, tmp_path: Path, before: Root) -> None:
        content = bytes(3 * BLOCK) + b"x" * BLOCK + bytes(BLOCK + 5)
        counters = check(tmp_path, before, changed_large(before, content), OPTIONS).counters
        assert (counters.blocks, counters.holes, counters.compressed) == (6, 5, 1)
        assert opened(tmp_path / "output").stat("/etc/large").sparse == 4 * BLOCK + 5

    def test_another_tail_of_the_same_length(self, tmp_path: Path, before: Root) -> None:
        content = before["/etc/large"].content[:-1] + b"!"
        counters = check(tmp_path, before, changed_large(before, content), (*OPTIONS, "-tailends")).counters
        assert (counters.kept, counters.fragments) == (19, 1)

    def test_a_file_as_source(self, tmp_path: Path, before: Root) -> None:
        image = pack(write_root(before, tmp_path / "before"), tmp_path / "vendor", *OPTIONS)
        (tmp_path / "source").write_bytes(b"from a file")
        change = Put("/etc/new", Kind.FILE, 0o644, 0, 0, EPOCH, content=tmp_path / "source")
        merged(image, [change], tmp_path / "output")
        assert (unpack(tmp_path / "output", tmp_path / "out") / "etc/new").read_bytes() == b"from a file"


def test_directories_as_deep_as_allowed(tmp_path: Path, before: Root) -> None:
    after = {**before, **{"/d" * depth: simple(Kind.DIRECTORY) for depth in range(1, 255)}, "/d" * 255: simple()}
    check(tmp_path, before, after, OPTIONS)


def test_no_change_keeps_all_but_the_root(tmp_path: Path, before: Root) -> None:
    counters = check(tmp_path, before, before, OPTIONS).counters
    assert (counters.inodes, counters.directories, counters.inodes_gone) == (1, 1, 0)


@pytest.mark.parametrize("exports", [True, False])
def test_large_directories_have_an_index(tmp_path: Path, exports: bool) -> None:
    """The kernel looks names up by it; unsquashfs reads the listing."""
    before: Root = {"/": simple(Kind.DIRECTORY), "/d": simple(Kind.DIRECTORY)}
    for number in range(700):
        before[f"/d/name that is long enough for an index, really {number:05}"] = simple(content=b"%d" % number)
    after = dict(before)
    for number in range(200, 1200, 3):
        after[f"/d/name that is long enough for an index, really {number:05}"] = simple(content=b"new %d" % number)
    for number in range(0, 700, 50):
        del after[f"/d/name that is long enough for an index, really {number:05}"]
    result = check(tmp_path, before, after, (*OPTIONS, *(() if exports else ("-no-exports",))))
    assert result.counters.directories == 2
    assert opened(tmp_path / "output").stat("/d").index_count > 5
    with mounted(tmp_path / "output", tmp_path / "mounted") as place:
        for path, thing in after.items():
            if thing.kind is Kind.FILE:
                assert (place / path[1:]).read_bytes() == thing.content
        assert not (place / "d/nothing").exists()
        assert len(list((place / "d").iterdir())) == len(after) - 2


@pytest.mark.skipif(not IS_ROOT, reason="only root may mount")
def test_the_kernel_reads_the_same(tmp_path: Path) -> None:
    maker = Maker(random.Random(5), BLOCK)
    before = maker.root(150)
    after = maker.changed(before, 60)
    check(tmp_path, before, after, OPTIONS)
    with (
        mounted(tmp_path / "output", tmp_path / "m1") as ours,
        mounted(tmp_path / "reference", tmp_path / "m2") as theirs,
    ):
        assert observed(ours) == observed(theirs)
        mine = {str(p.relative_to(ours)): p.lstat().st_nlink for p in ours.rglob("*")}
        assert mine == {str(p.relative_to(theirs)): p.lstat().st_nlink for p in theirs.rglob("*")}


def test_a_list_of_attributes_is_stored_once(tmp_path: Path, before: Root) -> None:
    before["/etc/small"].xattrs = {"user.a": b"1", "user.b": b"2"}
    after = {**before, "/one": simple(content=b"1", xattrs={"user.b": b"2", "user.a": b"1"})}
    after["/two"] = simple(content=b"2", xattrs={"user.a": b"other"})
    after["/three"] = simple(content=b"3", xattrs={"user.a": b"other"})
    check(tmp_path, before, after, OPTIONS)
    squashfs = opened(tmp_path / "output")
    numbers = [squashfs.stat(path).xattr for path in ("/etc/small", "/one", "/two", "/three")]
    assert numbers == [0, 0, 1, 1]


def test_attributes_come_into_an_image_without(tmp_path: Path, before: Root) -> None:
    image = pack(write_root(before, tmp_path / "before"), tmp_path / "vendor", *OPTIONS, "-no-xattrs")
    assert opened(image).superblock.flags & NO_XATTRS
    put = Put("/new", Kind.FIFO, 0o644, 0, 0, EPOCH, xattrs={"security.selinux": b"label\0"})
    merged(image, [put], tmp_path / "output")
    squashfs = opened(tmp_path / "output")
    assert not squashfs.superblock.flags & NO_XATTRS
    assert dict(squashfs.xattrs(squashfs.stat("/new"))) == {"security.selinux": b"label\0"}
    with mounted(tmp_path / "output", tmp_path / "mounted") as place:
        assert os.getxattr(place / "new", "security.selinux") == b"label\0"


def test_runs_of_a_listing_are_what_the_format_allows() -> None:
    """Numbers near each other, one inode block, 256 entries, 8 KiB; and the first name of each in the index."""
    entries = {}
    for number in range(2000):
        name = b"%04d" % number + b"n" * (150 if number < 500 else 1)
        entries[name] = Target((number // 700) << 16 | number, 1 + number * (997 if number > 1500 else 1), Kind.FIFO)
    table = GrownTable(make_codec(GzipOptions()), None, store=True)
    table.append(b"#" * 5000)
    listing = write_listing(table, entries, "directory")
    content = b"".join(segment.data for segment in table.finish() if isinstance(segment, Data))
    opened_table = Table(BytesView(content, "table"), make_codec(GzipOptions()), 0, len(content))
    stored = opened_table.cursor(listing.block, listing.offset).take(listing.size)
    found = read_directory(BytesCursor(stored, "listing"), listing.size, "listing")
    assert {entry.name: Target(entry.reference, entry.number, entry.kind) for entry in found} == entries
    starts = [position for position, _block in run_headers(stored, 0, listing.size, "listing")]
    assert max(end - start for start, end in zip(starts, [*starts[1:], listing.size])) <= 8 * KiB
    at, indexed = 0, []
    for _ in range(listing.index_count):
        position, block, length = struct.unpack_from("<III", listing.index, at)
        name = listing.index[at + 12 : at + 13 + length]
        at += 13 + length
        assert stored[position + 20 : position + 21 + length] == name
        place = opened_table.cursor(block, (listing.offset + position) % (8 * KiB))
        assert place.take(21 + length)[20:] == name
        indexed.append(position)
    assert at == len(listing.index)
    assert set(indexed) <= set(starts)
    assert max(b - a for a, b in zip([0, *indexed], [*indexed, listing.size])) <= 16 * KiB


GAP = 5 << 30


def with_gap(image: Path, output: Path) -> Path:
    """The same image with 5 GiB of nothing between its data and its tables; the file is sparse."""
    data = bytearray(image.read_bytes())
    superblock = opened(image).superblock
    tables = [
        (superblock.fragment_table, superblock.fragment_count * 16),
        (superblock.id_table, superblock.id_count * 4),
    ]
    tables.append((superblock.export_table, superblock.inode_count * 8))
    assert superblock.xattr_table is None
    for start, length in tables:
        assert start is not None
        for number in range(-(-length // (8 * KiB))):
            (offset,) = struct.unpack_from("<Q", data, start + 8 * number)
            struct.pack_into("<Q", data, start + 8 * number, offset + GAP)
    for field in (40, 48, 64, 72, 80, 88):
        (start,) = struct.unpack_from("<Q", data, field)
        struct.pack_into("<Q", data, field, start + GAP)
    with output.open("wb") as sink:
        sink.write(data[: superblock.inode_table])
        sink.seek(superblock.inode_table + GAP)
        sink.write(data[superblock.inode_table :])
    return output


def test_data_behind_four_gib(tmp_path: Path, before: Root) -> None:
    image = with_gap(pack(write_root(before, tmp_path / "before"), tmp_path / "small", *OPTIONS), tmp_path / "vendor")
    after = changed_large(before, b"other" * 5000)
    after["/etc/small"] = simple(content=b"tail behind 4 GiB")
    after["/new"] = simple(content=b"new" * 3000)
    del after["/empty"]
    with image.open("rb") as source:
        squashfs = SquashfsImage.open(FileView(source.fileno(), "vendor"))
        result = merge_changes(squashfs, request(before, after))
    first, copied, *rest = result.segments
    assert isinstance(copied, Copy)
    assert copied.length > GAP
    with (tmp_path / "output").open("wb") as sink, image.open("rb") as source:
        gap = squashfs.superblock.inode_table - GAP
        write_segments(image, [first, Copy(copied.offset, gap - 96)], tmp_path / "head")
        sink.write((tmp_path / "head").read_bytes())
        sink.seek(gap + GAP)
        merged_rest = [Copy(gap + GAP, copied.offset + copied.length - gap - GAP), *rest]
        sink.write(write_segments(image, merged_rest, tmp_path / "rest").read_bytes())
    with (tmp_path / "output").open("rb") as source:
        root = SquashfsRoot.open(FileView(source.fileno(), "output"))
        inode = root.stat("/new")
        assert (inode.extended, inode.start > 1 << 32) == (True, True)
        assert root.read(inode) == after["/new"].content
        assert not root.stat("/etc/small").extended
    reference = pack(write_root(after, tmp_path / "after"), tmp_path / "reference", *OPTIONS)
    theirs, ours = unpack(reference, tmp_path / "theirs"), unpack(tmp_path / "output", tmp_path / "ours")
    assert observed(ours) == observed(theirs)


@pytest.mark.parametrize("length", [0, 1, 8191, 8192, 8193, 20_000])
@pytest.mark.parametrize("more", [0, 1, 8192, 10_000])
def test_a_table_grows_behind_what_it_had(length: int, more: int) -> None:
    """Also when its last block is full."""
    codec = make_codec(GzipOptions())
    rng = random.Random(length + more)
    old, new = rng.randbytes(length), rng.randbytes(more)
    small = GrownTable(codec, None, store=False)
    small.append(old)
    data = b"".join(segment.data for segment in small.finish() if isinstance(segment, Data))
    vendor = Table(BytesView(b"#" * 100 + data, "vendor"), codec, 100, 100 + len(data))
    grown = GrownTable(codec, vendor, store=False)
    block, offset = grown.place
    grown.append(new)
    packed = b"".join(
        segment.data if isinstance(segment, Data) else vendor.view.read(segment.offset, segment.length)
        for segment in grown.finish()
        if not isinstance(segment, Zeros)
    )
    table = Table(BytesView(packed, "grown"), codec, 0, len(packed))
    contents = [block.content for block in table.blocks()]
    assert b"".join(contents) == old + new
    assert all(len(content) == 8 * KiB for content in contents[:-1])
    kept = len(data) if length % 8192 == 0 or not more else vendor.last_block() - 100
    assert packed[:kept] == data[:kept]
    if more:
        assert table.cursor(block, offset).take(more) == new


class TestRefusals:
    """One thing that cannot be, each."""

    @pytest.fixture
    def image(self, tmp_path: Path, before: Root) -> SquashfsImage:
        return opened(pack(write_root(before, tmp_path / "before"), tmp_path / "vendor", *OPTIONS))

    FILE = (Kind.FILE, 0o644, 0, 0, EPOCH)
    CASES = {
        "time before 1970": (Put("/a", Kind.FIFO, 0o644, 0, 0, -1), "squashfs-time"),
        "time after 2106": (Put("/a", Kind.FIFO, 0o644, 0, 0, 1 << 32), "squashfs-time"),
        "owner": (Put("/a", Kind.FIFO, 0o644, 1 << 32, 0, 0), "squashfs-ids"),
        "access control list": (
            Put("/a", Kind.FIFO, 0, 0, 0, 0, xattrs={"system.posix_acl_access": b""}),
            "squashfs-xattr",
        ),
        "value": (Put("/a", Kind.FIFO, 0, 0, 0, 0, xattrs={"user.a": bytes(65536)}), "squashfs-xattr"),
        "name of an attribute": (Put("/a", Kind.FIFO, 0, 0, 0, 0, xattrs={"user." + "a" * 256: b""}), "squashfs-xattr"),
        "name": (Put("/" + "a" * 257, Kind.FIFO, 0, 0, 0, 0), "squashfs-name"),
        "depth": (Put("/a" * 256, Kind.FIFO, 0, 0, 0, 0), "squashfs-name"),
        "target": (Put("/a", Kind.SYMLINK, 0o777, 0, 0, 0, target="x" * 4096), "squashfs-target"),
        "no target": (Put("/a", Kind.SYMLINK, 0o777, 0, 0, 0), "squashfs-target"),
    }

    @pytest.mark.parametrize("case", list(CASES))
    def test_what_squashfs_cannot_hold(self, image: SquashfsImage, case: str) -> None:
        change, finding = self.CASES[case]
        with pytest.raises(UnsupportedError) as caught:
            merge_changes(image, [change])
        assert caught.value.finding == finding

    @pytest.mark.parametrize(
        "changes",
        [
            [Removal("/nothing")],
            [Removal("/etc/small/below")],
            [Removal("/")],
            [Removal("etc")],
            [Removal("/etc/../etc")],
            [Removal("//etc")],
            [Removal("/etc"), Removal("/etc")],
            [Removal("/etc"), Put("/etc/new", *FILE, content=BytesView(b"", ""))],
            [Put("/nothing/below", *FILE, content=BytesView(b"", ""))],
            [Put("/etc", Kind.FIFO, 0, 0, 0, 0), Put("/etc/new", Kind.FIFO, 0, 0, 0, 0)],
            [Put("/", Kind.FIFO, 0, 0, 0, 0)],
            [Put("/a", *FILE)],
            [Put("/empty", *FILE)],
            [Put("/a", Kind.FIFO, 0o10000, 0, 0, 0)],
            [Put("/a", Kind.FIFO, 0, 0, 0, 0, link_group="/b")],
            [Put("/a", Kind.DIRECTORY, 0, 0, 0, 0, link_group="/a")],
        ],
        ids=lambda changes: " ".join(change.path for change in changes),
    )
    def test_contradictions(self, image: SquashfsImage, changes: List[Change]) -> None:
        with pytest.raises(RespinError) as caught:
            merge_changes(image, changes)
        assert caught.value.where

    def test_more_owners_than_there_is_room_for(self, image: SquashfsImage) -> None:
        changes = [Put(f"/{n}", Kind.FIFO, 0o644, n, 100_000 + n, 0) for n in range(1, 32768)]
        merge_changes(image, changes[:-1])  # and root: 65,533
        changes += [Put(f"/more{n}", Kind.FIFO, 0o644, n, 200_000 + n, 0) for n in range(3)]
        with pytest.raises(UnsupportedError) as caught:
            merge_changes(image, changes)
        assert caught.value.finding == "squashfs-ids"


def test_runs_are_found_without_their_entries_and_damage_shows_all_the_same() -> None:
    rng = random.Random(3)
    outcomes = set()
    for _ in range(3000):
        listing = bytearray()
        for _ in range(rng.randrange(1, 4)):
            names = [bytes(rng.choices(b"abc", k=rng.randrange(1, 9))) for _ in range(rng.randrange(1, 5))]
            listing += HEADER.pack(len(names) - 1, rng.randrange(99), 5)
            listing += b"".join(ENTRY.pack(1, 0, 2, len(name) - 1) + name for name in names)
        size = len(listing)
        if rng.random() < 0.5:
            listing[rng.randrange(size)] = rng.randrange(256)
        data = bytes(2) + bytes(listing) + bytes(rng.randrange(4))
        found = _listed((run.position, run.block) for run in read_runs(data, 2, size, "listing"))
        assert _listed(run_headers(data, 2, size, "listing")) == found
        outcomes.add(found is None)
    assert outcomes == {True, False}


def _listed(headers: Iterable[Tuple[int, int]]) -> Optional[List[Tuple[int, int]]]:
    try:
        return list(headers)
    except MalformedError:
        return None
