"""Where replaced files, new files and grown directories go, and what the new image therefore consists of.

Pure: sizes in, block numbers out. The old image's blocks keep their order. The image grows by whole cylinders (of
one MiB, as isohybrid's are, or what the partition table says), so that it goes on ending with one, and that the backup
partition table at the very end and 4 KiB alignment survive.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from respin.formats.iso9660.blockmap import BlockMap, Splice
from respin.formats.iso9660.fields import BLOCK, blocks_for, round_up

MIB_BLOCKS = 512
PAGE_BLOCKS = 2
"""Each splice keeps the alignment to 4 KiB of what follows it."""
UNCHECKED_BLOCKS = 15
"""What the media check skips at the end of the file system."""


class Place(Enum):
    """Where a new file's content goes."""

    BESIDE = "beside"
    """Right behind the largest replaced file."""
    END = "end"
    """At the end of the file system, still covered by the media check."""
    UNCHECKED = "unchecked"
    """Within the last 15 blocks of the file system, which the media check skips; never in the very last block."""


class NewFile(NamedTuple):
    """A file to be added: its absolute path, its size in bytes, where its content goes. The directory exists."""

    path: str
    size: int
    place: Place = Place.BESIDE

    @property
    def parent(self) -> str:
        """The path of its directory."""
        return self.path.rpartition("/")[0] or "/"

    @property
    def name(self) -> str:
        """Its name in that directory."""
        return self.path.rpartition("/")[2]


class Target(NamedTuple):
    """An extent to be replaced: first block, old and new size in bytes.

    ``name`` is a file's path, or what the layout calls a directory that grows (``source`` says which).
    """

    name: str
    start: int
    old_size: int
    new_size: int
    source: "Source"
    parts: int = 1
    """How many extents the old content is recorded in; they follow each other."""

    @property
    def blocks(self) -> int:
        return blocks_for(self.old_size)


class Source(Enum):
    """Where bytes of the new image come from."""

    BASE = "base"
    FILE = "file"
    ZEROS = "zeros"
    DIRECTORY = "directory"
    """A directory that grows; a patch holds all its bytes."""
    PATCH = "patch"


class Piece(NamedTuple):
    """A run of bytes of the new image, at byte ``offset`` of it."""

    source: Source
    offset: int
    length: int
    base_offset: Optional[int] = None
    """Where the bytes stand in the old image (BASE)."""
    name: Optional[str] = None
    """The path of the file whose content it is (FILE)."""


class Layout(NamedTuple):
    """The outcome: block map, gap-free pieces, first new block of every replaced extent and new file by name."""

    blocks: BlockMap
    pieces: Tuple[Piece, ...]
    placed: Mapping[str, int]
    volume_space_size: int
    unchecked: int
    """How many blocks at the end of the volume the media check must leave out: 15, or more if content demands it."""
    size: int


@dataclass
class _Region:
    """An extent that gives way, and the items that stand there instead: (source, name, size in bytes)."""

    target: Target
    items: List[Tuple[Source, str, int]]
    new_blocks: int = 0


class _Pieces:
    """Collects pieces and remembers where named ones begin."""

    def __init__(self) -> None:
        self.pieces: List[Piece] = []
        self.placed: Dict[str, int] = {}
        self.position = 0

    def base(self, start: int, end: int) -> None:
        self._add(Source.BASE, end - start, base_offset=start)

    def zeros(self, length: int) -> None:
        self._add(Source.ZEROS, length)

    def item(self, source: Source, name: str, size: int) -> None:
        self.placed[name] = self.position // BLOCK
        self._add(source, size, name=name)
        self.zeros(-size % BLOCK)

    def _add(self, source: Source, length: int, base_offset: Optional[int] = None, name: Optional[str] = None) -> None:
        if length:
            self.pieces.append(Piece(source, self.position, length, base_offset, name))
            self.position += length


def lay_out(
    base_size: int,
    space_size: int,
    insertion: int,
    targets: Sequence[Target],
    new_files: Sequence[NewFile],
    step: int = MIB_BLOCKS,
) -> Layout:
    """Lay out the new image.

    ``base_size`` is the old image's size in bytes, ``space_size`` its volume's in blocks, ``insertion`` the block
    before which the file system grows at its end. The image grows or shrinks by a multiple of ``step`` blocks.
    """
    regions = [_Region(t, [(t.source, t.name, t.new_size)]) for t in sorted(targets, key=lambda t: t.start)]
    files = [region for region in regions if region.target.source is Source.FILE]
    largest = max(files, key=lambda region: region.target.blocks) if files else None
    beside = [(Source.FILE, f.path, f.size) for f in new_files if f.place is Place.BESIDE]
    at_end = [(Source.FILE, f.path, f.size) for f in new_files if f.place is Place.END]
    unchecked = [(Source.FILE, f.path, f.size) for f in new_files if f.place is Place.UNCHECKED]
    if largest is not None:
        largest.items += beside
    else:
        at_end = beside + at_end
    shift = 0
    for region in regions:
        used = sum(blocks_for(size) for _, _, size in region.items)
        region.new_blocks = used + (region.target.blocks - used) % PAGE_BLOCKS
        shift += region.new_blocks - region.target.blocks
    end = sum(blocks_for(size) for _, _, size in at_end)
    inserted = 0
    if at_end or unchecked:
        inserted = round_up(shift + end + UNCHECKED_BLOCKS, step) - shift
    elif largest is not None:
        largest.new_blocks += round_up(shift, step) - shift
    return _assemble(base_size, space_size, insertion, regions, at_end, unchecked, inserted)


def _assemble(
    base_size: int,
    space_size: int,
    insertion: int,
    regions: Sequence[_Region],
    at_end: Sequence[Tuple[Source, str, int]],
    unchecked: Sequence[Tuple[Source, str, int]],
    inserted: int,
) -> Layout:
    out = _Pieces()
    splices = []
    position = 0
    for region in regions:
        target = region.target
        out.base(position * BLOCK, target.start * BLOCK)
        new_start = out.position // BLOCK
        for source, name, size in region.items:
            out.item(source, name, size)
        out.zeros((new_start + region.new_blocks) * BLOCK - out.position)
        splices.append(Splice(target.start, new_start, target.old_size, target.new_size, region.new_blocks))
        position = target.start + target.blocks
    blocks = BlockMap(tuple(splices), insertion, inserted, blocks_for(base_size))
    volume_end = space_size + blocks.total
    skipped = UNCHECKED_BLOCKS
    if inserted:
        out.base(position * BLOCK, insertion * BLOCK)
        end = out.position // BLOCK + inserted
        for source, name, size in at_end:
            out.item(source, name, size)
        out.zeros((end - UNCHECKED_BLOCKS) * BLOCK - out.position)
        if unchecked:
            skipped = volume_end - out.position // BLOCK
        for source, name, size in unchecked:
            out.item(source, name, size)
        out.zeros(end * BLOCK - out.position)
        position = insertion
    out.base(position * BLOCK, base_size)
    return Layout(blocks, tuple(out.pieces), out.placed, volume_end, skipped, out.position)
