"""Any change to any file in a squashfs, held against mksquashfs of what was really changed, for every way to pack it.

What is known of the images comes from unsquashfs and from a raw reader of block lists, which shares nothing with ours.
"""

from __future__ import annotations

import lzma
import random
import shutil
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.errors import RespinError
from respin.formats.squashfs import SpliceCounters, SquashfsImage, splice_file
from respin.progress import SILENT
from respin.verify.squashfs import compare_squashfs
from tests.support.flatroots import observed, pack, unpack
from tests.support.images import (
    EPOCH,
    KiB,
    MiB,
    apply_changes,
    build_ext,
    debugfs,
    differing_blocks,
    fsck_clean,
    run,
    write_segments,
    write_sparse,
)

INNER = "M/rootfs.img"
COMPRESSORS: Dict[str, List[Sequence[str]]] = {
    "gzip": [(), ("-Xcompression-level", "2", "-Xwindow-size", "10"), ("-Xstrategy", "filtered,huffman_only")],
    "xz": [(), ("-Xbcj", "x86,arm"), ("-Xdict-size", "8K")],
    "zstd": [(), ("-Xcompression-level", "3")],
    "lz4": [(), ("-Xhc",)],
    "lzo": [(), ("-Xalgorithm", "lzo1x_1")],
}
LAYOUTS: List[Sequence[str]] = [
    (),
    ("-tailends",),
    ("-no-fragments",),
    ("-no-exports", "-tailends"),
    ("-noI", "-noD", "-noF", "-noX", "-tailends"),
    ("-noF", "-noId"),
    ("-no-sparse",),
]
FRAGMENT = -1  # stands for the fragment block in what :func:`stored_blocks` tells


def decompressor(compressor: str) -> Callable[[bytes], bytes]:
    if compressor == "gzip":
        return zlib.decompress
    if compressor == "xz":
        return lzma.decompress
    if compressor == "zstd":
        zstandard = pytest.importorskip("zstandard")
        return lambda data: zstandard.ZstdDecompressor().decompress(data, 8 * KiB)
    if compressor == "lz4":
        lz4 = pytest.importorskip("lz4.block")
        return lambda data: lz4.decompress(data, uncompressed_size=8 * KiB)
    lzo = pytest.importorskip("lzo")
    return lambda data: lzo.decompress(data, False, 8 * KiB)


def metadata(image: bytes, start: int, end: int, compressor: str) -> bytes:
    """The content of the metadata blocks from byte ``start`` up to ``end``."""
    unpacked, content = decompressor(compressor), b""
    while start < end:
        (header,) = struct.unpack_from("<H", image, start)
        data = image[start + 2 : start + 2 + (header & 0x7FFF)]
        content += data if header & 0x8000 else unpacked(data)
        start += 2 + len(data)
    return content


