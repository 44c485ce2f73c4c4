"""Everything in an image that occupies blocks, and whether a replaced file can be cut out from between it."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Sequence

from respin.errors import UnsupportedError, UsageError
from respin.formats.iso9660.fields import BLOCK, SECTORS, blocks_for
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.layout import Source, Target
from respin.safepath import show

MAX_EXTENT = 0xFFFFFFFF
"""Bytes that one extent can hold (ECMA-119, 9.1.4)."""


@dataclass(frozen=True)
class Reference:
    """A run of blocks that something in the image names. ``size`` is in bytes; None where only blocks count.

    ``what`` may hold anything that an image holds: it is escaped when it is shown.
    """

    lba: int
    blocks: int
    what: str
    size: Optional[int] = None
    boot_image: bool = False


def find_targets(image: IsoImage, replaced: Mapping[str, int]) -> List[Target]:
    """The files to be replaced, in the order of their extents; ``replaced`` maps path to new size in bytes.

    Raises UsageError for a path that is no file or a second name of one extent, UnsupportedError for files that
    don't lie in one plain extent, or hold a table that only their maker can recompute.
    """
    targets: Dict[int, Target] = {}
    for path in sorted(replaced):
        file, size = image.file(path), replaced[path]
        where = f"{image.name}:{show(path)}"
        if len(file.extents) != 1 or len(file.records) != 1:
            how = "is empty and occupies no block" if not file.extents else "is recorded in several extents"
            raise UnsupportedError(f"the file {how}; it can't be replaced", where=where, finding="multi-extent")
        if not 0 <= size <= MAX_EXTENT:
            raise UnsupportedError(
                f"the new content has {size} bytes, more than one extent can hold",
                where=where,
                remedy="keep it below 4 GiB",
                finding="multi-extent",
            )
        extent = file.extents[0]
        if extent.lba in targets:
            raise UsageError(f"{targets[extent.lba].name} is another name of the same file", where=where)
        if any(e.lba == extent.lba and (e.boot_info or e.grub2_boot_info) for e in image.boot):
            raise UnsupportedError("a boot image with a boot information table can't be replaced", where=where)
        targets[extent.lba] = Target(path, extent.lba, extent.size, size, Source.FILE)
    return [targets[lba] for lba in sorted(targets)]


def require_separable(image: IsoImage, targets: Sequence[Target], limit: int) -> None:
    """Raise UnsupportedError when something shares blocks with a replaced extent without being it, or lies, in part
    or whole, behind block ``limit``, before which the volume may grow."""
    targets = sorted(targets, key=lambda target: target.start)
    starts = [target.start for target in targets]
    for reference in references(image):
        end = reference.lba + reference.blocks
        if end > limit and not reference.boot_image:
            raise UnsupportedError(
                f"{show(reference.what)} at block {reference.lba} lies behind the end of the volume",
                where=image.name,
                finding="unsupported-layout",
            )
        index = bisect.bisect_left(starts, end) - 1
        if index < 0:
            continue
        target = targets[index]
        if reference.lba >= target.start + target.blocks:
            continue
        same = reference.lba == target.start and (reference.boot_image or reference.size == target.old_size)
        if not same:
            raise UnsupportedError(
                f"{show(reference.what)} at block {reference.lba} overlaps what is to be replaced",
                where=f"{image.name}:{show(target.name)}",
                finding="unsupported-layout",
            )


def references(image: IsoImage) -> Iterator[Reference]:
    """Everything that occupies blocks; empty files occupy none."""
    yield Reference(0, image.descriptors[-1].lba + 1, "the volume descriptor set")
    for tree in image.trees:
        for volume in tree.volumes:
            for table in volume.path_tables:
                yield Reference(table.lba, blocks_for(volume.path_table_size), "a path table")
        for directory in tree.directories.values():
            yield Reference(directory.extent, blocks_for(directory.size), "a directory", directory.size)
        for area in tree.areas:
            yield Reference(area.block, 1, "a continuation area")
        for node in tree.nodes():
            record = node.record
            if not record.is_directory and record.size:
                name = f"the file {record.identifier.decode('latin-1')}"
                yield Reference(record.extent, blocks_for(record.size), name, record.size)
    if image.catalog is not None:
        yield Reference(image.catalog.lba, image.catalog.blocks, "the boot catalogue")
        for entry in image.boot:
            blocks = max(1, -(-entry.load_size // SECTORS))
            yield Reference(entry.lba, blocks, f"the boot image for {entry.platform_name}", None, True)
    gpt = image.system_area.gpt
    if gpt is not None:
        yield Reference(0, -(-gpt.primary.entries_end // SECTORS), "the GUID partition table")


def insertion_point(image: IsoImage) -> int:
    """The block before which the volume grows at its end: its end, or a backup GPT that lies inside it."""
    point = image.volume_space_size
    gpt = image.system_area.gpt
    if gpt is not None and gpt.backup is not None:
        first = min(gpt.backup.entries_lba, gpt.backup.my_lba) // SECTORS
        point = min(point, first) if first * BLOCK < image.view.size else point
    return point
