"""El Torito 1.0: boot record, boot catalogue with sections; the boot information tables of mkisofs and GRUB 2."""

from __future__ import annotations

import struct
from typing import Iterable, List, NamedTuple, Optional, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError
from respin.formats.iso9660.descriptors import Descriptor, has_descriptors
from respin.formats.iso9660.fields import BLOCK

PLATFORMS = {0x00: "BIOS", 0x01: "PowerPC", 0x02: "Mac", 0xEF: "UEFI"}
_ENTRY = 32
_BOOTABLE, _NOT_BOOTABLE, _HEADER, _LAST_HEADER, _EXTENSION = 0x88, 0x00, 0x90, 0x91, 0x44

BOOT_INFO = 8
"""Offset of mkisofs' boot information table in a boot image: descriptor's block, own block, length, checksum."""

GRUB2_BOOT_INFO = 2548
"""Offset of the 64-bit sector number that GRUB 2's eltorito image wants: its own first sector plus 5."""


class BootEntry(NamedTuple):
    """One entry of the catalogue."""

    platform: int
    bootable: bool
    emulation: int
    """Boot media type; 0 is no emulation."""
    load_size: int
    """In 512-byte sectors, as recorded."""
    lba: int
    offset: int
    """Byte offset of the entry in the image."""
    boot_info: bool
    """Whether the boot image holds a boot information table that names its own place, and a volume descriptor's."""
    grub2_boot_info: bool
    length: int
    """The boot image's length in bytes by its boot information table; 0 when it has none."""
    path: Optional[str] = None
    """The file that the entry boots, if it is one."""

    @property
    def platform_name(self) -> str:
        return PLATFORMS.get(self.platform, f"platform 0x{self.platform:02x}")


class BootCatalog(NamedTuple):
    """The catalogue's block, its entries, and whether anything follows them that is no entry."""

    lba: int
    blocks: int
    entries: Tuple[BootEntry, ...]
    more: bool


def read_catalog(view: ByteView, descriptors: Iterable[Descriptor]) -> Optional[BootCatalog]:
    """The catalogue that the El Torito boot record among ``descriptors`` names; None when there is none.

    Raises MalformedError for a wrong checksum, and for entries and headers in an impossible order.
    """
    lba = next((d.boot_catalog for d in descriptors if d.boot_catalog is not None), None)
    if lba is None:
        return None
    where = f"{view.name}, boot catalogue at block {lba}"
    data = view.read(lba * BLOCK, BLOCK)
    if data[0] != 1 or data[30:32] != b"\x55\xaa" or sum(struct.unpack("<16H", data[:32])) & 0xFFFF:
        raise MalformedError("the validation entry of the boot catalogue is wrong", where=where)
    entries: List[BootEntry] = []
    platform, at, left, last = data[1], _ENTRY, 1, False
    while at < BLOCK:
        raw = data[at : at + _ENTRY]
        if raw[0] == _EXTENSION:
            at += _ENTRY
            continue
        if left == 0:
            if last or raw[0] not in (_HEADER, _LAST_HEADER):
                break
            platform, left, last = raw[1], int(struct.unpack_from("<H", raw, 2)[0]), raw[0] == _LAST_HEADER
        elif raw[0] in (_BOOTABLE, _NOT_BOOTABLE):
            entries.append(_entry(view, platform, raw, lba * BLOCK + at))
            left -= 1
        else:
            raise MalformedError(f"a boot entry begins with the impossible value 0x{raw[0]:02x}", where=where)
        at += _ENTRY
    if left:
        raise MalformedError("the boot catalogue announces more entries than it has", where=where)
    return BootCatalog(lba, 1, tuple(entries), any(data[at:]))


def _entry(view: ByteView, platform: int, raw: bytes, offset: int) -> BootEntry:
    load_size, lba = struct.unpack_from("<HL", raw, 6)
    table = _peek(view, lba, BOOT_INFO, "<LLL")
    boot_info = table[1:2] == (lba,) and has_descriptors(view, table[0])
    return BootEntry(
        platform=platform,
        bootable=raw[0] == _BOOTABLE,
        emulation=raw[1] & 0x0F,
        load_size=load_size,
        lba=lba,
        offset=offset,
        boot_info=boot_info,
        grub2_boot_info=_peek(view, lba, GRUB2_BOOT_INFO, "<Q") == (lba * 4 + 5,),
        length=table[2] if boot_info else 0,
    )


def _peek(view: ByteView, lba: int, offset: int, layout: str) -> Tuple[int, ...]:
    """Numbers in a boot image; nothing when the image leaves the medium."""
    start, length = lba * BLOCK + offset, struct.calcsize(layout)
    if start + length > view.size:
        return ()
    return tuple(struct.unpack(layout, view.read(start, length)))
