"""The ISO on a carrier: a USB stick, a disk or an image of one that it was written to, larger than the ISO itself.

The statement says how long the ISO is and which bytes its partition tables had (:mod:`respin.provenance.statement`).
Both count only once the statement's signature and the digest over these very bytes are verified; until then they are
merely where to look. What an operating system may have done to the partition table is undone in the view that
:func:`find_iso` gives, and the digest decides whether that brought the signed bytes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

from respin.byteview import ByteView, SubView, check_range, chunks, is_zero
from respin.errors import MalformedError, VerificationError
from respin.formats.iso9660 import moved
from respin.formats.iso9660.fields import SECTOR
from respin.formats.iso9660.gpt import read_table
from respin.formats.iso9660.image import IsoImage
from respin.limits import LIMITS
from respin.progress import SILENT, Progress
from respin.provenance import statement
from respin.provenance.endings import array_at_end
from respin.provenance.layout import STATEMENT


@dataclass(frozen=True)
class Carrier:
    """What the ISO lies on. ``size`` is the carrier's, ``iso_size`` the ISO's, in bytes.

    ``moved`` says that the backup of the partition table was moved to the carrier's end; ``backup`` is then its range
    (offset, size).
    """

    view: ByteView
    size: int
    iso_size: int
    moved: bool
    backup: Optional[Tuple[int, int]]

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {
            "size": self.size,
            "iso_size": self.iso_size,
            "trailing": self.size - self.iso_size,
            "partition_table": "moved" if self.moved else "as signed",
        }


@dataclass(frozen=True)
class Trailing:
    """What lies behind the ISO: ``first_data`` is the carrier's first byte there that is not zero, None if all are.

    The moved backup of the partition table, which was judged, is left out.
    """

    carrier: Carrier
    first_data: Optional[int]

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        content = "zeros" if self.first_data is None else "data"
        return {**self.carrier.to_json(), "trailing_content": content, "first_data": self.first_data}


@dataclass(frozen=True)
class FoundIso:
    """The bytes of an ISO, and what they lie on if that is larger."""

    view: ByteView
    carrier: Optional[Carrier]


def find_iso(view: ByteView) -> FoundIso:
    """The respun ISO at the start of ``view``; for anything else, and when nothing is behind it, ``view`` itself.

    Raises MalformedError when ``view`` is shorter than its statement says, VerificationError when the partition table
    is another than the signed one and not that one moved.
    """
    iso = IsoImage.open(view)
    if f"/{STATEMENT}" not in iso.files:
        return FoundIso(view, None)
    raw = iso.read(f"/{STATEMENT}", LIMITS.statement)
    claims = statement.parse(raw, where=f"{view.name}:/{STATEMENT}")
    size, area = claims.iso_size, claims.partition_area
    if view.size < size:
        raise MalformedError(
            f"the ISO has {size} bytes, by its statement; here are only {view.size}",
            where=view.name,
            remedy="the file or the carrier is too short; write or fetch the ISO again",
            finding="truncated",
        )
    if view.size == size:
        return FoundIso(view, None)
    return _on_carrier(view, size, area)


def look_behind(carrier: Carrier, progress: Progress = SILENT) -> Trailing:
    """Read what lies behind the ISO, up to the first byte that is not zero.

    Raises VerificationError when the carrier's end calls it a part of a RAID array.
    """
    array = array_at_end(carrier.view, carrier.iso_size)
    if array is not None:
        raise _extra(carrier.view, f"at byte {array[1]} it says that it belongs to a RAID array ({array[0]})")
    ranges = [(carrier.iso_size, carrier.size)]
    if carrier.backup is not None:
        start, size = carrier.backup
        ranges = [(carrier.iso_size, start), (start + size, carrier.size)]
    with progress.step("reading what lies behind the ISO", sum(end - start for start, end in ranges)) as step:
        for start, end in ranges:
            position = start
            for piece in chunks(carrier.view, start, end - start):
                if not is_zero(piece):
                    return Trailing(carrier, position + len(piece) - len(piece.lstrip(b"\0")))
                position += len(piece)
                step.advance(len(piece))
    return Trailing(carrier, None)


def _on_carrier(view: ByteView, size: int, area: bytes) -> FoundIso:
    found = view.read(moved.AREA_OFFSET, moved.AREA_SIZE)
    sectors = view.size // SECTOR
    part = SubView(view, 0, size, view.name)
    if found == area:
        _refuse_other_backup(view, area, sectors)
        return FoundIso(part, Carrier(view, view.size, size, False, None))
    if moved.has_other_partitions(area, found):
        raise _extra(view, "the partition table names partitions that the signed one does not")
    header = moved.gpt_header(area)
    if header is None or size % SECTOR or not moved.is_moved(area, found, sectors):
        raise _table(view, moved.AREA_OFFSET, "the partition table is neither the signed one nor that one moved")
    offset, length = moved.entries_of(header)
    check_range(part, offset, length)
    start = (sectors - 1) * SECTOR - -(-length // SECTOR) * SECTOR
    backup = moved.backup_header(header, sectors)
    ending = view.read(start, (sectors * SECTOR) - start)
    wanted = view.read(offset, length).ljust(len(ending) - SECTOR, b"\0") + backup.ljust(SECTOR, b"\0")
    if start < size or ending != wanted:
        raise _table(view, start, "the moved backup of the partition table does not say what the signed table says")
    patches = [(moved.AREA_OFFSET, area)]
    last = size - SECTOR
    if not any(view.read(last, SECTOR)):
        patches.append((last, moved.backup_header(header, size // SECTOR)))
    return FoundIso(_Mended(part, patches), Carrier(view, view.size, size, True, (start, len(ending))))


def _refuse_other_backup(view: ByteView, area: bytes, sectors: int) -> None:
    """A table at the carrier's end from before: tools offer to bring it back, and some firmware looks for it."""
    left = read_table(view, sectors - 1)
    if left is None or not left.valid or not left.partitions():
        return
    header = moved.gpt_header(area)
    if header is not None:
        offset, length = moved.entries_of(header)
        check_range(view, offset, length)
        if left.entries == view.read(offset, length):
            return
    raise _extra(
        view, f"a partition table from before lies at the carrier's end, with {len(left.partitions())} partitions"
    )


class _Mended:
    """A view with some bytes replaced; ``patches`` are (offset, bytes)."""

    def __init__(self, view: ByteView, patches: Sequence[Tuple[int, bytes]]) -> None:
        self._view = view
        self._patches = tuple(patches)

    @property
    def size(self) -> int:
        return self._view.size

    @property
    def name(self) -> str:
        return self._view.name

    def read(self, offset: int, length: int) -> bytes:
        data = self._view.read(offset, length)
        for at, new in self._patches:
            if at < offset + length and offset < at + len(new):
                start, end = max(at, offset), min(at + len(new), offset + length)
                data = data[: start - offset] + new[start - at : end - at] + data[end - offset :]
        return data


def _extra(view: ByteView, what: str) -> VerificationError:
    return VerificationError(
        what,
        where=view.name,
        remedy="firmware or the Node could use them; wipe the carrier (its end, too) and write the ISO to it again",
        finding="extra-partition",
    )


def _table(view: ByteView, offset: int, what: str) -> VerificationError:
    return VerificationError(
        what,
        where=f"{view.name}, byte {offset}",
        remedy="write the ISO to the carrier again",
        finding="partition-table",
    )
