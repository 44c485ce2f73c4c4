"""Whether extents can be cut out from between everything else, and whether everything else holds together."""

from __future__ import annotations

import bisect
from typing import Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple

from respin.errors import MalformedError, UnsupportedError, UsageError
from respin.formats.iso9660.eltorito import GRUB2_BOOT_INFO
from respin.formats.iso9660.fields import BLOCK, SECTOR, SECTORS, SYSTEM_AREA
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.layout import Source, Target
from respin.formats.iso9660.partitions import partitions
from respin.formats.iso9660.references import Reference, references
from respin.safepath import show

_Range = Tuple[int, int, str]
"""Byte offset, the byte behind the last one, what it is."""


def find_targets(image: IsoImage, replaced: Mapping[str, int]) -> List[Target]:
    """The files to be replaced, in the order of their extents; ``replaced`` maps path to new size in bytes.

    Raises UsageError for a path that is no file or a second name of one extent, UnsupportedError for files that
    don't lie in one place, or hold a table that only their maker can recompute.
    """
    targets: Dict[int, Target] = {}
    for path in sorted(replaced):
        file, size = image.file(path), replaced[path]
        where = f"{image.name}:{show(path)}"
        if file.lba is None or not file.contiguous or len(file.extents) != len(file.records):
            how = "is empty and occupies no block" if file.lba is None else "lies in several places"
            raise UnsupportedError(f"the file {how}; it can't be replaced", where=where, finding="multi-extent")
        if size < 0:
            raise UsageError(f"a file of {size} bytes cannot be", where=where)
        if file.lba in targets:
            raise UsageError(f"{targets[file.lba].name} is another name of the same file", where=where)
        if any(e.lba == file.lba and (e.boot_info or e.grub2_boot_info) for e in image.boot):
            raise UnsupportedError("a boot image with a boot information table can't be replaced", where=where)
        targets[file.lba] = Target(path, file.lba, file.size, size, Source.FILE, len(file.extents))
    return [targets[lba] for lba in sorted(targets)]


