"""A squashfs that a reader of ours goes through otherwise than the kernel does: refused where it could mislead."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Callable

import pytest

from respin.byteview import BytesView
from respin.errors import MalformedError, RespinError, UnsupportedError
from respin.formats.squashfs import SquashfsImage, splice_file
from respin.formats.squashfs import replay as replay_module
from respin.formats.squashfs.changes import Changes, Encoded
from respin.formats.squashfs.inode import read_block_list, read_inode
from respin.formats.squashfs.lookup import STORED_BIT
from respin.formats.squashfs.metadata import BytesCursor
from respin.formats.squashfs.mountable import require_mountable
from respin.formats.squashfs.splice import spliced
from respin.formats.squashfs.tables import pack_metadata
from respin.formats.squashfs.xattr import Xattrs
from respin.limits import LIMITS
from respin.progress import SILENT
from respin.verify.squashfs import compare_squashfs
from tests.support.images import KiB, build_squashfs
from tests.support.splicing import joined

BLOCK = 4 * KiB
INNER = "/LiveOS/ext3fs.img"
NO_FRAGMENT = 0xFFFF_FFFF


def opened(data: bytes) -> SquashfsImage:
    return SquashfsImage.open(BytesView(data, "image"))


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A squashfs with one file, of blocks that do not shrink."""
    source = tmp_path_factory.mktemp("source")
    (source / "LiveOS").mkdir()
    (source / "LiveOS/ext3fs.img").write_bytes(os.urandom(5 * BLOCK))
    image = build_squashfs(source.parent / "vendors", source, block_size=BLOCK, options=("-no-fragments",))
    return image.read_bytes()


def test_what_another_compressor_made_of_the_same_is_accepted(vendors: bytes) -> None:
    base = opened(vendors)
    file = base.file(INNER)
    new = Encoded(bytes(BLOCK - 1) + b"x", BLOCK | STORED_BIT)  # zlib would have packed it

    def stored(_position: int, content: bytes, _store: bool) -> bytes:
        return pack_metadata(base.codec, content, store=True)

    result = spliced(base, file, Changes({2: new}, None), file.size, stored)
    assert compare_squashfs(opened(joined(vendors, result.segments)), base, INNER, SILENT) == [
        *(True, True, False, True, True)
    ]


