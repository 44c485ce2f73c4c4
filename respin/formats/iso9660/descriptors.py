"""Volume descriptors: ECMA-119 sections 6.7.1 and 8, Joliet's escape sequences, ISO 9660:1999's enhanced descriptor.

Read are the fields that point at something, say how large something is, or are shown to people.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import NamedTuple, Optional, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.iso9660.fields import BLOCK, SYSTEM_AREA, both16, both32, epoch

MAX_DESCRIPTORS = 64
APPLICATION_USE = 883
"""Offset of the 512 bytes for application use in a primary descriptor (8.4.32); the media check lives there."""

EL_TORITO = "EL TORITO SPECIFICATION"
BOOT_CATALOG = 71
"""Offset of the boot catalogue's block number in El Torito's boot record."""

JOLIET_ESCAPES = (b"%/@", b"%/C", b"%/E")


class Kind(Enum):
    """What a descriptor is (8.1.1)."""

    BOOT_RECORD = 0
    PRIMARY = 1
    SUPPLEMENTARY = 2
    PARTITION = 3
    TERMINATOR = 255


class Naming(Enum):
    """How identifiers below a descriptor are written."""

    ISO9660 = "ISO 9660"
    JOLIET = "Joliet"
    ENHANCED = "ISO 9660:1999"
    OTHER = "other character set"


class PathTablePointer(NamedTuple):
    """Where a descriptor names a path table: byte offset of the field in the descriptor, its order, the block."""

    field: int
    big_endian: bool
    lba: int
    """Counted from the start of the image."""


class Descriptor(NamedTuple):
    """A volume descriptor: the block it stands in and its 2048 bytes."""

    kind: Kind
    lba: int
    raw: bytes

    @property
    def boot_catalog(self) -> Optional[int]:
        """The block of the boot catalogue that an El Torito boot record names."""
        if self.kind is not Kind.BOOT_RECORD or self.boot_system != EL_TORITO:
            return None
        return int(struct.unpack_from("<L", self.raw, BOOT_CATALOG)[0])

    @property
    def boot_system(self) -> str:
        """The boot system identifier of a boot record (8.2.4)."""
        return self.raw[7:39].rstrip(b"\0 ").decode("latin-1")


class Volume(NamedTuple):
    """A primary or supplementary descriptor with the fields of 8.4; sizes in blocks unless said otherwise.

    Block numbers count from the start of the image. What is recorded counts from block ``base``: 0, or where the
    partition begins for which a further set of descriptors was written.
    """

    descriptor: Descriptor
    base: int
    naming: Naming
    volume_id: str
    space_size: int
    """As recorded: from ``base`` on."""
    set_size: int
    sequence: int
    path_table_size: int
    """In bytes."""
    path_tables: Tuple[PathTablePointer, ...]
    root_extent: int
    root_size: int
    """In bytes."""
    created: Optional[int]
    """Seconds since 1970."""

    @property
    def application_use(self) -> bytes:
        """The 512 bytes for application use."""
        return self.descriptor.raw[APPLICATION_USE : APPLICATION_USE + 512]


def has_descriptors(view: ByteView, lba: int) -> bool:
    """Whether a primary volume descriptor stands in block ``lba``."""
    return (lba + 1) * BLOCK <= view.size and view.read(lba * BLOCK, 6) == b"\1CD001"


def read_descriptors(view: ByteView, first: int = SYSTEM_AREA) -> Tuple[Descriptor, ...]:
    """The volume descriptor set that starts at block ``first``, terminator included.

    Raises UnsupportedError when no ISO 9660 descriptor stands there, MalformedError when the set doesn't end.
    """
    found = []
    for lba in range(first, first + MAX_DESCRIPTORS):
        if (lba + 1) * BLOCK > view.size or view.read(lba * BLOCK + 1, 5) != b"CD001":
            break
        raw = view.read(lba * BLOCK, BLOCK)
        try:
            kind = Kind(raw[0])
        except ValueError:
            raise MalformedError(
                f"a volume descriptor of the unknown type {raw[0]}", where=f"{view.name}, block {lba}"
            ) from None
        found.append(Descriptor(kind, lba, raw))
        if kind is Kind.TERMINATOR:
            return tuple(found)
    if not found and view.size <= SYSTEM_AREA * BLOCK:
        raise MalformedError(
            f"the file ends after {view.size} bytes, before an ISO 9660 image says what it is",
            where=view.name,
            remedy="fetch it again; an empty or short file is what is left of a download that failed",
            finding="truncated",
        )
    if not found:
        raise UnsupportedError(
            f"this is not an ISO 9660 image: no volume descriptor at block {first}",
            where=view.name,
            remedy="give the ISO image itself, not an archive or a disk image made from it",
            finding="not-an-iso",
        )
    raise MalformedError("the volume descriptor set has no terminator", where=f"{view.name}, block {first}")


def read_volume(descriptor: Descriptor, name: str, base: int = 0) -> Volume:
    """Decode a primary or supplementary descriptor of the set of the volume that begins at block ``base``.

    Raises MalformedError for numbers that disagree, UnsupportedError for blocks of another size than 2048.
    """
    raw = descriptor.raw
    where = f"{name}, volume descriptor at block {descriptor.lba}"
    naming = _naming(descriptor)
    if (block := both16(raw, 128, where)) != BLOCK:
        raise UnsupportedError(f"logical blocks of {block} bytes; only 2048 is supported", where=where)
    encoding = "utf-16-be" if naming is Naming.JOLIET else "latin-1"

    def text(start: int, end: int) -> str:
        return raw[start:end].decode(encoding, "replace").rstrip("\0 ")

    tables = tuple(
        PathTablePointer(field, field >= 148, lba + base)
        for field, order in ((140, "<L"), (144, "<L"), (148, ">L"), (152, ">L"))
        if (lba := struct.unpack_from(order, raw, field)[0])
    )
    return Volume(
        descriptor=descriptor,
        base=base,
        naming=naming,
        volume_id=text(40, 72),
        space_size=both32(raw, 80, where),
        set_size=both16(raw, 120, where),
        sequence=both16(raw, 124, where),
        path_table_size=both32(raw, 132, where),
        path_tables=tables,
        root_extent=both32(raw, 158, where) + base,
        root_size=both32(raw, 166, where),
        created=epoch(raw[813:830]),
    )


def _naming(descriptor: Descriptor) -> Naming:
    if descriptor.kind is Kind.PRIMARY:
        return Naming.ISO9660
    if descriptor.raw[88:91] in JOLIET_ESCAPES:
        return Naming.JOLIET
    return Naming.ENHANCED if descriptor.raw[6] == 2 else Naming.OTHER
