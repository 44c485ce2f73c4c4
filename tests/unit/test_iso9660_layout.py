"""The block map, the layout and new records as pure functions."""

from __future__ import annotations

from typing import List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.errors import BuildError, MalformedError, UnsupportedError, UsageError
from respin.formats.iso9660.blockmap import BlockMap, Splice
from respin.formats.iso9660.descriptors import Naming
from respin.formats.iso9660.fields import BLOCK
from respin.formats.iso9660.layout import Layout, NewFile, Piece, Place, Source, Target, lay_out
from respin.formats.iso9660.newrecord import sort_key
from respin.formats.iso9660.patches import Patch
from respin.formats.iso9660.plan import SplicePlan
from respin.segments import Copy, Data, Zeros

SPACE = 5_000
TAIL = 777 * 512


@st.composite
def targets(draw: st.DrawFn) -> "List[Target]":
    edges = sorted(draw(st.sets(st.integers(30, SPACE), min_size=2, max_size=10)))
    sizes = st.integers(0, 3_000_000)
    found = []
    for start, end in zip(edges[::2], edges[1::2]):
        old = (end - start) * BLOCK - draw(st.integers(0, BLOCK - 1))
        found.append(Target(f"/file-{start}", start, old, draw(sizes), Source.FILE))
    return found


@st.composite
def new_files(draw: st.DrawFn) -> "List[NewFile]":
    places = st.sampled_from([Place.BESIDE, Place.END])
    count = draw(st.integers(0, 4))
    files = [NewFile(f"/new-{i}", draw(st.integers(0, 200_000)), draw(places)) for i in range(count)]
    if draw(st.booleans()):
        files.append(NewFile("/slot", draw(st.integers(0, 14 * BLOCK)), Place.UNCHECKED))
    return files


@settings(max_examples=150, deadline=None)
@given(targets(), new_files())
def test_layouts_hold_their_promises(replaced: "List[Target]", added: "List[NewFile]") -> None:
    base_size = SPACE * BLOCK + TAIL
    layout = lay_out(base_size, SPACE, SPACE, replaced, added)
    position = 0
    copied = 0
    for piece in layout.pieces:
        assert piece.offset == position
        assert piece.length > 0
        position += piece.length
        if piece.base_offset is not None:
            assert piece.base_offset >= copied  # the old image's bytes keep their order, and none comes twice
            copied = piece.base_offset + piece.length
            if piece.base_offset % BLOCK == 0:
                assert layout.blocks.byte(piece.base_offset) == piece.offset
    assert position == layout.size
    assert (layout.size - base_size) % (1 << 20) == 0
    base = [piece for piece in layout.pieces if piece.source is Source.BASE]
    assert sum(piece.length for piece in base) == base_size - sum(t.blocks for t in replaced) * BLOCK
    assert base[-1].base_offset is not None
    assert base[-1].base_offset + base[-1].length == base_size
    assert base[-1].offset + base[-1].length == layout.size
    assert layout.volume_space_size == SPACE + layout.blocks.total
    for target in replaced:
        assert layout.placed[target.name] == layout.blocks.block(target.start)
    checked = (layout.volume_space_size - 15) * BLOCK
    for file in added:
        start = layout.placed.get(file.path, 0) * BLOCK
        if file.place is Place.UNCHECKED and file.size:
            assert start >= checked
            assert start + file.size <= (layout.volume_space_size - 1) * BLOCK
        elif file.place is Place.END:
            assert start + file.size <= checked


@pytest.mark.parametrize(("blocks", "grown"), [(1, 512), (512 - 15, 512), (512 - 14, 1024)])
def test_the_volume_grows_by_the_mib_that_are_needed(blocks: int, grown: int) -> None:
    files = [NewFile("/statement", blocks * BLOCK, Place.END), NewFile("/slot", 14 * BLOCK, Place.UNCHECKED)]
    layout = lay_out(SPACE * BLOCK + TAIL, SPACE, SPACE, [], files)
    assert layout.volume_space_size == SPACE + grown
    assert layout.placed == {"/statement": SPACE, "/slot": SPACE + grown - 15}


