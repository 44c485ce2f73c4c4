"""Plain inodes told from the bytes of their slots: whatever is called plain is what the reader of inodes finds, too."""

from __future__ import annotations

import random
from typing import Dict, List, Optional, Tuple

import pytest

from respin.byteview import BytesView
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import REFUSED_FLAGS, ExtInode, parse_inode
from respin.formats.ext.plain import PlainSlots
from tests.support.images import Link, build_ext, debugfs

MUTATIONS = 20_000
# Offset and width: mode, size, links, flags, blocks, attribute block, further fields, attributes in the inode.
FIELDS = (
    *((0, 2), (4, 4), (26, 2), (32, 4)),
    *((40 + 4 * number, 4) for number in range(15)),
    *((104, 4), (108, 4), (118, 2), (128, 2), (156, 4), (160, 4), (164, 1), (165, 1), (166, 2), (168, 4), (172, 4)),
)
KINDS = {
    "ext2": (),
    "ext4": ("-I", "256"),
    "ext2-small": ("-b", "1024", "-I", "128"),
    "ext4-inline": ("-O", "inline_data", "-I", "256"),
    "ext4-large": ("-I", "1024"),
}


def _tree() -> "Dict[str, bytes | Link]":
    rng = random.Random(5)
    tree: "Dict[str, bytes | Link]" = {f"d/f{n}": rng.randbytes(n * n * 211) for n in range(14)}
    tree.update({"long": rng.randbytes(400_000), "sparse": bytes(60_000) + b"end", "empty/": b""})
    tree.update({"link": Link("d/f3"), "d/slow-link": Link("x" * 200)})
    return tree


@pytest.fixture(scope="module", params=sorted(KINDS))
def content(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    kind = str(request.param)
    image = tmp_path_factory.mktemp("plain") / "root.img"
    build_ext(image, _tree(), fs=kind.partition("-")[0], size_mib=8, options=KINDS[kind])
    labels = [f"ea_set /d/f{n} security.selinux system_u:object_r:bin_t:s0" for n in range(4, 12)]
    debugfs(image, *labels, "ea_set /d/f2 user.long " + "value" * 60, "ln d/f5 d/second", "sif d/second links_count 2")
    return image.read_bytes()


def in_full(image: ExtImage, inode: ExtInode) -> Optional[Tuple[int, int]]:
    """Where the content of a file or a link begins and ends, if it lies in one piece and nothing else describes it."""
    if not inode.is_file and not inode.is_symlink:
        return None
    image.xattrs(inode)
    if inode.is_symlink:
        image.readlink(inode)
    ranges, described = image.places(inode)
    if described or len(ranges) > 1 or (ranges and ranges[0].offset is None):
        return None
    start = ranges[0].offset if ranges else 0
    assert start is not None
    return start, start + inode.size


def found(data: bytes) -> Tuple[ExtImage, Dict[int, Tuple[int, int]], List[int]]:
    image = ExtImage.open(BytesView(data, "root.img"))
    plain: Dict[int, Tuple[int, int]] = {}
    others: List[int] = []
    for some, inodes in image.sorted_inodes():
        plain.update({number: (start, end) for number, start, end in some})
        others += [inode.number for inode in inodes]
    return image, plain, others


def test_every_inode_in_use_is_told_once(content: bytes) -> None:
    image, plain, others = found(content)
    used = [inode.number for inodes in image.used_inodes() for inode in inodes]
    assert sorted([*plain, *others]) == used


def test_what_is_plain_lies_where_the_reader_finds_it(content: bytes) -> None:
    image, plain, others = found(content)
    expected = {number: in_full(image, image.inode(number)) for number in (*plain, *others) if number > 10}
    assert plain.items() <= expected.items()
    paths = ["/d/f0", "/d/f1", "/d/f3", "/link"]
    if image.superblock.inode_size > 128:
        paths += ["/d/f5", "/d/f7"]  # their labels fit into the inode
    missing = [path for path in paths if image.stat(path).number not in plain and not image.stat(path).is_inline]
    assert not missing


def test_large_sparse_and_far_described_files_are_not_plain(content: bytes) -> None:
    image, plain, _ = found(content)
    paths = ["/", "/d", "/empty", "/sparse", "/d/f2", "/d/slow-link"]
    assert not [path for path in paths if image.stat(path).number in plain and in_full(image, image.stat(path)) is None]


def test_no_damage_is_called_plain(content: bytes) -> None:
    """Numbers of an inode's slot are spoiled: what is still plain must be what the reader says of the same slot."""
    rng = random.Random(11)
    image, plain, others = found(content)
    superblock = image.superblock
    size, slots = superblock.inode_size, PlainSlots(superblock)
    numbers = [number for number in (*plain, *others) if number >= superblock.first_inode]
    fields = [field for field in FIELDS if sum(field) <= size]
    told = 0
    for _ in range(MUTATIONS):
        number = rng.choice(numbers)
        at = image.inode_location(number)
        slot = bytearray(content[at : at + size])
        for offset, width in rng.choices(fields, k=rng.choice((1, 1, 2))):
            old = int.from_bytes(slot[offset : offset + width], "little")
            new = rng.choice((0, 1, old + 1, old - 1, old ^ 1 << rng.randrange(8 * width), rng.getrandbits(8)))
            slot[offset : offset + width] = (new & (1 << 8 * width) - 1).to_bytes(width, "little")
        for place in slots.sort(bytes(slot), number, at)[0]:
            inode = parse_inode(
                bytes(slot), number, block_size=superblock.block_size, large_directories=False, huge_files=False
            )
            assert (number, *(in_full(image, inode) or ())) == place, slot.hex()
            assert inode.nlink
            assert not inode.flags & REFUSED_FLAGS
            told += 1
    assert told > MUTATIONS // 20
