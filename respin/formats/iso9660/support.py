"""What a splice can't do: every layout that is recognised and refused, with a sentence that says what was found.

Each check stands alone, so that support for a layout removes one of them.
"""

from __future__ import annotations

from typing import Callable, Optional, Tuple

from respin.errors import MalformedError, UnsupportedError
from respin.formats.iso9660.descriptors import Kind, Naming
from respin.formats.iso9660.fields import BLOCK, SECTOR, SECTORS
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.partitions import growth_step, partitions
from respin.formats.iso9660.susp import looks_like_entries
from respin.formats.iso9660.systemarea import BootCode
from respin.formats.iso9660.tree import Node
from respin.safepath import show

_MAX_STEP = 32 * 1024
"""Blocks (64 MiB): more than any cylinder needs that a builder of ISO images chooses."""

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


def _udf(image: IsoImage) -> Optional[str]:
    return "the image is also a UDF file system" if image.udf else None


def _apple(image: IsoImage) -> Optional[str]:
    if image.system_area.hfs:
        return "the image is also an HFS or HFS+ file system"
    starts = {extent.lba * SECTORS for file in image.files.values() for extent in file.extents}
    starts |= {entry.lba * SECTORS for entry in image.boot}
    for partition in image.system_area.apm:
        if partition.has_hfs and partition.first not in starts:
            return f"Apple partition {partition.number} is an HFS or HFS+ file system over the files of the image"
    return None


def _volumes(image: IsoImage) -> Optional[str]:
    for tree in image.trees:
        for volume in tree.volumes:
            if volume.set_size > 1 or volume.sequence > 1:
                return f"the image is volume {volume.sequence} of a set of {volume.set_size}"
            if volume.naming is Naming.OTHER:
                return "the image has a supplementary volume descriptor with an unknown character set"
    return None


def _descriptors(image: IsoImage) -> Optional[str]:
    records = [descriptor for descriptor in image.descriptors if descriptor.kind is Kind.BOOT_RECORD]
    for record in records:
        if record.boot_catalog is None:
            return f"the image has a boot record of the unknown system {show(record.boot_system)!r}"
    if len({record.boot_catalog for record in records}) > 1:
        return "the image has boot records that lead to different boot catalogues"
    if any(descriptor.kind is Kind.PARTITION for descriptor in image.descriptors):
        return "the image has a volume partition descriptor"
    return None


def _records(image: IsoImage) -> Optional[str]:
    for tree in image.trees:
        for node in tree.nodes():
            found = _record(node)
            if found is None and tree.skip is None and looks_like_entries(node.record.system_use):
                found = "has Rock Ridge entries, which the root directory does not announce"
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


def _catalog(image: IsoImage) -> Optional[str]:
    if image.catalog is not None and image.catalog.more:
        return "the boot catalogue holds something behind its entries that could boot"
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
    for what, start, end in partitions(image.system_area):
        if not start < end <= image.view.size // SECTOR:
            return f"{what} ends at sector {end}, before its start or behind the end of the image"
    if growth_step(image.system_area) > _MAX_STEP:
        return f"the partition tables want cylinders of {growth_step(image.system_area) * BLOCK} bytes"
    return None


_CHECKS: Tuple[Callable[[IsoImage], Optional[str]], ...] = (
    _udf,
    _apple,
    _volumes,
    _descriptors,
    _records,
    _catalog,
    _boot_code,
    _gpt,
    _partitions,
)
