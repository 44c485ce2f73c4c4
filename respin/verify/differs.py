"""The error for bytes that are not the vendor's where nothing may have changed them."""

from __future__ import annotations

from respin.byteview import ByteView
from respin.errors import VerificationError


def altered(view: ByteView, offset: int, what: str) -> VerificationError:
    """``what`` is wrong at byte ``offset`` of ``view``."""
    return VerificationError(
        what,
        where=f"{view.name}, byte {offset}",
        remedy="this is not the vendor's Node plus the declared plugins; do not use it",
        finding="not-the-vendors",
    )