def require_separable(image: IsoImage, occupied: Iterable[Reference], targets: Sequence[Target], limit: int) -> None:
    """Raise UnsupportedError when something shares blocks with a replaced extent without being it, or lies, in part
    or whole, behind block ``limit``, before which the file system may grow. ``occupied`` is what the trees occupy."""
    targets = sorted(targets, key=lambda target: target.start)
    starts = [target.start for target in targets]
    for reference in references(image, occupied):
        end = reference.end
        if end > limit and not (reference.boot_image and reference.lba >= limit):
            raise UnsupportedError(
                f"{show(reference.what)} at block {reference.lba} lies behind the end of the file system",
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
    for before, after in zip(targets, targets[1:]):
        if before.start + before.blocks > after.start:
            raise UnsupportedError(
                "two files that are to be replaced overlap",
                where=f"{image.name}:{show(after.name)}",
                finding="unsupported-layout",
            )


def require_whole_partitions(image: IsoImage, targets: Sequence[Target], insertion: int, *, grows: bool) -> None:
    """Raise UnsupportedError when a partition would be changed inside that is neither an ISO 9660 volume that
    respin knows nor just a file: what lies in it would no longer be where its own file system has it."""
    for what, first, end in partitions(image.system_area):
        if first % SECTORS == 0 and first // SECTORS in image.bases:
            continue
        cut = [t for t in targets if first < (t.start + t.blocks) * SECTORS and t.start * SECTORS < end]
        if len(cut) == 1 and _is_file(cut[0], first, end):
            continue
        if cut or (grows and first < insertion * SECTORS < end):
            raise UnsupportedError(
                f"{what} (sectors {first} to {end - 1}) is no volume that respin knows, and would be changed inside",
                where=image.name,
                finding="unsupported-layout",
            )


def _is_file(target: Target, first: int, end: int) -> bool:
    """Whether the sectors ``first`` to ``end`` are those of the file to be replaced."""
    sizes = (target.blocks * SECTORS, -(-target.old_size // SECTOR))
    return target.source is Source.FILE and first == target.start * SECTORS and end - first in sizes


def require_disjoint(image: IsoImage, occupied: Iterable[Reference]) -> None:
    """Raise MalformedError when structures that are patched overlap each other or a file in ``occupied``.

    The boot catalogue may be a file; a boot image may be one, but not part of one.
    """
    fixed = sorted(set(_structures(image)))
    for before, after in zip(fixed, fixed[1:]):
        if before[1] > after[0]:
            raise _overlap(image, before, after)
    starts = [one[0] for one in fixed]
    tables = {entry.lba * BLOCK for entry in image.boot if entry.boot_info or entry.grub2_boot_info}
    table_starts = sorted(tables)
    for one in _contents(image, occupied):
        index = max(0, bisect.bisect_right(starts, one[0]) - 1)
        while index < len(fixed) and fixed[index][0] < one[1]:
            other = fixed[index]
            if other[1] > one[0] and not (
                image.catalog is not None and one[0] == other[0] == image.catalog.lba * BLOCK
            ):
                raise _overlap(image, one, other)
            index += 1
        index = max(0, bisect.bisect_right(table_starts, one[0] - GRUB2_BOOT_INFO - 8) - 1)
        for start in table_starts[index:]:
            if start >= one[1]:
                break
            if start != one[0] and start + GRUB2_BOOT_INFO + 8 > one[0]:
                raise _overlap(image, one, (start, start + GRUB2_BOOT_INFO + 8, "a boot information table"))


def _structures(image: IsoImage) -> Iterator[_Range]:
    gpt = image.system_area.gpt
    primary_end = 0 if gpt is None else gpt.primary.entries_end * SECTOR
    yield 0, max(SYSTEM_AREA * BLOCK, primary_end), "the system area"
    for descriptor in image.descriptors:
        yield descriptor.lba * BLOCK, (descriptor.lba + 1) * BLOCK, "a volume descriptor"
    for tree in image.trees:
        for volume in tree.volumes:
            for table in volume.path_tables:
                end = table.lba * BLOCK + volume.path_table_size
                yield table.lba * BLOCK, end, "a path table" + (" (big-endian)" if table.big_endian else "")
        for directory in tree.directories.values():
            yield directory.extent * BLOCK, directory.extent * BLOCK + directory.size, f"a directory ({tree.label})"
        for area in tree.areas:
            start = area.block * BLOCK + area.offset
            if area.length:
                yield start, start + area.length, f"a continuation area ({tree.label})"
    if image.catalog is not None:
        yield image.catalog.lba * BLOCK, (image.catalog.lba + image.catalog.blocks) * BLOCK, "the boot catalogue"
    if gpt is not None and gpt.backup is not None:
        backup = gpt.backup
        yield backup.sector * SECTOR, backup.sector * SECTOR + len(backup.raw), "the backup of the GPT's header"
        yield backup.entries_lba * SECTOR, backup.entries_lba * SECTOR + len(backup.entries), "the backup of the GPT"


def _contents(image: IsoImage, occupied: Iterable[Reference]) -> Iterator[_Range]:
    files: Dict[Tuple[int, int], str] = {}
    for reference in occupied:
        if reference.size is not None and reference.what != "a directory":
            files.setdefault((reference.lba, reference.size), reference.what)
    for (lba, size), what in files.items():
        yield lba * BLOCK, lba * BLOCK + size, what
    for entry in image.boot:
        if entry.path is None:
            size = max(SECTOR, entry.length)
            yield entry.lba * BLOCK, entry.lba * BLOCK + size, f"the boot image for {entry.platform_name}"


def _overlap(image: IsoImage, one: _Range, other: _Range) -> MalformedError:
    return MalformedError(
        f"{show(one[2])} (bytes {one[0]} to {one[1] - 1}) and {show(other[2])}"
        f" (bytes {other[0]} to {other[1] - 1}) overlap",
        where=image.name,
        remedy="the image is damaged or was made to deceive; compare its checksum with the vendor's",
        finding="overlap",
    )
