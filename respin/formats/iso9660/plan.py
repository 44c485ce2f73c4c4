"""Planning a splice: which bytes the new image consists of, all of it known before one is written.

Everything that no patch and no piece of new content names is copied from the old image, and is thus unchanged by
construction.
"""

from __future__ import annotations

import bisect
from collections import deque
from dataclasses import dataclass, field
from typing import Iterator, Mapping, Optional, Sequence, Tuple

from respin.errors import BuildError, RespinError, UnsupportedError, UsageError
from respin.formats.iso9660.ends import insertion_point
from respin.formats.iso9660.fields import BLOCK, blocks_for
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.layout import UNCHECKED_BLOCKS, Layout, NewFile, Piece, Place, Source, lay_out
from respin.formats.iso9660.parents import require_parents
from respin.formats.iso9660.partitions import growth_step
from respin.formats.iso9660.patches import Patch, PatchSet
from respin.formats.iso9660.rebuilt import RebuiltDirectory, plan_directories
from respin.formats.iso9660.references import tree_references
from respin.formats.iso9660.relocate_boot import boot_record_edits, catalog_edits, system_area_edits
from respin.formats.iso9660.relocate_tree import Moves, descriptor_edits, node_edits, path_table_edits
from respin.formats.iso9660.separable import (
    find_targets,
    require_disjoint,
    require_separable,
    require_whole_partitions,
)
from respin.formats.iso9660.support import require_spliceable
from respin.segments import Copy, Data, Segment, Zeros, total

MAX_UNCHECKED = UNCHECKED_BLOCKS - 1


@dataclass(frozen=True)
class SplicePlan:
    """The new image. Offsets and sizes are bytes, of the new image unless said otherwise."""

    layout: Layout
    patches: Tuple[Patch, ...]
    files: Mapping[str, Tuple[int, int]]
    """Offset and size of every replaced and every new file, by absolute path."""
    media_check_field: Optional[Tuple[int, int]]
    """Offset and size of the field that holds a media check; None when the old image has none."""
    origins: Tuple[Piece, ...] = field(repr=False)
    """The pieces cut where patches change them: every byte of the new image with where it comes from."""
    starts: Tuple[int, ...] = field(repr=False)
    """The offsets of :attr:`origins`."""

    @property
    def pieces(self) -> Tuple[Piece, ...]:
        """The new image before patches: ordered, without gaps."""
        return self.layout.pieces

    @property
    def size(self) -> int:
        return self.layout.size

    @property
    def volume_space_size(self) -> int:
        """The new volume's size in blocks."""
        return self.layout.volume_space_size

    @property
    def unchecked_blocks(self) -> int:
        """How many blocks at the end of the volume the media check has to leave out."""
        return self.layout.unchecked

    def origin(self, offset: int) -> Piece:
        """The piece of :attr:`origins` in which byte ``offset`` lies; UsageError outside the image."""
        if not 0 <= offset < self.size:
            raise UsageError(f"byte {offset} is outside the image of {self.size} bytes")
        return self.origins[bisect.bisect_right(self.starts, offset) - 1]

    def segments(self, content: Mapping[str, Sequence[Segment]]) -> Iterator[Segment]:
        """The whole new image as segments over the old one.

        ``content`` gives the segments of every path in :attr:`files`; copies in it count from the old image's start.
        Raises BuildError when a content is missing, not planned, or not of the planned size.
        """
        for path in sorted(set(content) ^ set(self.files)):
            raise BuildError(f"the content of {path} was " + ("not given" if path in self.files else "not planned"))
        for path, (_, size) in self.files.items():
            if (given := total(content[path])) != size:
                raise BuildError(f"{path} was planned with {size} bytes and has {given}")
        patches = {patch.offset: patch for patch in self.patches}
        for piece in self.origins:
            if piece.source is Source.PATCH:
                yield Data(patches[piece.offset].data)
            elif piece.source is Source.FILE and piece.name is not None:
                yield from content[piece.name]
            elif piece.base_offset is not None:
                yield Copy(piece.base_offset, piece.length)
            else:
                yield Zeros(piece.length)


def plan_splice(image: IsoImage, replace: Mapping[str, int], add: Sequence[NewFile] = ()) -> SplicePlan:
    """Plan to replace files of ``image`` (absolute path to new size in bytes) and to add files to its directories.

    A replaced file is replaced under all its names, in all trees. Raises UnsupportedError for layouts that are not
    handled, MalformedError for damaged ones, UsageError for requests that make no sense.
    """
    try:
        return _plan(image, replace, add)
    except RespinError as error:
        error.where = error.where or image.name  # the block map is pure arithmetic and knows no name
        raise


