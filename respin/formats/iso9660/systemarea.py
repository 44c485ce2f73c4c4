"""The system area (ECMA-119, 6.2.1): what makes the image bootable as a disk.

Master boot record, GUID partition table, Apple partition map, and the fact (not the content) of an HFS volume.
"""

from __future__ import annotations

from enum import Enum
from typing import Iterable, NamedTuple, Optional, Tuple

from respin.byteview import ByteView
from respin.formats.iso9660.apm import ApmPartition, has_hfs, read_apm
from respin.formats.iso9660.fields import BLOCK, SECTOR, SECTORS, SYSTEM_AREA
from respin.formats.iso9660.gpt import SIGNATURE, Gpt, read_gpt
from respin.formats.iso9660.mbr import Mbr, read_mbr


class BootCode(Enum):
    """What the master boot record's code loads."""

    NONE = "none"
    ISOLINUX = "isolinux"
    GRUB2 = "grub2"
    OTHER = "other"


GRUB2_SKIP = 4
"""GRUB 2's hybrid boot code names the fifth sector of its boot image, isolinux' the first."""


class SystemArea(NamedTuple):
    """The facts; ``hfs`` says that the whole image is an HFS or HFS+ volume, too."""

    mbr: Optional[Mbr]
    boot_code: BootCode
    boot_image: Optional[int]
    """The block of the boot image that the boot code loads."""
    gpt: Optional[Gpt]
    broken_gpt: bool
    """A GPT signature, but nothing behind it that could be a table."""
    apm: Tuple[ApmPartition, ...]
    hfs: bool
    in_use: bool
    """Whether any byte of it is set."""


def read_system_area(view: ByteView, boot_images: Iterable[int]) -> SystemArea:
    """Read the 16 blocks before the descriptors; ``boot_images`` are the blocks of El Torito's boot images."""
    data = view.read(0, SYSTEM_AREA * BLOCK)
    mbr = read_mbr(data[:SECTOR])
    gpt = read_gpt(view)
    code, image = BootCode.NONE, None
    if mbr is not None and mbr.has_code:
        code = BootCode.OTHER
        for lba in boot_images:
            if mbr.boot_sector == lba * SECTORS:
                code, image = BootCode.ISOLINUX, lba
            elif mbr.boot_sector == lba * SECTORS + GRUB2_SKIP:
                code, image = BootCode.GRUB2, lba
    return SystemArea(
        mbr=mbr,
        boot_code=code,
        boot_image=image,
        gpt=gpt,
        broken_gpt=gpt is None and data[SECTOR : SECTOR + 8] == SIGNATURE,
        apm=read_apm(view),
        hfs=has_hfs(view, 0),
        in_use=any(data),
    )