@settings(max_examples=100, deadline=None)
@given(targets())
def test_the_map_is_monotone_and_keeps_page_alignment(replaced: "List[Target]") -> None:
    layout = lay_out(SPACE * BLOCK, SPACE, SPACE, replaced, [])
    kept = [b for b in range(SPACE) if layout.blocks.covering(b) is None]
    mapped = [layout.blocks.block(b) for b in kept]
    assert all(a < b for a, b in zip(mapped, mapped[1:]))
    assert all((new - old) % 2 == 0 for old, new in zip(kept, mapped))


def test_numbers_inside_a_replaced_extent_and_behind_the_end() -> None:
    blocks = BlockMap((Splice(10, 10, 5 * BLOCK, 9 * BLOCK, 9),), 100, 0, 100)
    assert [blocks.block(b) for b in (9, 10, 15, 99)] == [9, 10, 19, 103]
    assert blocks.approximate(12) == 10
    assert blocks.approximate(1 << 31) == 1 << 31
    with pytest.raises(UnsupportedError, match="block 12"):
        blocks.block(12)
    with pytest.raises(MalformedError, match="behind its end"):
        blocks.block(100)


def test_ends_of_partitions() -> None:
    blocks = BlockMap((Splice(10, 10, 5 * BLOCK - 100, 9 * BLOCK - 1000, 10),), 100, 507, 120)
    assert blocks.total == 512
    assert blocks.end_sector(0, 400) == 400 + 512 * 4  # with the volume
    assert blocks.end_sector(0, 470) == 470 + 512 * 4  # in what follows it
    assert blocks.end_sector(0, 40) == 40
    assert blocks.end_sector(0, 80) == 100
    assert blocks.end_sector(40, 60) == 40 + 36  # the file's blocks
    assert BlockMap((Splice(10, 10, 1000, 3000, 2),), 100, 0, 100).end_sector(40, 42) == 46  # the file's sectors
    with pytest.raises(UnsupportedError, match="sector 50"):
        blocks.end_sector(0, 50)


@pytest.mark.parametrize(
    ("naming", "identifiers"),
    [
        (Naming.ISO9660, [b"A.;1", b"A.B;1", b"A1.A;1", b"AB", b"B.A;1"]),
        (Naming.JOLIET, ["A".encode("utf-16-be"), "B".encode("utf-16-be"), "a".encode("utf-16-be")]),
    ],
)
def test_the_order_of_records(naming: Naming, identifiers: "List[bytes]") -> None:
    assert sorted(reversed(identifiers), key=lambda i: sort_key(naming, i)) == identifiers


def _plan() -> SplicePlan:
    blocks = BlockMap((), 2, 0, 2)
    pieces = (Piece(Source.BASE, 0, 10, 0), Piece(Source.FILE, 10, 3, None, "/f"), Piece(Source.ZEROS, 13, 7))
    origins = (
        Piece(Source.BASE, 0, 4, 0),
        Piece(Source.PATCH, 4, 2, 4, "x"),
        Piece(Source.BASE, 6, 4, 6),
        *pieces[1:],
    )
    layout = Layout(blocks, pieces, {"/f": 0}, 2, 15, 20)
    return SplicePlan(layout, (Patch(4, b"PP", "x"),), {"/f": (10, 3)}, None, origins, tuple(p.offset for p in origins))


def test_segments_and_origins() -> None:
    plan = _plan()
    assert list(plan.segments({"/f": [Copy(1, 2), Data(b"z")]})) == [
        Copy(0, 4),
        Data(b"PP"),
        Copy(6, 4),
        Copy(1, 2),
        Data(b"z"),
        Zeros(7),
    ]
    assert [plan.origin(at).source for at in (0, 3, 4, 5, 6, 10, 19)] == [
        Source.BASE,
        Source.BASE,
        Source.PATCH,
        Source.PATCH,
        Source.BASE,
        Source.FILE,
        Source.ZEROS,
    ]
    with pytest.raises(UsageError):
        plan.origin(20)


@pytest.mark.parametrize(
    ("content", "words"),
    [({}, "not given"), ({"/f": [Data(b"zz")]}, "planned with 3"), ({"/f": [Data(b"zzz")], "/g": []}, "not planned")],
)
def test_content_that_does_not_fit_the_plan(content: "dict[str, list[Data]]", words: str) -> None:
    with pytest.raises(BuildError, match=words):
        list(_plan().segments(content))
