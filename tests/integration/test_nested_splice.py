"""Splicing changed blocks into a file of a squashfs, judged by unsquashfs, mksquashfs, the kernel and a raw reader."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import time
import zlib
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import FileView
from respin.errors import RespinError, UnsupportedError
from respin.formats.ext import ExtImage
from respin.formats.squashfs import SplicedSquashfs, SquashfsImage, splice_file
from respin.segments import Copy, Data, total
from tests.support.images import (
    KiB,
    MiB,
    apply_changes,
    build_nested,
    build_squashfs,
    debugfs,
    differing_blocks,
    fsck_clean,
    mounted,
    run,
    unsquash,
    write_segments,
    write_sparse,
)

INNER = "LiveOS/ext3fs.img"
BLOCK = 128 * KiB


@contextlib.contextmanager
def opened(path: Path) -> Iterator[SquashfsImage]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield SquashfsImage.open(FileView(fd, str(path)))
    finally:
        os.close(fd)


def spliced(
    path: Path, output: Path, changed: Mapping[int, bytes], inner: str = INNER, size: Optional[int] = None
) -> SplicedSquashfs:
    with opened(path) as image:
        result = splice_file(image, inner, changed, size)
    write_segments(path, result.segments, output)
    assert output.stat().st_size == result.size
    return result


def raw_blocks(image: bytes, size: int, block_size: int = BLOCK) -> List[Tuple[int, int]]:
    """(offset, size field) of every block of the one file of ``size`` bytes: finds its inode by a search, not by us."""
    inode_table, directory_table = struct.unpack_from("<QQ", image, 64)
    content = b""
    at = inode_table
    while at < directory_table:
        (header,) = struct.unpack_from("<H", image, at)
        data = image[at + 2 : at + 2 + (header & 0x7FFF)]
        content += data if header & 0x8000 else zlib.decompress(data)
        at += 2 + (header & 0x7FFF)
    for position in range(0, len(content) - 16, 4):
        kind = struct.unpack_from("<H", content, position)[0]
        if kind == 2 and struct.unpack_from("<I", content, position + 28)[0] == size:
            start, fields = struct.unpack_from("<I", content, position + 16)[0], position + 32
            break
        if kind == 9 and struct.unpack_from("<Q", content, position + 24)[0] == size:
            start, fields = struct.unpack_from("<Q", content, position + 16)[0], position + 56
            break
    else:
        raise AssertionError("no such inode")
    blocks = []
    for (field,) in struct.iter_unpack("<I", content[fields : fields + 4 * -(-size // block_size)]):
        blocks.append((start, field))
        start += field & 0xFFFFFF
    return blocks


def check_reuse(old: bytes, new: bytes, size: int, changed: Tuple[int, ...]) -> None:
    """Every block that did not change has the same compressed bytes in the new image, and they touch each other."""
    before, after = raw_blocks(old, size), raw_blocks(new, size)
    assert len(before) == len(after)
    for number, ((old_at, old_field), (new_at, new_field)) in enumerate(zip(before, after)):
        if number not in changed:
            assert old_field == new_field, number
            length = old_field & 0xFFFFFF
            assert old[old_at : old_at + length] == new[new_at : new_at + length], number


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp = tmp_path_factory.mktemp("nested")
    rng = random.Random(1)
    tree = {
        "noise": rng.randbytes(700_000),
        "text": b"a line of text, and another\n" * 40_000,
        "etc/version": b"PRODUCT='Example'\n",
    }
    build_nested(tmp, tree, size_mib=32)
    return tmp


@pytest.fixture(scope="module")
def content(world: Path) -> bytes:
    return (world / "squashfs-root" / INNER).read_bytes()


def typical_changes(content: bytes) -> Dict[int, bytes]:
    rng = random.Random(2)
    return {
        0: content[: BLOCK - 8] + b"changed!",
        2: bytes(BLOCK),  # stored -> hole
        3: rng.randbytes(BLOCK),  # does not shrink
        100: b"was a hole" + bytes(BLOCK - 10),
        101: bytes(BLOCK),  # a hole that stays one
        254: rng.randbytes(BLOCK),
        255: b"x" * BLOCK,
    }


def test_unsquashfs_reads_the_new_content(world: Path, content: bytes, tmp_path: Path) -> None:
    changed = typical_changes(content)
    result = spliced(world / "squashfs.img", tmp_path / "new", changed)
    new = apply_changes(content, changed, BLOCK)
    assert unsquash(tmp_path / "new", INNER) == new
    old_bytes, new_bytes = (world / "squashfs.img").read_bytes(), (tmp_path / "new").read_bytes()
    check_reuse(old_bytes, new_bytes, len(content), differing_blocks(content, new, BLOCK))
    fields = [field for _at, field in raw_blocks(new_bytes, len(content))]
    counters = result.counters
    assert counters.blocks == len(fields) == 256
    assert counters.holes == fields.count(0)
    assert counters.stored == 256 - counters.holes == counters.reused + counters.recompressed
    assert counters.recompressed == 5
    assert fields[3] == BLOCK | 1 << 24
    assert counters.bytes_reused + counters.bytes_new == sum(field & 0xFFFFFF for field in fields)
    assert dict(result.new_blocks) == {
        number: (at, field & 0xFFFFFF)
        for number, (at, field) in enumerate(raw_blocks(new_bytes, len(content)))
        if number in (0, 3, 100, 254, 255)
    }


def test_the_result_is_what_mksquashfs_makes_of_the_changed_file(world: Path, content: bytes, tmp_path: Path) -> None:
    changed = typical_changes(content)
    spliced(world / "squashfs.img", tmp_path / "new", changed)
    inner = tmp_path / "root" / INNER
    inner.parent.mkdir(parents=True)
    write_sparse(inner, content)
    same = build_squashfs(tmp_path / "same", tmp_path / "root")
    if same.read_bytes() != (world / "squashfs.img").read_bytes():
        pytest.skip("mksquashfs does not reproduce its own image here")
    write_sparse(inner, apply_changes(content, changed, BLOCK))
    assert (tmp_path / "new").read_bytes() == build_squashfs(tmp_path / "again", tmp_path / "root").read_bytes()


def test_nothing_changed_gives_the_same_image(world: Path, content: bytes, tmp_path: Path) -> None:
    result = spliced(world / "squashfs.img", tmp_path / "new", {7: content[7 * BLOCK : 8 * BLOCK]})
    assert (tmp_path / "new").read_bytes() == (world / "squashfs.img").read_bytes()
    assert result.counters.recompressed == 0
    assert result.new_blocks == {}


def test_the_superblock_is_sane(world: Path, content: bytes, tmp_path: Path) -> None:
    """Read raw: only offsets and the size differ from the vendor's, and the padding is zeros up to 4 KiB."""
    result = spliced(world / "squashfs.img", tmp_path / "new", typical_changes(content))
    old, new = (world / "squashfs.img").read_bytes(), (tmp_path / "new").read_bytes()
    before, after = (struct.unpack_from("<IIIIIHHHHHHQQQQQQQQ", image) for image in (old, new))
    assert after[:11] == before[:11]
    used = after[12]
    assert used == result.bytes_used <= len(new) == -(-used // 4096) * 4096
    assert not any(new[used:])
    ids, xattrs, inodes, directories, fragments, exports = after[13:]
    assert 96 < inodes < directories < fragments <= exports < ids < used
    assert xattrs == 0xFFFFFFFFFFFFFFFF
    assert run("unsquashfs", "-s", tmp_path / "new")


def test_a_result_can_be_spliced_again_and_back(world: Path, content: bytes, tmp_path: Path) -> None:
    """Undoing the change block by block gives the vendor's bytes back."""
    changed = typical_changes(content)
    spliced(world / "squashfs.img", tmp_path / "new", changed)
    back = {number: content[number * BLOCK : (number + 1) * BLOCK] for number in changed}
    spliced(tmp_path / "new", tmp_path / "old", back)
    assert (tmp_path / "old").read_bytes() == (world / "squashfs.img").read_bytes()


def test_the_kernel_mounts_it(world: Path, content: bytes, tmp_path: Path) -> None:
    changed = {255: b"tail" * (BLOCK // 4), 200: bytes(BLOCK), 130: b"new" + bytes(BLOCK - 3)}
    spliced(world / "squashfs.img", tmp_path / "new", changed)
    with mounted(tmp_path / "new", tmp_path / "mnt") as root:
        assert (root / INNER).read_bytes() == apply_changes(content, changed, BLOCK)


def test_changes_made_by_debugfs_arrive(world: Path, content: bytes, tmp_path: Path) -> None:
    """As a build does it: change the ext image, splice the blocks that differ, read a file in the result."""
    image = tmp_path / "changed.img"
    image.write_bytes(content)
    (tmp_path / "driver").write_bytes(b"driver" * 50_000)
    debugfs(image, "mkdir /lib", f"write {tmp_path / 'driver'} /lib/driver.ko", "symlink /lib/link driver.ko")
    fsck_clean(image)
    new = image.read_bytes()
    changed = {n: new[n * BLOCK : (n + 1) * BLOCK] for n in differing_blocks(content, new, BLOCK)}
    result = spliced(world / "squashfs.img", tmp_path / "new", changed)
    assert unsquash(tmp_path / "new", INNER) == new
    assert result.counters.recompressed <= 6
    with opened(tmp_path / "new") as squashfs:
        ext = ExtImage.open(squashfs.open_file(INNER))
        assert ext.read(ext.stat("/lib/driver.ko")) == b"driver" * 50_000
    with mounted(tmp_path / "new", tmp_path / "outer") as outer, mounted(outer / INNER, tmp_path / "inner") as inner:
        assert (inner / "lib/link").read_bytes() == b"driver" * 50_000
        assert (inner / "noise").stat().st_size == 700_000


@pytest.mark.parametrize(
    ("compressor", "options"),
    [
        ("gzip", ("-Xcompression-level", "3", "-Xwindow-size", "12")),
        ("gzip", ("-no-exports",)),
        ("gzip", ("-noI", "-noId")),
        ("gzip", ("-noD",)),
        ("xz", ()),
        ("xz", ("-Xbcj", "x86", "-Xdict-size", "50%")),
    ],
)
def test_compressors_and_options(tmp_path: Path, compressor: str, options: Tuple[str, ...]) -> None:
    rng = random.Random(4)
    inner = "LiveOS/rootfs.img"
    build_nested(
        tmp_path,
        {"noise": rng.randbytes(300_000), "program": Path("/bin/sh").read_bytes()},
        inner=inner,
        compressor=compressor,
        size_mib=8,
        squashfs_options=options,
    )
    content = (tmp_path / "squashfs-root" / inner).read_bytes()
    changed = {0: content[:100] + rng.randbytes(BLOCK - 100), 2: bytes(BLOCK), 40: b"text " * (BLOCK // 5) + b"12"}
    result = spliced(tmp_path / "squashfs.img", tmp_path / "new", changed, inner)
    expected = apply_changes(content, changed, BLOCK)
    assert unsquash(tmp_path / "new", inner) == expected
    if "-noD" in options:
        assert result.counters.bytes_new == 2 * BLOCK
    if compressor == "gzip":
        write_sparse(tmp_path / "squashfs-root" / inner, expected)
        again = build_squashfs(tmp_path / "again", tmp_path / "squashfs-root", options=options)
        assert (tmp_path / "new").read_bytes() == again.read_bytes()
    with mounted(tmp_path / "new", tmp_path / "mnt") as root:
        assert (root / inner).read_bytes() == expected


def small_world(
    tmp: Path, files: Mapping[str, bytes], options: Tuple[str, ...] = (), block_size: int = 4 * KiB
) -> Path:
    root = tmp / "root"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_sparse(root / name, data)
    return build_squashfs(tmp / "image", root, block_size=block_size, options=options)


def check_small(tmp: Path, image: Path, files: Mapping[str, bytes], inner: str, changed: Mapping[int, bytes]) -> None:
    """Splice and compare every file with what unsquashfs unpacks."""
    spliced(image, tmp / "new", changed, inner)
    run("unsquashfs", "-q", "-n", "-no-xattrs", "-d", tmp / "out", tmp / "new")
    for name, data in files.items():
        expected = apply_changes(data, changed, 4 * KiB) if name == inner else data
        assert (tmp / "out" / name).read_bytes() == expected, name


KINDS = st.sampled_from(["hole", "text", "noise"])


def block_of(kind: str, length: int, rng: random.Random) -> bytes:
    if kind == "hole":
        return bytes(length)
    return rng.randbytes(length) if kind == "noise" else rng.choice([b"text ", b"other"]) * (length // 5 + 1)


@given(
    kinds=st.lists(KINDS, max_size=14),
    tail=st.tuples(KINDS, st.integers(0, 4095)),
    edits=st.dictionaries(st.integers(0, 14), KINDS, max_size=6),
    neighbours=st.lists(st.tuples(st.sampled_from(["LiveOS/a", "LiveOS/z", "A", "z"]), KINDS, st.integers(0, 9000))),
    options=st.sampled_from([(), ("-tailends",), ("-no-fragments",), ("-no-exports",), ("-noF", "-tailends")]),
    seed=st.integers(0, 1 << 32),
)
@settings(max_examples=40, deadline=None)
def test_any_file_any_change(
    tmp_path_factory: pytest.TempPathFactory,
    kinds: List[str],
    tail: Tuple[str, int],
    edits: Dict[int, str],
    neighbours: List[Tuple[str, str, int]],
    options: Tuple[str, ...],
    seed: int,
) -> None:
    tmp = tmp_path_factory.mktemp("any")
    rng = random.Random(seed)
    inner = "LiveOS/rootfs.img"
    content = b"".join(block_of(kind, 4096, rng) for kind in kinds) + block_of(tail[0], tail[1], rng)[: tail[1]]
    content = b"".join([content[at : at + 4096] for at in range(0, len(content), 4096)])
    files = {inner: content}
    for name, kind, length in neighbours:
        files[name] = block_of(kind, length, rng)[:length]
    image = small_world(tmp, files, (*options, "-no-duplicates"))
    total_blocks = -(-len(content) // 4096)
    changed = {
        number: block_of(kind, 4096, rng)[: min(4096, len(content) - number * 4096)]
        for number, kind in edits.items()
        if number < total_blocks
    }
    check_small(tmp, image, files, inner, changed)


class TestNeighbours:
    """Other files before and behind the nested image, fragments and holes at the seams."""

    INNER = "M/rootfs.img"

    def files(self) -> Dict[str, bytes]:
        rng = random.Random(9)
        return {
            "A/before": rng.randbytes(9000),
            self.INNER: bytes(8192) + rng.randbytes(8192) + bytes(8192) + b"tail",
            "Z/behind": rng.randbytes(9000),
            "small": b"small",
        }

    @pytest.mark.parametrize("numbers", [(0,), (1,), (0, 1), (2,), (3,), (4,), (5,), (4, 5), (6,), (0, 3, 5, 6)])
    @pytest.mark.parametrize("options", [(), ("-tailends",)])
    def test_seams(self, tmp_path: Path, numbers: Tuple[int, ...], options: Tuple[str, ...]) -> None:
        files = self.files()
        image = small_world(tmp_path, files, options)
        changed = {number: b"abcd" * (1 if number == 6 else 1024) for number in numbers}
        check_small(tmp_path, image, files, self.INNER, changed)

    def test_the_tail_in_a_fragment_counts_as_a_block(self, tmp_path: Path) -> None:
        files = self.files()
        image = small_world(tmp_path, files, ("-tailends",))
        with opened(image) as squashfs:
            assert squashfs.file(self.INNER).fragment is not None
        result = spliced(image, tmp_path / "new", {6: b"TAIL"}, self.INNER)
        assert (result.counters.blocks, result.counters.holes, result.counters.recompressed) == (7, 4, 1)
        assert list(result.new_blocks) == [6]
        offset, size = result.new_blocks[6]
        assert b"TAIL" in (tmp_path / "new").read_bytes()[offset : offset + size]  # noise beside it: does not shrink

    def test_a_file_of_holes_gains_blocks(self, tmp_path: Path) -> None:
        files = {"A": b"before" * 3000, "M": bytes(40960), "Z": b"behind" * 3000}
        check_small(tmp_path, small_world(tmp_path, files), files, "M", {3: b"abcd" * 1024, 9: b"efgh" * 1024})

    def test_a_file_becomes_all_holes(self, tmp_path: Path) -> None:
        files = {"A": b"before" * 3000, "M": b"data" * 4096, "Z": b"behind" * 3000}
        check_small(tmp_path, small_world(tmp_path, files), files, "M", {n: bytes(4096) for n in range(4)})

    def test_extended_attributes_survive(self, tmp_path: Path) -> None:
        files = self.files()
        small_world(tmp_path, files)
        for name in ("A/before", self.INNER):
            try:
                os.setxattr(tmp_path / "root" / name, "user.kept", b"value of " + name.encode())
            except OSError:
                pytest.skip("the file system here has no user attributes")
        image = build_squashfs(tmp_path / "image", tmp_path / "root", block_size=4096)
        spliced(image, tmp_path / "new", {0: b"abcd" * 1024}, self.INNER)
        run("unsquashfs", "-q", "-n", "-user-xattrs", "-d", tmp_path / "out", tmp_path / "new")
        for name in ("A/before", self.INNER):
            assert os.getxattr(tmp_path / "out" / name, "user.kept") == b"value of " + name.encode()


class TestRefusals:
    """What cannot be spliced without guessing is refused, with exit status 7."""

    def test_a_duplicate_that_shares_the_blocks(self, tmp_path: Path) -> None:
        data = random.Random(1).randbytes(20_000)
        image = small_world(tmp_path, {"LiveOS/rootfs.img": data, "LiveOS/copy": data}, ("-no-fragments",))
        with opened(image) as squashfs, pytest.raises(UnsupportedError, match="shares") as caught:
            splice_file(squashfs, "LiveOS/rootfs.img", {1: b"x" * 4096})
        assert caught.value.finding == "shared-blocks"

    def test_a_duplicate_that_shares_the_tail(self, tmp_path: Path) -> None:
        image = small_world(tmp_path, {"LiveOS/rootfs.img": b"tail", "LiveOS/copy": b"tail"})
        with opened(image) as squashfs, pytest.raises(UnsupportedError, match="shares"):
            splice_file(squashfs, "LiveOS/rootfs.img", {0: b"TAIL"})

    def test_a_directory_table_of_several_blocks(self, tmp_path: Path) -> None:
        names = {f"{n:03} " + "a long name " * 5: b"" for n in range(200)}
        image = small_world(tmp_path, {**names, "LiveOS/rootfs.img": b"x" * 9000})
        with opened(image) as squashfs, pytest.raises(UnsupportedError, match="directory table"):
            splice_file(squashfs, "LiveOS/rootfs.img", {0: b"y" * 4096})

    def test_data_behind_the_end(self, tmp_path: Path) -> None:
        image = small_world(tmp_path, {"LiveOS/rootfs.img": b"x" * 9000})
        with image.open("ab") as sink:
            sink.write(bytes(4096) + b"a verity tree, perhaps")
        with opened(image) as squashfs, pytest.raises(UnsupportedError) as caught:
            splice_file(squashfs, "LiveOS/rootfs.img", {0: b"y" * 4096})
        assert caught.value.finding == "data-behind-squashfs"

    def test_zeros_behind_the_end_are_only_padding(self, tmp_path: Path) -> None:
        image = small_world(tmp_path, {"LiveOS/rootfs.img": b"x" * 9000})
        with image.open("ab") as sink:
            sink.write(bytes(6000))
        result = spliced(image, tmp_path / "new", {0: b"y" * 4096}, "LiveOS/rootfs.img")
        assert result.size == 4096

    @pytest.mark.parametrize("changed", [{3: b""}, {-1: b"x" * 4096}, {0: b"x" * 4095}, {2: b"x" * 4096}])
    def test_blocks_that_do_not_fit(self, tmp_path: Path, changed: Dict[int, bytes]) -> None:
        image = small_world(tmp_path, {"LiveOS/rootfs.img": b"x" * 9000})
        with opened(image) as squashfs, pytest.raises(RespinError):
            splice_file(squashfs, "LiveOS/rootfs.img", changed)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        image = small_world(tmp_path, {"LiveOS/rootfs.img": b"x" * 9000})
        with opened(image) as squashfs, pytest.raises(UnsupportedError) as caught:
            splice_file(squashfs, "LiveOS/ext3fs.img", {})
        assert (caught.value.exit_code, caught.value.finding) == (7, "no-such-path")


def test_two_gibibytes_take_no_time(tmp_path: Path) -> None:
    """A classic Node's image size: offsets beyond 2^31, mostly holes, few blocks read and written."""
    build_nested(tmp_path, {"etc/version": b"VERSION=1\n"}, size_mib=3072, options=("-N", "20000"))
    inner = tmp_path / "squashfs-root" / INNER
    started = time.process_time()
    with opened(tmp_path / "squashfs.img") as image:
        view = image.open_file(INNER)
        assert view.size == 3072 * MiB
        ext = ExtImage.open(view)
        assert ext.read(ext.stat("/etc/version")) == b"VERSION=1\n"
        assert view.blocks_read < 20
        last = view.blocks_total - 1
        at = 2_500 * MiB // BLOCK
        changed = {at: b"far away" * (BLOCK // 8), last: b"the end!" * (BLOCK // 8), 0: view.block(0)}
        result = splice_file(image, INNER, changed)
    assert time.process_time() - started < 5
    write_segments(tmp_path / "squashfs.img", result.segments, tmp_path / "new")
    counters = result.counters
    assert counters.blocks == 24576
    assert counters.recompressed == 2
    assert counters.reused == counters.stored - 2
    assert sum(len(segment.data) for segment in result.segments if isinstance(segment, Data)) < 100 * KiB
    assert total(result.segments) == result.size
    assert any(isinstance(segment, Copy) and segment.length > 1000 for segment in result.segments)
    with inner.open("r+b") as sink:
        for number, data in changed.items():
            sink.seek(number * BLOCK)
            sink.write(data)
    again = build_squashfs(tmp_path / "again", tmp_path / "squashfs-root")
    assert (tmp_path / "new").read_bytes() == again.read_bytes()


class TestLonger:
    """The file gets longer at its end: what nobody gives of it is zeros, everything else stays as it is."""

    INNER = "M/rootfs.img"
    END = 4096 * 3000  # a block list of more than one metadata block

    def world(self, tmp_path: Path, tail: int, options: Tuple[str, ...]) -> Tuple[Path, Dict[str, bytes]]:
        rng = random.Random(11)
        files = {
            **{f"A/before{number}": rng.randbytes(3000 + number) for number in range(20)},
            "M/beside": rng.randbytes(5000),
            self.INNER: rng.randbytes(4096 * 5) + bytes(4096 * 2) + b"text " * 1000 + rng.randbytes(tail),
            "Z/behind": rng.randbytes(9000),
            "small": b"small",
        }
        files[self.INNER] = files[self.INNER][: 4096 * 8 + tail]
        return small_world(tmp_path, files, (*options, "-no-duplicates")), files

    @pytest.mark.parametrize("options", [(), ("-tailends",), ("-no-fragments",), ("-no-exports",), ("-noI",)])
    @pytest.mark.parametrize("tail", [0, 700])
    @pytest.mark.parametrize("size", [4096 * 9, END + 5])
    def test_others_read_it(self, tmp_path: Path, options: Tuple[str, ...], tail: int, size: int) -> None:
        image, files = self.world(tmp_path, tail, options)
        old = files[self.INNER]
        last = size // 4096 - 1
        changed = {1: b"new " * 1024, last: b"end " * 1024}
        result = spliced(image, tmp_path / "new", changed, self.INNER, size)
        run("unsquashfs", "-q", "-n", "-no-xattrs", "-d", tmp_path / "out", tmp_path / "new")
        expected = apply_changes(old.ljust(size, b"\0"), changed, 4096)
        for name, data in {**files, self.INNER: expected}.items():
            assert (tmp_path / "out" / name).read_bytes() == data, name
        assert result.counters.recompressed == len(changed) + (1 if tail and last > 8 else 0)
        with mounted(tmp_path / "new", tmp_path / "mnt") as root:
            assert (root / self.INNER).read_bytes() == expected
            assert sorted(path.name for path in (root / "A").iterdir()) == sorted(f"before{n}" for n in range(20))
        with opened(tmp_path / "new") as squashfs:
            assert squashfs.open_file(self.INNER).read(0, size) == expected

    def test_the_new_holes_are_told(self, tmp_path: Path) -> None:
        image, files = self.world(tmp_path, 0, ())
        spliced(image, tmp_path / "new", {}, self.INNER, self.END)
        run("unsquashfs", "-q", "-n", "-no-xattrs", "-d", tmp_path / "out", tmp_path / "new")
        assert (tmp_path / "out" / self.INNER).stat().st_blocks * 512 < 2 * len(files[self.INNER])
        with mounted(tmp_path / "new", tmp_path / "mnt") as root:
            assert (root / self.INNER).stat().st_blocks * 512 < 2 * len(files[self.INNER])

    def test_beyond_four_gib(self, tmp_path: Path) -> None:
        """The basic inode of a file has 32 bits for its size."""
        image, files = self.world(tmp_path, 700, ("-tailends",))
        size = (4 << 30) + 4096 * 3
        changed = {size // 4096 - 1: b"end " * 1024}
        spliced(image, tmp_path / "new", changed, self.INNER, size)
        run("unsquashfs", "-q", "-n", "-no-xattrs", "-d", tmp_path / "out", tmp_path / "new")
        with (tmp_path / "out" / self.INNER).open("rb") as stream:
            assert stream.read(len(files[self.INNER]) + 1) == files[self.INNER] + b"\0"
            stream.seek(size - 4097)
            assert stream.read() == b"\0" + b"end " * 1024

    def test_a_longer_file_can_be_changed_again(self, tmp_path: Path) -> None:
        image, files = self.world(tmp_path, 700, ())
        spliced(image, tmp_path / "longer", {20: b"first" + bytes(4091)}, self.INNER, self.END)
        check = {**files, self.INNER: apply_changes(files[self.INNER].ljust(self.END, b"\0"), {20: bytes(4096)}, 4096)}
        check_small(tmp_path, tmp_path / "longer", check, self.INNER, {20: bytes(4096), 2999: b"abcd" * 1024})

    def test_many_inodes_around_it(self, tmp_path: Path) -> None:
        """With more than one metadata block of other inodes those of one directory may move apart: refused."""
        files = {f"A/{number}": b"x%d" % number for number in range(600)}
        (tmp_path / "front").mkdir()
        files[self.INNER] = bytes(4096) + b"text " * 1000
        image = small_world(tmp_path / "front", files)
        spliced(image, tmp_path / "longer", {}, self.INNER, 4096 * 100)
        expected = {**files, self.INNER: files[self.INNER].ljust(4096 * 100, b"\0")}
        check_small(tmp_path, tmp_path / "longer", expected, self.INNER, {})
        (tmp_path / "behind").mkdir()
        files["0/rootfs.img"] = files.pop(self.INNER)
        image = small_world(tmp_path / "behind", files)
        with opened(image) as squashfs, pytest.raises(UnsupportedError, match="move apart"):
            splice_file(squashfs, "0/rootfs.img", {}, 4096 * 100)

    def test_it_cannot_get_shorter(self, tmp_path: Path) -> None:
        image, _ = self.world(tmp_path, 0, ())
        with opened(image) as squashfs, pytest.raises(RespinError, match="shorter"):
            splice_file(squashfs, self.INNER, {}, 4096)
