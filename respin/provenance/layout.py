"""Where the provenance lies on the ISO, and which bytes its digest covers.

Names in the root directory of the respun ISO, found through directory records that the digest covers:

- ``/respin.json``: the in-toto Statement. It names the digest of the ISO it lies in, so it counts as zeros there.
- ``/respin.restore``: how the vendor's ISO comes back from this one (:mod:`respin.provenance.restoremap`).
- ``/respin.evidence``: what others signed, and the statement speaks of (:mod:`respin.provenance.evidence`).
- ``/respin.sig``: a slot of fixed size for signatures over the statement. It lies where the media check doesn't look
  (the last 15 sectors of the file system), so signing later changes no other byte. It counts as zeros.

The 512 bytes of the media check in the primary volume descriptor, if there is one, depend on the statement; they count
as spaces. Verification computes them anew, so they are covered all the same.
Everything else counts as it is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import List, Tuple

from respin.byteview import ByteView, chunks
from respin.progress import SILENT, Progress

STATEMENT = "respin.json"
RESTORE = "respin.restore"
EVIDENCE = "respin.evidence"
SLOT = "respin.sig"
SLOT_SIZE = 8 * 2048
# ECMA-119 8.4.32: the application use field of the primary volume descriptor, in sector 16.
MEDIA_CHECK_OFFSET = 16 * 2048 + 883
MEDIA_CHECK_SIZE = 512


@dataclass(frozen=True)
class Mask:
    """``length`` bytes from ``offset`` count as ``fill`` (one byte) for the digest."""

    offset: int
    length: int
    fill: bytes


def masks(statement: Tuple[int, int], slot: Tuple[int, int], *, media_check: bool) -> Tuple[Mask, ...]:
    """The masks of an ISO whose statement and slot lie at the given (offset, size), sorted.

    ``media_check`` says whether the ISO has one; otherwise the field's bytes count as they are.
    """
    found = [Mask(statement[0], statement[1], b"\0"), Mask(slot[0], slot[1], b"\0")]
    if media_check:
        found.append(Mask(MEDIA_CHECK_OFFSET, MEDIA_CHECK_SIZE, b" "))
    return tuple(sorted(found, key=lambda mask: mask.offset))


class MaskedDigest:
    """SHA-256 of a stream fed in order, with masked ranges counted as their fill byte."""

    def __init__(self, ranges: Tuple[Mask, ...]) -> None:
        self._masks: List[Mask] = list(ranges)
        self._position = 0
        self._digest = hashlib.sha256()

    def update(self, data: bytes) -> None:
        """Feed the next bytes."""
        view = memoryview(data)
        while view:
            while self._masks and self._masks[0].offset + self._masks[0].length <= self._position:
                self._masks.pop(0)
            mask = self._masks[0] if self._masks else None
            if mask is not None and mask.offset <= self._position:
                take = min(len(view), mask.offset + mask.length - self._position)
                self._digest.update(mask.fill * take)
            else:
                take = len(view) if mask is None else min(len(view), mask.offset - self._position)
                self._digest.update(view[:take])
            self._position += take
            view = view[take:]

    def hexdigest(self) -> str:
        """The digest of what was fed so far, in lower-case hex."""
        return self._digest.hexdigest()


def covered_digest(iso: ByteView, ranges: Tuple[Mask, ...], progress: Progress = SILENT) -> str:
    """The digest that the statement names as its subject, computed from a whole ISO."""
    digest = MaskedDigest(ranges)
    with progress.step("hashing what the statement covers", iso.size) as step:
        for piece in chunks(iso):
            digest.update(piece)
            step.advance(len(piece))
    return digest.hexdigest()
