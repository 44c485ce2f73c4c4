"""Splicing changed blocks into a file of a squashfs, judged by unsquashfs, mksquashfs, the kernel and a raw reader."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import zlib
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Tuple

import pytest

from respin.byteview import FileView
from respin.formats.squashfs import SplicedSquashfs, SquashfsImage, splice_file
from tests.support.images import (
    KiB,
    apply_changes,
    build_nested,
    build_squashfs,
    differing_blocks,
    unsquash,
    write_segments,
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


def spliced(path: Path, output: Path, changed: Mapping[int, bytes], inner: str = INNER) -> SplicedSquashfs:
    with opened(path) as image:
        result = splice_file(image, inner, changed)
    write_segments(path, result.segments, output)
    assert output.stat().st_size == result.size
    return result


def write_sparse(path: Path, content: bytes) -> None:
    """Write with holes, which decides how mksquashfs counts sparse bytes."""
    with path.open("wb") as sink:
        for at in range(0, len(content), 4 * KiB):
            piece = content[at : at + 4 * KiB]
            if piece.count(0) != len(piece):
                sink.seek(at)
                sink.write(piece)
        sink.truncate(len(content))


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
