"""Bytes that are not the vendor's where nothing may have changed them: finding them, and the error."""

from __future__ import annotations

from respin.byteview import ByteView, same_bytes
from respin.errors import VerificationError
from respin.segments import Copy, Data, Segment


def altered(view: ByteView, offset: int, what: str) -> VerificationError:
    """``what`` is wrong at byte ``offset`` of ``view``."""
    return VerificationError(
        what,
        where=f"{view.name}, byte {offset}",
        remedy="this is not the vendor's Node plus the declared plugins; do not use it",
        finding="not-the-vendors",
    )


def _expected(segment: Segment, offset: int, length: int, base: ByteView) -> bytes:
    if isinstance(segment, Copy):
        return base.read(segment.offset + offset, length)
    return segment.data[offset : offset + length] if isinstance(segment, Data) else bytes(length)


def require_same(
    view: ByteView, offset: int, segment: Segment, within: int, length: int, base: ByteView, part: str = "on the ISO"
) -> None:
    """What stands at ``offset`` must be ``length`` bytes of ``segment`` over ``base``, from its byte ``within`` on."""
    if isinstance(segment, Copy) and same_bytes(view, offset, base, segment.offset + within, length):
        return
    wanted = _expected(segment, within, length, base)
    found = view.read(offset, length)
    if found != wanted:
        place = next(i for i, (a, b) in enumerate(zip(found, wanted)) if a != b)
        raise altered(view, offset + place, f"a byte {part} is not the vendor's, outside the declared changes")