def stored_blocks(image: bytes, size: int, block: int, compressor: str) -> Dict[int, Tuple[int, bytes]]:
    """The size field and the stored bytes of every block of the one file of ``size`` bytes, and of its fragment."""
    inodes, directories, fragments = struct.unpack_from("<QQQ", image, 64)
    content = metadata(image, inodes, directories, compressor)
    for at in range(0, len(content) - 16, 4):
        kind, number = struct.unpack_from("<H10xI", content, at)
        if kind == 2 and 0 < number < 50 and struct.unpack_from("<I", content, at + 28)[0] == size:
            start, fragment = struct.unpack_from("<II", content, at + 16)
            fields = at + 32
            break
        if kind == 9 and 0 < number < 50 and struct.unpack_from("<Q", content, at + 24)[0] == size:
            (start,), (fragment,) = (struct.unpack_from(f, content, at + p) for f, p in (("<Q", 16), ("<I", 44)))
            fields = at + 56
            break
    else:
        raise AssertionError("no such inode")
    found = {}
    count = -(-size // block) if fragment == 0xFFFF_FFFF else size // block
    for number, (field,) in enumerate(struct.iter_unpack("<I", content[fields : fields + 4 * count])):
        length = field & 0xFFFFFF
        found[number] = field, image[start : start + length]
        start += length
    if fragment != 0xFFFF_FFFF:
        (table,) = struct.unpack_from("<Q", image, fragments)
        entries = metadata(image, table, table + 1, compressor)
        place, field = struct.unpack_from("<QI", entries, 16 * fragment)
        found[FRAGMENT] = field, image[place : place + (field & 0xFFFFFF)]
    return found


@dataclass
class Case:
    """A packed tree, and blocks of one file of it to be replaced."""

    compressor: str
    block: int
    options: Sequence[str]
    files: Dict[str, bytes]
    changed: Mapping[int, bytes]

    def check(self, tmp: Path) -> SpliceCounters:
        """Splice twice; compare with mksquashfs of the changed tree, and the blocks with those before."""
        options = ("-comp", self.compressor, "-b", str(self.block), "-all-time", str(EPOCH), "-no-duplicates")
        image = pack(self._write(tmp / "before", self.files), tmp / "image", *options, *self.options)
        content = self.files[INNER]
        after = {**self.files, INNER: apply_changes(content, self.changed, self.block)}
        reference = pack(self._write(tmp / "after", after), tmp / "reference", *options, *self.options)

        data = image.read_bytes()
        results = []
        for changed in (self.changed, dict(reversed(list(self.changed.items())))):
            result = splice_file(SquashfsImage.open(BytesView(data, "image")), INNER, changed)
            results.append(write_segments(image, result.segments, tmp / "new").read_bytes())
            assert len(results[-1]) == result.size
        assert results[0] == results[1]
        self._verify(data, results[0])
        assert observed(unpack(tmp / "new", tmp / "ours")) == observed(unpack(reference, tmp / "theirs"))

        old, new = (stored_blocks(one, len(content), self.block, self.compressor) for one in (data, results[0]))
        numbers = set(differing_blocks(content, after[INNER], self.block))
        assert old.keys() == new.keys()
        for number in old.keys() - numbers - {FRAGMENT}:
            assert new[number] == old[number], f"block {number} did not change"
        if FRAGMENT in old and len(content) // self.block not in numbers:
            assert new[FRAGMENT] == old[FRAGMENT]
        for number in numbers & new.keys():
            assert new[number] != old[number]
        counters = result.counters
        fields = [field for number, (field, _bytes) in new.items() if number != FRAGMENT]
        assert counters.holes == fields.count(0)
        assert counters.blocks == counters.holes + counters.stored == len(new)
        assert counters.recompressed == len(result.new_blocks)
        for number, (offset, length) in result.new_blocks.items():
            stored = new[number if number in new else FRAGMENT][1]
            assert results[0][offset : offset + length] == stored, number
        return counters

    def _verify(self, before: bytes, after: bytes) -> None:
        """Verification accepts the splice, and no other byte but in the file's own blocks and in packed tables."""
        base, image = (SquashfsImage.open(BytesView(data, "image")) for data in (before, after))
        compare_squashfs(image, base, INNER, SILENT)
        file = image.file(INNER)
        free = [(image.superblock.inode_table, image.superblock.bytes_used), (file.blocks.start, file.blocks.end)]
        if file.fragment is not None:
            fragment = image.fragments[file.fragment.fragment]
            free.append((fragment.offset, fragment.offset + fragment.stored_size))
        rng = random.Random(len(after))
        for at in [*range(0, 96, 7), *(rng.randrange(len(after)) for _ in range(20)), len(after) - 1]:
            if any(start <= at < end for start, end in free):
                continue
            other = bytearray(after)
            other[at] ^= 1 << rng.randrange(8)
            with pytest.raises(RespinError):
                compare_squashfs(SquashfsImage.open(BytesView(bytes(other), "other")), base, INNER, SILENT)

    def _write(self, root: Path, files: Mapping[str, bytes]) -> Path:
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_sparse(root / name, data)
        return root


def some_block(rng: random.Random, length: int) -> bytes:
    """Nothing, text, noise, or something in between."""
    kind = rng.randrange(5)
    if kind == 0:
        return bytes(length)
    if kind == 1:
        return (rng.choice((b"text ", b"other", b"a line\n")) * (length // 5 + 1))[:length]
    if kind == 2:
        return rng.randbytes(length)
    if kind == 3:
        return (rng.randbytes(length // 3 + 1) + bytes(length))[:length]
    return bytes(length - 1) + b"x" if length else b""


def compressor_options(rng: random.Random, compressor: str, block: int) -> Sequence[str]:
    """Options that mksquashfs takes with this block size."""
    return rng.choice([one for one in COMPRESSORS[compressor] if "8K" not in one or block >= 8 * KiB])


def any_case(compressor: str, seed: int) -> Case:
    """A case drawn by a seed."""
    rng = random.Random(seed)
    block = rng.choice((4 * KiB, 4 * KiB, 8 * KiB, 32 * KiB, 128 * KiB, MiB))
    most = 14 if block < 128 * KiB else 3
    content = b"".join(some_block(rng, block) for _ in range(rng.randrange(most)))
    content += some_block(rng, rng.choice((0, 0, 1, 100, block - 1, rng.randrange(block))))
    content = content or b"!"
    files = {INNER: content}
    for name in rng.sample(("A/first", "M/a", "M/z", "Z/last"), rng.randrange(5)):
        files[name] = b"".join(some_block(rng, block) for _ in range(rng.randrange(3))) + some_block(rng, 700)
        if len(files[name]) == len(content):
            files[name] += b"+"  # the raw reader finds a file by its size
    total = -(-len(content) // block)
    changed = {}
    for number in rng.sample(range(total), rng.randrange(min(total, 6) + 1)):
        length = min(block, len(content) - number * block)
        changed[number] = some_block(rng, length) if rng.random() < 0.9 else content[number * block :][:length]
    options = (*compressor_options(rng, compressor, block), *rng.choice(LAYOUTS))
    return Case(compressor, block, options, files, changed)


@pytest.mark.parametrize("compressor", list(COMPRESSORS))
@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=12, deadline=None)
def test_any_change_to_any_file(compressor: str, seed: int) -> None:
    decompressor(compressor)
    tmp = Path(tempfile.mkdtemp(prefix="nested"))
    try:
        any_case(compressor, seed).check(tmp)
    finally:
        shutil.rmtree(tmp)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("compressor", list(COMPRESSORS))
@pytest.mark.parametrize("start", range(0, 400, 100))
def test_four_hundred_changes(compressor: str, start: int, tmp_path: Path) -> None:
    decompressor(compressor)
    for seed in range(start, start + 100):
        any_case(compressor, seed).check(tmp_path / str(seed))
        shutil.rmtree(tmp_path / str(seed))


def changes_by_debugfs(rng: random.Random, tmp: Path) -> List[str]:
    """Commands that change a tree as an installation does."""
    (tmp / "new").write_bytes(rng.randbytes(rng.randrange(1, 300 * KiB)))
    (tmp / "text").write_bytes(b"a line of text\n" * rng.randrange(1, 20_000))
    commands = [
        f"write {tmp / 'new'} etc/new",
        f"write {tmp / 'text'} text-{rng.randrange(1000)}",
        "rm noise",
        f"mkdir directory-{rng.randrange(1000)}",
        "symlink etc/link ../text",
        f"ea_set etc/kept user.a {'value' * rng.randrange(1, 60)}",
        f"set_inode_field etc/kept mtime @{rng.randrange(1 << 31)}",
        "mknod pipe p",
    ]
    return rng.sample(commands, rng.randrange(1, len(commands) + 1))


@pytest.mark.parametrize("fs", ["ext2", "ext3", "ext4"])
@pytest.mark.parametrize("compressor", list(COMPRESSORS))
def test_any_change_inside_an_ext_image(tmp_path: Path, compressor: str, fs: str) -> None:
    decompressor(compressor)
    rng = random.Random(f"{compressor} {fs}")
    tree = {"noise": rng.randbytes(500_000), "etc/kept": b"kept" * 9000, "bin/program": Path("/bin/sh").read_bytes()}
    inner = build_ext(tmp_path / "ext", tree, fs=fs, size_mib=8, options=("-b", rng.choice(("1024", "4096"))))
    before = inner.read_bytes()
    debugfs(inner, *changes_by_debugfs(rng, tmp_path))
    fsck_clean(inner)
    after = inner.read_bytes()
    block = rng.choice((4 * KiB, 64 * KiB, 128 * KiB))
    numbers = differing_blocks(before, after, block)
    changed = {number: after[number * block : (number + 1) * block] for number in numbers}
    options = (*compressor_options(rng, compressor, block), *rng.choice(LAYOUTS))
    case = Case(compressor, block, options, {INNER: before, "M/note": b"a neighbour"}, changed)
    counters = case.check(tmp_path / "case")
    assert 0 < counters.recompressed <= len(numbers)
    run("unsquashfs", "-q", "-n", "-d", tmp_path / "out", tmp_path / "case/new")
    assert (tmp_path / "out" / INNER).read_bytes() == after
    fsck_clean(tmp_path / "out" / INNER)