def test_more_changes_than_fit_into_memory(vendors: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes the image decides how many blocks differ; they are held in memory."""
    base = opened(vendors)
    changed = {number: os.urandom(BLOCK) for number in range(5)}
    forged = opened(joined(vendors, splice_file(base, INNER, changed).segments))
    assert compare_squashfs(forged, base, INNER, SILENT) == [False] * 5
    monkeypatch.setattr(replay_module, "LIMITS", LIMITS._replace(changed_blocks=5 * BLOCK - 1))
    with pytest.raises(UnsupportedError) as caught:
        compare_squashfs(forged, base, INNER, SILENT)
    assert caught.value.finding == "too-large"


def metadata(content: bytes) -> bytes:
    return struct.pack("<H", 0x8000 | len(content)) + content


def with_an_index_that_leads_elsewhere(data: bytes) -> bytes:
    """/LiveOS as an extended directory: by its index its one name is found in a block where it is another inode's."""
    image = opened(data)
    superblock, file = image.superblock, image.file(INNER)
    live, root = image.stat("/LiveOS"), image.root

    def regular(start: int) -> bytes:
        fields = struct.pack("<HHHHIIIIII", 2, 0o644, 0, 0, live.mtime, 1, start, NO_FRAGMENT, 0, file.size)
        return fields + file.blocks.sizes.tobytes()

    def listing(place: int, number: int, kind: int, name: bytes) -> bytes:
        return struct.pack("<III", 0, 0, number) + struct.pack("<HhHH", place, 0, kind, len(name) - 1) + name

    good = regular(file.blocks.start)
    other = regular(superblock.inode_table)
    index = struct.pack("<III", 0, 8194, 0) + b"A"
    first = listing(0, 1, 2, b"ext3fs.img")
    directory = struct.pack("<HHHHII", 8, live.mode & 0o7777, 0, 0, live.mtime, 2)
    directory += struct.pack("<IIIIHHI", 2, len(first) + 3, 0, 3, 1, 0, NO_FRAGMENT) + index
    top = listing(len(good) + len(other), 2, 1, b"LiveOS")
    inodes = good + other + directory + struct.pack("<HHHHII", 1, root.mode & 0o7777, 0, 0, root.mtime, 3)
    at = len(good) + len(other) + len(directory)
    inodes += struct.pack("<IIHHI", 0, 3, len(top) + 3, len(first), 4)
    evil = bytes(file.size)[: file.size - 4] + b"evil"
    out = data[: superblock.inode_table] + evil
    places = [len(out)]
    out += metadata(inodes)
    places.append(len(out))
    out += metadata((first + top).ljust(8192, b"\0")) + metadata(listing(len(good), 1, 2, b"ext3fs.img"))
    places.append(len(out))
    ids = len(out)
    out += metadata(struct.pack("<I", 0)) + struct.pack("<Q", ids)
    head = bytearray(data[:96])
    struct.pack_into("<I", head, 4, 3)
    struct.pack_into("<Q", head, 32, at)
    struct.pack_into(
        "<QQQQQQQ", head, 40, len(out), len(out) - 8, 0xFFFF_FFFF_FFFF_FFFF, *places, 0xFFFF_FFFF_FFFF_FFFF
    )
    flags = struct.unpack_from("<H", head, 24)[0] & ~0x80
    struct.pack_into("<H", head, 24, flags)
    return bytes(head) + out[96:] + bytes(-len(out) % 4096)


def with_bytes_behind_the_tables(data: bytes) -> bytes:
    """The image says that eight bytes more belong to it: Linux then finds no table of ids, and mounts nothing."""
    changed = bytearray(data)
    struct.pack_into("<Q", changed, 40, opened(data).superblock.bytes_used + 8)
    return bytes(changed)


def with_a_superblock_of_something_else(data: bytes) -> bytes:
    return data + bytes(2 * 4096) + b"\xfc\x4e\x2b\xa9".ljust(4096, b"\0")


@pytest.mark.parametrize(
    "forge", [with_an_index_that_leads_elsewhere, with_bytes_behind_the_tables, with_a_superblock_of_something_else]
)
def test_what_only_the_kernel_would_see(vendors: bytes, forge: Callable[[bytes], bytes]) -> None:
    """Our reader sees the vendor's file in each of them."""
    forged, base = opened(forge(vendors)), opened(vendors)
    assert forged.read_file(INNER) == base.read_file(INNER)
    with pytest.raises(RespinError) as caught:
        compare_squashfs(forged, base, INNER, SILENT)
    assert caught.value.finding in ("not-the-vendors", "malformed")


def inode(permissions: int = 0o644, size: int = BLOCK, fragment: int = NO_FRAGMENT, field: int = 100) -> BytesCursor:
    raw = struct.pack("<HHHHIIIIII", 2, permissions, 0, 0, 0, 1, 96, fragment, 0, size)
    return BytesCursor(raw + struct.pack("<I", field), "inode table")


def read(cursor: BytesCursor) -> None:
    found = read_inode(cursor, (0,), BLOCK, 1, "image")
    read_block_list(cursor, found, BLOCK, 1 << 20, "image")


@pytest.mark.parametrize(
    "damage",
    [
        {"permissions": 0o644 | 0o040000},
        {"permissions": 0o644 | 0o100000},
        {"fragment": 0},
        {"size": 0, "fragment": 0},
        {"field": STORED_BIT},
    ],
    ids=str,
)
def test_inodes_that_linux_does_not_read(damage: "dict[str, int]") -> None:
    read(inode())
    with pytest.raises(MalformedError) as caught:
        read(inode(**damage))
    assert caught.value.finding == "malformed"


def test_an_attribute_that_linux_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    file = tmp_path / "root/file"
    file.write_bytes(b"")
    try:
        os.setxattr(file, "security.some", b"value")
    except OSError:
        pytest.skip("no such attributes here")
    image = build_squashfs(tmp_path / "image", tmp_path / "root", options=("-noX",))
    data = bytearray(image.read_bytes())
    base = opened(bytes(data))
    number = base.stat("/file").xattr
    assert number is not None
    assert base.xattrs(base.stat("/file")) == {"security.some": b"value"}
    require_mountable(base)
    at = bytes(data).index(struct.pack("<HH", 2, len("some")) + b"some")
    struct.pack_into("<H", data, at, 0x202)
    start = base.superblock.xattr_table
    assert start is not None
    with pytest.raises(MalformedError):
        Xattrs(BytesView(bytes(data), "image"), base.codec, start)[number]


@pytest.mark.parametrize("options", [(), ("-no-exports",), ("-no-fragments",), ("-no-xattrs",), ("-noId", "-noI")])
def test_tables_that_linux_mounts(tmp_path: Path, options: "tuple[str, ...]") -> None:
    root = tmp_path / "root"
    root.mkdir()
    for number in range(600):
        (root / str(number)).write_bytes(str(number).encode() * (number % 7))
    data = bytearray(build_squashfs(tmp_path / "image", root, options=options).read_bytes())
    image = opened(bytes(data))
    require_mountable(image)
    for more in (8, -8):
        struct.pack_into("<Q", data, 40, image.superblock.bytes_used + more)
        with pytest.raises(RespinError):
            require_mountable(opened(bytes(data)))
