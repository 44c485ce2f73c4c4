"""The partitions of an image by all of its tables: master boot record, GUID partition table, Apple partition map."""

from __future__ import annotations

import math
from typing import Iterator, Tuple

from respin.formats.iso9660.apm import MAP
from respin.formats.iso9660.fields import SECTORS
from respin.formats.iso9660.layout import MIB_BLOCKS, PAGE_BLOCKS
from respin.formats.iso9660.mbr import PROTECTIVE, cylinder_of
from respin.formats.iso9660.systemarea import SystemArea

Partition = Tuple[str, int, int]
"""What to call it, its first 512-byte sector, the sector behind its last."""


def partitions(area: SystemArea) -> Iterator[Partition]:
    """All partitions but those that stand for a table: protective ones, and the one that holds Apple's map."""
    if area.mbr is not None:
        for partition in area.mbr.partitions:
            if partition.kind != PROTECTIVE:
                yield f"MBR partition {partition.number}", partition.start, partition.end
    if area.gpt is not None:
        for entry in area.gpt.primary.partitions():
            yield f"GPT partition {entry.index + 1}", entry.first, entry.last + 1
    for one in area.apm:
        if one.kind != MAP:
            yield f"Apple partition {one.number}", one.first, one.end


def growth_step(area: SystemArea) -> int:
    """The blocks by a multiple of which the image may grow: whole cylinders, if a partition ends with one."""
    cylinders = [cylinder_of(partition) for partition in area.mbr.partitions] if area.mbr is not None else []
    aligned = [cylinder for cylinder in cylinders if cylinder is not None]
    if not aligned:
        return MIB_BLOCKS
    sectors = PAGE_BLOCKS * SECTORS
    for cylinder in aligned:
        sectors = sectors * cylinder // math.gcd(sectors, cylinder)
    return sectors // SECTORS