def _plan(image: IsoImage, replace: Mapping[str, int], add: Sequence[NewFile]) -> SplicePlan:
    require_spliceable(image)
    occupied = tuple(tree_references(image))
    require_disjoint(image, occupied)
    _check_new_files(add)
    require_parents(list(image.listing.directories), add, image.name)
    targets = find_targets(image, replace)
    insertion = insertion_point(image, occupied)
    rebuilt = plan_directories(image.trees, add, targets, image.name)
    growing = [target for target in (directory.target() for directory in rebuilt.values()) if target is not None]
    require_separable(image, occupied, targets + growing, insertion)
    require_whole_partitions(image, targets + growing, insertion, grows=bool(add))
    step = growth_step(image.system_area)
    layout = lay_out(image.view.size, image.volume_space_size, insertion, targets + growing, add, step)
    moves = Moves(
        blocks=layout.blocks,
        replaced={target.start: target.new_size for target in targets},
        directories={block: (layout.blocks.block(block), one.size) for block, one in rebuilt.items()},
    )
    patches = _patches(image, layout, moves, rebuilt)
    sizes = {**{target.name: target.new_size for target in targets}, **{file.path: file.size for file in add}}
    has_check = image.application_use.startswith(b"ISO MD5SUM = ")
    origins = tuple(_cut(layout.pieces, patches))
    return SplicePlan(
        layout=layout,
        patches=patches,
        files={path: (layout.placed[path] * BLOCK, size) for path, size in sizes.items()},
        media_check_field=(image.application_use_offset, len(image.application_use)) if has_check else None,
        origins=origins,
        starts=tuple(piece.offset for piece in origins),
    )


def _check_new_files(add: Sequence[NewFile]) -> None:
    unchecked = [file for file in add if file.place is Place.UNCHECKED]
    if len(unchecked) > 1 or any(blocks_for(file.size) > MAX_UNCHECKED for file in unchecked):
        raise UsageError(
            f"only one file of at most {MAX_UNCHECKED * BLOCK} bytes fits where the media check doesn't look"
        )
    if len({file.path for file in add}) != len(add):
        raise UsageError("two new files have the same name")
    if any(file.size < 0 for file in add):
        raise UsageError("a new file has less than no bytes")


def _patches(
    image: IsoImage, layout: Layout, moves: Moves, rebuilt: Mapping[int, RebuiltDirectory]
) -> Tuple[Patch, ...]:
    patches = PatchSet(image.view, layout.blocks)
    for tree in image.trees:
        for volume in tree.volumes:
            for edit in descriptor_edits(volume, moves):
                patches.edit(edit)
            for edit in path_table_edits(image.view, volume, tree, moves):
                patches.edit(edit)
        for directory in tree.directories.values():
            new = rebuilt.get(directory.extent)
            if new is not None:
                data, outside = new.encode(moves, layout.placed, image.name)
                patches.add(Patch(moves.directory(directory.extent) * BLOCK, data, "directory"))
                for edit in outside:
                    patches.edit(edit)
                continue
            for node in directory.nodes:
                for edit in node_edits(node, moves, tree.base, image.name):
                    patches.change(edit)
    if image.catalog is not None:
        for edit in catalog_edits(image.catalog, image.view, layout.blocks):
            patches.edit(edit)
    for descriptor in image.descriptors:
        for edit in boot_record_edits(descriptor, layout.blocks):
            patches.edit(edit)
    for edit in system_area_edits(image.system_area, layout.blocks):
        patches.edit(edit)
    return patches.finish()


def _cut(pieces: Sequence[Piece], patches: Sequence[Patch]) -> Iterator[Piece]:
    """``pieces`` with patched ranges taken out of them."""
    waiting = deque(patches)
    for piece in pieces:
        position, end = piece.offset, piece.offset + piece.length
        patchable = piece.source in (Source.BASE, Source.DIRECTORY)
        while waiting and waiting[0].offset < end:
            patch = waiting.popleft()
            start, stop = patch.offset, patch.end
            if start < position or stop > end or not patchable:
                raise UnsupportedError(
                    f"a structure ({patch.what}) lies across the edge of a replaced file", finding="unsupported-layout"
                )
            if start > position:
                yield _part(piece, position, start)
            base = None if piece.base_offset is None else piece.base_offset + start - piece.offset
            yield Piece(Source.PATCH, start, stop - start, base, patch.what)
            position = stop
        if position < end:
            yield _part(piece, position, end)


def _part(piece: Piece, start: int, end: int) -> Piece:
    base = None if piece.base_offset is None else piece.base_offset + start - piece.offset
    return Piece(piece.source, start, end - start, base, piece.name)
