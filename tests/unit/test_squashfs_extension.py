"""Telling that one squashfs holds another whole, and comparing the two by what has moved."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Iterator, Set

import pytest

from respin.byteview import BytesView
from respin.errors import MalformedError
from respin.formats.squashfs import SquashfsImage
from respin.formats.squashfs.extension import Extension, differences, read_extension
from respin.formats.squashfs.merge import merge_changes
from respin.formats.squashfs.root import SquashfsRoot
from respin.formats.squashfs.superblock import ABSENT
from tests.support.flatroots import Maker, Root, pack, request, write_root
from tests.support.images import KiB, write_segments


def opened(data: bytes) -> SquashfsImage:
    return SquashfsImage.open(BytesView(data, "image"))


class World:
    """A vendor's image, and one that was made of it."""

    def __init__(self, tmp: Path, seed: int, options: "tuple[str, ...]" = ()) -> None:
        maker = Maker(random.Random(seed), 4 * KiB)
        self.before: Root = maker.root(200)
        self.after = maker.changed(self.before, 15)
        self.options = ("-b", "4K", *options)
        vendor = pack(write_root(self.before, tmp / "before"), tmp / "vendor", *self.options)
        self.vendor = vendor.read_bytes()
        result = merge_changes(opened(self.vendor), request(self.before, self.after))
        self.output = write_segments(vendor, result.segments, tmp / "output").read_bytes()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), 4, ("-noI", "-noX", "-noF", "-noId"))


def above(path: str) -> Iterator[str]:
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


@pytest.mark.parametrize("seed", range(5))
def test_what_has_moved_is_what_was_asked_for(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, seed)
    before, after = opened(world.vendor), opened(world.output)
    extension = read_extension(before, after)
    assert extension is not None
    assert (
        world.vendor[extension.data_start : extension.data_end]
        == world.output[96 : extension.data_end][extension.data_start - 96 :]
    )
    moved = {path for path, _old, _new in differences(SquashfsRoot(before), SquashfsRoot(after), extension)}
    wanted: Set[str] = {change.path for change in request(world.before, world.after)}
    for path in world.before.keys() & world.after.keys():
        # Another number of names is another inode.
        links = [sum(1 for other in root.values() if other is root[path]) for root in (world.before, world.after)]
        if links[0] != links[1]:
            wanted.add(path)
    wanted |= {parent for path in wanted for parent in above(path)}
    assert moved == wanted - {"/"}
    assert len(moved) < len(world.before)


def test_what_is_covered() -> None:
    extension = Extension(96, 1000, last_block=500, last_length=40)
    assert [extension.covers(at) for at in (0, 499 << 16 | 8191, 500 << 16 | 39)] == [True] * 3
    assert [extension.covers(at) for at in (500 << 16 | 40, 501 << 16)] == [False] * 2


def test_an_image_extends_itself(world: World) -> None:
    image = opened(world.vendor)
    extension = read_extension(image, image)
    assert extension is not None
    assert list(differences(SquashfsRoot(image), SquashfsRoot(image), extension)) == []
    assert read_extension(opened(world.output), image) is None


def test_an_image_that_was_made_anew(world: World, tmp_path: Path) -> None:
    other = pack(write_root(world.after, tmp_path / "after"), tmp_path / "image", *world.options)
    assert read_extension(opened(world.vendor), opened(other.read_bytes())) is None


@pytest.mark.parametrize("table", ["inode", "directory", "fragment", "id", "xattr"])
@pytest.mark.parametrize("at_end", [False, True])
def test_one_byte_of_a_table_is_another(world: World, table: str, at_end: bool) -> None:
    """Tables are not compressed here: the byte is one of the vendor's, in the first or last block of a table."""
    vendor, superblock = opened(world.vendor), opened(world.output).superblock
    output = bytearray(world.output)
    if table == "inode":
        start, length = superblock.inode_table, vendor.inode_table.end - vendor.inode_table.start
    elif table == "directory":
        start, length = superblock.directory_table, vendor.directory_table.end - vendor.directory_table.start
    else:
        index = {"fragment": superblock.fragment_table, "id": superblock.id_table, "xattr": superblock.xattr_table}[
            table
        ]
        assert index is not None
        (start,) = struct.unpack_from("<Q", output, index)
        length = 2 + 4  # of the first entry
    output[start + length - 1 if at_end else start + 2] ^= 1
    try:
        assert read_extension(opened(world.vendor), opened(bytes(output))) is None
    except MalformedError:
        assert table in ("xattr", "inode")


@pytest.mark.parametrize(("field", "layout"), [(8, "<I"), (24, "<H"), (88, "<Q")], ids=["time", "flags", "exports"])
def test_the_superblock_says_something_else(world: World, field: int, layout: str) -> None:
    output = bytearray(world.output)
    if field == 88:
        struct.pack_into(layout, output, field, ABSENT)
    else:
        output[field] ^= 0x40
    assert read_extension(opened(world.vendor), opened(bytes(output))) is None
