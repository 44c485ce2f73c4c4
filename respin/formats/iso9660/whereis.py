"""What lies at a byte of an ISO image, in the words of the format: a file, a descriptor, a directory, boot data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional

from respin.formats.iso9660.fields import BLOCK, SECTOR, SYSTEM_AREA
from respin.formats.iso9660.image import IsoImage


@dataclass(frozen=True)
class Place:
    """A structure and the ``offset`` from its start. ``path`` is that of a file or a directory."""

    structure: str
    offset: int
    path: Optional[str] = None

    def __str__(self) -> str:
        return f"{self.path or self.structure}, byte {self.offset}"

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {"structure": self.structure, "offset": self.offset, "path": self.path}


def place_of(iso: IsoImage, offset: int) -> Place:
    """What lies at byte ``offset``; a file before anything else, "unused space" where nothing is known to lie."""
    for path, file in iso.files.items():
        within = 0
        for extent in file.extents:
            start = extent.lba * BLOCK
            if start <= offset < start + extent.size:
                return Place("file", within + offset - start, path)
            within += extent.size
    if offset < SYSTEM_AREA * BLOCK:
        name = "master boot record" if offset < SECTOR else "GPT" if iso.system_area.gpt is not None else "system area"
        return Place(name, offset)
    for descriptor in iso.descriptors:
        if descriptor.lba == offset // BLOCK:
            name = f"{descriptor.kind.name.lower().replace('_', ' ')} descriptor"
            return Place(f"volume descriptor ({name})", offset % BLOCK)
    if iso.catalog is not None and 0 <= offset - iso.catalog.lba * BLOCK < iso.catalog.blocks * BLOCK:
        return Place("boot catalogue", offset - iso.catalog.lba * BLOCK)
    for tree in iso.trees:
        for directory in tree.directories.values():
            if 0 <= offset - directory.extent * BLOCK < directory.size:
                return Place(f"directory ({tree.label})", offset - directory.extent * BLOCK, _directory(iso, directory))
        for volume in tree.volumes:
            for table in volume.path_tables:
                if 0 <= offset - table.lba * BLOCK < volume.path_table_size:
                    return Place(f"path table ({tree.label})", offset - table.lba * BLOCK)
    gpt = iso.system_area.gpt
    if gpt is not None and gpt.backup is not None and offset >= gpt.backup.entries_lba * SECTOR:
        return Place("backup GPT", offset - gpt.backup.entries_lba * SECTOR)
    return Place("unused space", offset)


def _directory(iso: IsoImage, wanted: object) -> Optional[str]:
    return next((path for path, one in iso.listing.directories.items() if one is wanted), None)
