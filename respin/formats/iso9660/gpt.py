"""The GUID partition table (UEFI 2.10, section 5.3): both headers, both entry arrays, their checksums.

Sectors are 512 bytes; numbers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

from respin.byteview import ByteView
from respin.formats.iso9660.fields import SECTOR

SIGNATURE = b"EFI PART"
PRIMARY = 1
"""The sector of the primary header."""
MAX_ENTRIES = 1024
_SIZES = (128, 256, 512)


@dataclass(frozen=True)
class GptPartition:
    """One used entry: index, type, first and last sector (both inclusive, as recorded), name."""

    index: int
    type_guid: str
    first: int
    last: int
    name: str


class GptTable(NamedTuple):
    """One of the two copies: the header's sector and bytes, the entry array."""

    sector: int
    raw: bytes
    """The header, as long as it says it is."""
    my_lba: int
    alternate_lba: int
    first_usable: int
    last_usable: int
    disk_guid: str
    entries_lba: int
    entry_count: int
    entry_size: int
    entries: bytes
    header_valid: bool
    entries_valid: bool

    @property
    def valid(self) -> bool:
        """Whether both checksums are right and the header stands where it says."""
        return self.header_valid and self.entries_valid and self.my_lba == self.sector

    @property
    def entries_end(self) -> int:
        """The sector behind the entry array."""
        return self.entries_lba + -(-len(self.entries) // SECTOR)

    def partitions(self) -> Tuple[GptPartition, ...]:
        """The used entries."""
        found = []
        for index in range(self.entry_count):
            raw = self.entries[index * self.entry_size : (index + 1) * self.entry_size]
            if any(raw[:16]):
                first, last = struct.unpack_from("<QQ", raw, 32)
                name = raw[56:128].decode("utf-16-le", "replace").split("\0")[0]
                found.append(GptPartition(index, _guid(raw[:16]), first, last, name))
        return tuple(found)


class Gpt(NamedTuple):
    """The table in both copies; ``backup`` is None when it can't be read."""

    primary: GptTable
    backup: Optional[GptTable]


def read_gpt(view: ByteView) -> Optional[Gpt]:
    """The table of an image; None when its second sector doesn't begin one, or begins one that cannot be."""
    primary = read_table(view, PRIMARY)
    if primary is None:
        return None
    return Gpt(primary, read_table(view, primary.alternate_lba))


def checksum(header: bytes) -> int:
    """The CRC-32 of a header, its own checksum field taken as zero."""
    return zlib.crc32(header[:16] + bytes(4) + header[20:])


def read_table(view: ByteView, sector: int) -> Optional[GptTable]:
    """The copy of a table whose header stands at ``sector``; None when none begins there, or one that cannot be."""
    if (sector + 1) * SECTOR > view.size:
        return None
    raw = view.read(sector * SECTOR, SECTOR)
    length, header_crc = struct.unpack_from("<LL", raw, 12)
    entries_lba, count, entry_size, entries_crc = struct.unpack_from("<QLLL", raw, 72)
    if raw[:8] != SIGNATURE or not 92 <= length <= SECTOR or entry_size not in _SIZES or count > MAX_ENTRIES:
        return None
    if entries_lba * SECTOR + count * entry_size > view.size:
        return None
    header = raw[:length]
    my_lba, alternate, first_usable, last_usable = struct.unpack_from("<QQQQ", raw, 24)
    entries = view.read(entries_lba * SECTOR, count * entry_size)
    return GptTable(
        sector=sector,
        raw=header,
        my_lba=my_lba,
        alternate_lba=alternate,
        first_usable=first_usable,
        last_usable=last_usable,
        disk_guid=_guid(raw[56:72]),
        entries_lba=entries_lba,
        entry_count=count,
        entry_size=entry_size,
        entries=entries,
        header_valid=checksum(header) == header_crc,
        entries_valid=zlib.crc32(entries) == entries_crc,
    )


def _guid(raw: bytes) -> str:
    """A GUID as it is written; the first three of its five fields are recorded as little-endian numbers."""
    first, second, third = struct.unpack_from("<LHH", raw)
    return f"{first:08x}-{second:04x}-{third:04x}-{raw[8:10].hex()}-{raw[10:].hex()}"
