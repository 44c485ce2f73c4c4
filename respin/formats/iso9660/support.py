"""What a splice can't do: every layout that is recognised and refused, with a sentence that says what was found.

Each check stands alone, so that support for a layout removes one of them.
"""

from __future__ import annotations

from typing import Callable, Iterator, Optional, Tuple

from respin.errors import MalformedError, UnsupportedError
from respin.formats.iso9660.descriptors import Kind, Naming
from respin.formats.iso9660.eltorito import SYSTEM_ID
from respin.formats.iso9660.fields import BLOCK, SECTOR, SECTORS
from respin.formats.iso9660.image import SECOND_SET, IsoImage
from respin.formats.iso9660.mbr import LARGE_GEOMETRY, PROTECTIVE, geometry_of
from respin.formats.iso9660.systemarea import BootCode
from respin.formats.iso9660.tree import Node
from respin.safepath import show

_REMEDY = "respin changes nothing in an image whose layout it doesn't handle; `respin inspect` shows what was found"


def require_spliceable(image: IsoImage) -> None:
    """Raise UnsupportedError for a layout that a splice would damage, MalformedError for a truncated image."""
    if image.view.size < image.volume_space_size * BLOCK:
        raise MalformedError(
            f"the volume has {image.volume_space_size * BLOCK} bytes, the file only {image.view.size}",
            where=image.name,
            remedy="the file is truncated; fetch it again and compare its checksum",
            finding="truncated",
        )
    for check in _CHECKS:
        found = check(image)
        if found is not None:
            raise UnsupportedError(found, where=image.name, remedy=_REMEDY, finding="unsupported-layout")


def _second_set(image: IsoImage) -> Optional[str]:
    if image.second_set:
        return (
            f"the image has a second superblock with directory trees of its own at block {SECOND_SET} "
            "(xorriso's partition_offset=16)"
        )
    return None


def _udf(image: IsoImage) -> Optional[str]:
    return "the image is also a UDF file system" if image.udf else None


def _apple(image: IsoImage) -> Optional[str]:
    kinds = image.system_area.apm_partitions
    if image.system_area.hfs or "Apple_HFS" in kinds:
        return "the image has an Apple partition map or volume header with an HFS or HFS+ file system"
    return f"the image has an Apple partition map ({', '.join(map(show, kinds))})" if kinds else None


def _volume_set(image: IsoImage) -> Optional[str]:
    for tree in image.trees:
        for volume in tree.volumes:
            if volume.set_size > 1 or volume.sequence > 1:
                return f"the image is volume {volume.sequence} of a set of {volume.set_size}"
            if volume.naming is Naming.OTHER:
                return "the image has a supplementary volume descriptor with an unknown character set"
            if volume.space_size != image.volume_space_size:
                return "the volume descriptors disagree on the size of the volume"
    return None


def _descriptors(image: IsoImage) -> Optional[str]:
    records = [descriptor for descriptor in image.descriptors if descriptor.kind is Kind.BOOT_RECORD]
    for record in records:
        if record.boot_system != SYSTEM_ID:
            return f"the image has a boot record of the unknown system {show(record.boot_system)!r}"
    if len(records) > 1:
        return "the image has several El Torito boot records"
    if any(descriptor.kind is Kind.PARTITION for descriptor in image.descriptors):
        return "the image has a volume partition descriptor"
    return None


def _records(image: IsoImage) -> Optional[str]:
    for tree in image.trees:
        for node in tree.nodes():
            found = _record(node)
            if found is not None:
                return f"{show(node.record.identifier.decode('latin-1'))} {found}"
    return None


def _record(node: Node) -> Optional[str]:
    record = node.record
    if record.xattr_length:
        return "has an extended attribute record"
    if record.interleaved:
        return "is recorded in interleaved mode"
    if record.sequence > 1:
        return f"lies on volume {record.sequence} of a set"
    if node.rock_ridge is not None and node.rock_ridge.compressed:
        return "is compressed by zisofs"
    return None


def _boot_images(image: IsoImage) -> Optional[str]:
    for entry in image.boot:
        if entry.path is None:
            return f"the boot image for {entry.platform_name} at block {entry.lba} is in no file of the image"
    return None


def _boot_code(image: IsoImage) -> Optional[str]:
    area = image.system_area
    if area.boot_code is BootCode.OTHER:
        return "the master boot record holds boot code that is neither isolinux' nor GRUB 2's"
    if area.mbr is None and area.in_use:
        return "the system area holds something that is not a PC's master boot record"
    return None


def _gpt(image: IsoImage) -> Optional[str]:
    area = image.system_area
    gpt = area.gpt
    if area.broken_gpt or (gpt is not None and not gpt.primary.valid):
        return "the GUID partition table's checksums are wrong"
    if gpt is not None and (gpt.backup is None or not gpt.backup.valid):
        return "the backup of the GUID partition table is missing or its checksums are wrong"
    return None


def _partitions(image: IsoImage) -> Optional[str]:
    starts = {extent.lba for file in image.files.values() for extent in file.extents}
    for what, start, end in _all_partitions(image):
        if start >= image.volume_space_size * SECTORS:
            return f"{what} was appended behind the file system (sector {start})"
        if start and (start % SECTORS or start // SECTORS not in starts):
            return f"{what} begins at sector {start}, where no file of the image begins"
        if not start < end <= image.view.size // SECTOR:
            return f"{what} ends at sector {end}, before its start or behind the end of the image"
    for partition in image.system_area.mbr.partitions if image.system_area.mbr is not None else ():
        cylinder = LARGE_GEOMETRY[0] * LARGE_GEOMETRY[1]
        if geometry_of(partition) == LARGE_GEOMETRY and partition.end % cylinder == 0:
            return f"MBR partition {partition.number} is laid out in cylinders of 255 heads and 63 sectors"
    return None


def _all_partitions(image: IsoImage) -> Iterator[Tuple[str, int, int]]:
    """What to call each partition, its first sector, the sector behind its last; protective ones left out."""
    area = image.system_area
    if area.mbr is not None:
        for partition in area.mbr.partitions:
            if partition.kind != PROTECTIVE:
                yield f"MBR partition {partition.number}", partition.start, partition.end
    if area.gpt is not None:
        for entry in area.gpt.primary.partitions():
            yield f"GPT partition {entry.index + 1}", entry.first, entry.last + 1


_CHECKS: Tuple[Callable[[IsoImage], Optional[str]], ...] = (
    _second_set,
    _udf,
    _apple,
    _volume_set,
    _descriptors,
    _records,
    _boot_images,
    _boot_code,
    _gpt,
    _partitions,
)
