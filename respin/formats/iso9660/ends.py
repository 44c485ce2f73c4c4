"""Where the file system of an image ends: behind it lie appended partitions and the backup of a partition table."""

from __future__ import annotations

from typing import Iterable, Optional

from respin.formats.iso9660.fields import BLOCK, SECTORS
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.layout import UNCHECKED_BLOCKS
from respin.formats.iso9660.partitions import partitions
from respin.formats.iso9660.references import Reference, tree_references


def insertion_point(image: IsoImage, occupied: Optional[Iterable[Reference]] = None) -> int:
    """The block before which the file system grows at its end.

    The volume's end, or what comes first behind all files and directories: a partition or a boot image that was
    appended there, or a backup GPT. The sizes that descriptors give don't tell: some cover what is appended.
    ``occupied`` is what :func:`tree_references` gives, if that is known already.
    """
    tree_end = max(reference.end for reference in occupied or tree_references(image))
    ends = [image.volume_space_size]
    ends += [first // SECTORS for _, first, _ in partitions(image.system_area) if first // SECTORS >= tree_end]
    ends += [entry.lba for entry in image.boot if entry.path is None and entry.lba >= tree_end]
    gpt = image.system_area.gpt
    if gpt is not None and gpt.backup is not None:
        first = min(gpt.backup.entries_lba, gpt.backup.my_lba) // SECTORS
        ends += [first] if first * BLOCK < image.view.size else []
    return min(ends)


def unchecked_start(image: IsoImage) -> int:
    """The block from which on the media check of a respun image doesn't look: a slot for signatures lies there."""
    return insertion_point(image) - UNCHECKED_BLOCKS


def unchecked_blocks(image: IsoImage) -> int:
    """How many blocks at the end of the volume the media check of a respun image leaves out.

    15, as isomd5sum has it, unless something follows the file system within the volume.
    """
    return image.volume_space_size - unchecked_start(image)
