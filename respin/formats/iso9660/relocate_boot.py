"""Edits for what boots: El Torito's catalogue, boot information tables, and the three kinds of partition tables."""

from __future__ import annotations

import struct
import zlib
from typing import Iterator, List

from respin.byteview import ByteView
from respin.errors import UnsupportedError
from respin.formats.iso9660.apm import DATA_COUNT, PLACE, ApmPartition
from respin.formats.iso9660.blockmap import BlockMap
from respin.formats.iso9660.descriptors import BOOT_CATALOG, Descriptor
from respin.formats.iso9660.eltorito import BOOT_INFO, GRUB2_BOOT_INFO, BootCatalog, BootEntry
from respin.formats.iso9660.fields import BLOCK, SECTOR, SECTORS, blocks_for
from respin.formats.iso9660.gpt import GptTable, checksum
from respin.formats.iso9660.mbr import BOOT_SECTOR, PROTECTIVE, Mbr, MbrPartition, chs, geometry_of
from respin.formats.iso9660.patches import Edit
from respin.formats.iso9660.systemarea import GRUB2_SKIP, BootCode, SystemArea

_HEADER_FROM = 16  # the GPT header behind signature, revision and length


def boot_record_edits(descriptor: Descriptor, blocks: BlockMap) -> Iterator[Edit]:
    """Edits for a volume descriptor that is El Torito's boot record."""
    if descriptor.boot_catalog is not None:
        pointer = struct.pack("<L", blocks.block(descriptor.boot_catalog))
        yield Edit(descriptor.lba * BLOCK + BOOT_CATALOG, pointer, "boot record: catalogue")


def catalog_edits(catalog: BootCatalog, view: ByteView, blocks: BlockMap) -> Iterator[Edit]:
    """Edits for the catalogue's entries and the tables inside boot images."""
    for entry in catalog.entries:
        lba = blocks.block(entry.lba)
        fields = struct.pack("<HL", _load_size(entry, blocks), lba)
        yield Edit(entry.offset + 6, fields, "boot catalogue entry")
        if entry.boot_info:
            at = entry.lba * BLOCK + BOOT_INFO
            descriptor = blocks.block(struct.unpack("<L", view.read(at, 4))[0])
            yield Edit(at, struct.pack("<LL", descriptor, lba), "boot information table")
        if entry.grub2_boot_info:
            own = struct.pack("<Q", lba * SECTORS + 5)
            yield Edit(entry.lba * BLOCK + GRUB2_BOOT_INFO, own, "boot information of GRUB 2")


def system_area_edits(area: SystemArea, blocks: BlockMap) -> Iterator[Edit]:
    """Edits for the master boot record, the GPT and the Apple partition map."""
    if area.mbr is not None:
        yield from _mbr_edits(area, area.mbr, blocks)
    if area.gpt is not None:
        for table in (area.gpt.primary, area.gpt.backup):
            if table is not None:
                yield from _gpt_edits(table, blocks)
    for partition in area.apm:
        yield from _apm_edits(partition, blocks)


def _load_size(entry: BootEntry, blocks: BlockMap) -> int:
    """The load size in sectors; it follows the image's size if it was the image's size."""
    splice = blocks.covering(entry.lba)
    if splice is None or entry.load_size not in (-(-splice.old_size // SECTOR), splice.old_blocks * SECTORS):
        return entry.load_size
    if entry.load_size == splice.old_blocks * SECTORS:
        size = blocks_for(splice.new_size) * SECTORS
    else:
        size = -(-splice.new_size // SECTOR)
    if size > 0xFFFF:
        raise UnsupportedError(
            f"the new boot image {entry.path} has {splice.new_size} bytes, more than a boot catalogue can say",
            remedy="keep boot images below 32 MiB",
        )
    return size


def _mbr_edits(area: SystemArea, mbr: Mbr, blocks: BlockMap) -> Iterator[Edit]:
    if area.boot_image is not None:
        skip = GRUB2_SKIP if area.boot_code is BootCode.GRUB2 else 0
        sector = blocks.block(area.boot_image) * SECTORS + skip
        yield Edit(BOOT_SECTOR, struct.pack("<Q", sector), "MBR: sector of the boot image")
    for partition in mbr.partitions:
        yield from _partition_edits(partition, blocks)


def _partition_edits(partition: MbrPartition, blocks: BlockMap) -> Iterator[Edit]:
    start = partition.start
    if partition.kind == PROTECTIVE:
        if partition.end > blocks.size * SECTORS:
            return  # it covers a disk of any size
    else:
        start = blocks.first_sector(start)
    end = blocks.end_sector(partition.start, partition.end)
    what = f"MBR partition {partition.number}"
    yield Edit(partition.offset + 8, struct.pack("<LL", start, end - start), what)
    geometry = geometry_of(partition)
    if geometry is not None:
        yield Edit(partition.offset + 5, chs(end - 1, geometry), f"{what}: end address")
        if partition.start_chs == chs(partition.start, geometry):
            yield Edit(partition.offset + 1, chs(start, geometry), f"{what}: start address")


def _apm_edits(partition: ApmPartition, blocks: BlockMap) -> Iterator[Edit]:
    first = blocks.first_sector(partition.first)
    end = blocks.end_sector(partition.first, partition.end)
    sectors = partition.unit // SECTOR
    what = f"Apple partition {partition.number}"
    if first % sectors or end % sectors:
        raise UnsupportedError(f"{what} would begin or end inside of one of its units", finding="unsupported-layout")
    start, count = first // sectors, (end - first) // sectors
    yield Edit(partition.offset + PLACE, struct.pack(">LL", start, count), what)
    if partition.data_count == partition.count:
        yield Edit(partition.offset + DATA_COUNT, struct.pack(">L", count), f"{what}: size of its data")


def _gpt_edits(table: GptTable, blocks: BlockMap) -> Iterator[Edit]:
    entries = bytearray(table.entries)
    edits: List[Edit] = []
    for partition in table.partitions():
        first = blocks.first_sector(partition.first)
        last = blocks.end_sector(partition.first, partition.last + 1) - 1
        at = partition.index * table.entry_size + 32
        struct.pack_into("<QQ", entries, at, first, last)
        edits.append(Edit(table.entries_lba * SECTOR + at, bytes(entries[at : at + 16]), "GPT entry"))
    header = bytearray(table.raw)
    struct.pack_into(
        "<QQQQ",
        header,
        24,
        blocks.first_sector(table.my_lba),
        blocks.first_sector(table.alternate_lba),
        table.first_usable,
        blocks.first_sector(table.last_usable),
    )
    struct.pack_into("<Q", header, 72, blocks.first_sector(table.entries_lba))
    struct.pack_into("<L", header, 88, zlib.crc32(entries))
    struct.pack_into("<L", header, 16, checksum(bytes(header)))
    edits.append(Edit(table.sector * SECTOR + _HEADER_FROM, bytes(header[_HEADER_FROM:92]), "GPT header"))
    yield from edits
