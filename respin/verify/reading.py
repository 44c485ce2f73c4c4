"""The one reading of a finished ISO that verification needs: one pass that feeds all digests, each in a thread."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import List, Optional, Tuple

from respin.byteview import chunks
from respin.fanout import FanOut, Sink
from respin.formats import mediacheck
from respin.formats.iso9660.image import IsoImage
from respin.progress import Progress
from respin.provenance.layout import Mask, MaskedDigest, RangeDigest


@dataclass(frozen=True)
class Reading:
    """What was computed from the bytes of an ISO; digests are SHA-256.

    ``covered`` counts masked ranges as their fill, ``part`` is the digest of one range, ``plain`` that of everything if
    it was asked for. ``media_check`` is the field that belongs into the ISO.
    """

    covered: str
    part: str
    media_check: bytes
    plain: str


def read_through(
    iso: IsoImage,
    masks: Tuple[Mask, ...],
    part: Tuple[int, int],
    progress: Progress,
    *,
    media_check: bool,
    plain: bool = False,
) -> Reading:
    """Read all of ``iso`` once; ``part`` is a range (offset, size), ``media_check`` whether to compute that."""
    covered, range_digest, whole = MaskedDigest(masks), RangeDigest(*part), hashlib.sha256()
    media: Optional[mediacheck.MediaCheckHasher] = None
    sinks: List[Sink] = [covered.update, range_digest.update]
    if media_check:
        media = mediacheck.MediaCheckHasher(iso.volume_space_size)
        sinks.append(media.update)
    if plain:
        sinks.append(whole.update)
    with progress.step("reading the whole ISO", iso.view.size) as step, FanOut(sinks) as out:
        for piece in chunks(iso.view):
            out.feed(piece)
            step.advance(len(piece))
    return Reading(
        covered.hexdigest(),
        range_digest.hexdigest(),
        b"" if media is None else media.field(),
        whole.hexdigest() if plain else "",
    )
