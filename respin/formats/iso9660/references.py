"""Everything in an image that occupies blocks."""

from __future__ import annotations

from typing import Iterable, Iterator, NamedTuple, Optional, Tuple

from respin.formats.iso9660.fields import BLOCK, SECTOR, SECTORS, SYSTEM_AREA, blocks_for
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.tree import Node, file_groups


class Reference(NamedTuple):
    """A run of blocks that something in the image names. ``size`` is in bytes; None where only blocks count.

    ``what`` may hold anything that an image holds: it is escaped when it is shown.
    """

    lba: int
    blocks: int
    what: str
    size: Optional[int] = None
    boot_image: bool = False

    @property
    def end(self) -> int:
        """The block behind the last one."""
        return self.lba + self.blocks


def references(image: IsoImage, of_trees: Iterable[Reference]) -> Iterator[Reference]:
    """Everything that occupies blocks, what the trees do included. The backups of partition tables are left out."""
    yield Reference(0, SYSTEM_AREA, "the system area")
    for descriptor in image.descriptors:
        yield Reference(descriptor.lba, 1, "a volume descriptor")
    yield from of_trees
    yield from boot_references(image)
    gpt = image.system_area.gpt
    if gpt is not None:
        yield Reference(0, -(-gpt.primary.entries_end // SECTORS), "the GUID partition table")


def tree_references(image: IsoImage) -> Iterator[Reference]:
    """Path tables, directories, continuation areas and files of all trees; empty files occupy no blocks."""
    for tree in image.trees:
        for volume in tree.volumes:
            for table in volume.path_tables:
                yield Reference(table.lba, blocks_for(volume.path_table_size), "a path table")
        for directory in tree.directories.values():
            yield Reference(directory.extent, blocks_for(directory.size), "a directory", directory.size)
            for group in file_groups(directory):
                for lba, size in runs(group):
                    name = f"the file {group[0].record.identifier.decode('latin-1')}"
                    yield Reference(lba, blocks_for(size), name, size)
        for area in tree.areas:
            yield Reference(area.block, 1, "a continuation area")


def boot_references(image: IsoImage) -> Iterator[Reference]:
    """The boot catalogue and the boot images, which may be in no file."""
    if image.catalog is not None:
        yield Reference(image.catalog.lba, image.catalog.blocks, "the boot catalogue")
        for entry in image.boot:
            size = max(1, entry.load_size * SECTOR, entry.length)
            yield Reference(entry.lba, blocks_for(size), f"the boot image for {entry.platform_name}", None, True)


def runs(group: Tuple[Node, ...]) -> Iterator[Tuple[int, int]]:
    """First block and bytes of each run of extents that follow each other; empty ones are left out."""
    start = size = 0
    for node in group:
        record = node.record
        if not record.size:
            continue
        if size and (size % BLOCK or start + size // BLOCK != record.extent):
            yield start, size
            size = 0
        start, size = (start if size else record.extent), size + record.size
    if size:
        yield start, size
