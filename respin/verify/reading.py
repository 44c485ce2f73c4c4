"""The one reading of a finished ISO that verification needs: one pass that feeds all digests, each in a thread."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import List, Optional, Tuple

from respin.byteview import chunks
from respin.fanout import FanOut, Sink
from respin.formats import mediacheck
from respin.formats.iso9660.ends import unchecked_blocks
from respin.formats.iso9660.image import IsoImage
from respin.progress import Progress
from respin.provenance.layout import Mask, MaskedDigest, RangeDigest


@dataclass(frozen=True)
class Reading:
    """What was computed from the bytes of an ISO; digests are SHA-256.

    ``covered`` counts masked ranges as their fill, ``part`` is the digest of one range, ``plain`` that of everything if
    it was made. ``media_check`` is the field that belongs into the ISO, empty if there is none.
    """

    covered: str
    part: str
    media_check: bytes
    plain: str


@dataclass(frozen=True)
class Written:
    """Digests that were made of bytes on their way to the disk: of the root image, and the media check's field."""

    part: str
    media_check: bytes


def read_back(iso: IsoImage, masks: Tuple[Mask, ...], written: Written, progress: Progress) -> Reading:
    """Read all of an ISO that was just written. ``covered`` proves that what is there is what was written, so that the
    digests in ``written`` hold for it if they name covered bytes.
    """
    covered, whole = MaskedDigest(masks), hashlib.sha256()
    _feed(iso, [covered.update, whole.update], progress)
    return Reading(covered.hexdigest(), written.part, written.media_check, whole.hexdigest())


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
        media = mediacheck.MediaCheckHasher(iso.volume_space_size, skip_sectors=unchecked_blocks(iso))
        sinks.append(media.update)
    if plain:
        sinks.append(whole.update)
    _feed(iso, sinks, progress)
    field = b"" if media is None else media.field()
    return Reading(covered.hexdigest(), range_digest.hexdigest(), field, whole.hexdigest() if plain else "")


def _feed(iso: IsoImage, sinks: List[Sink], progress: Progress) -> None:
    with progress.step("reading the whole ISO", iso.view.size) as step, FanOut(sinks) as out:
        for piece in chunks(iso.view):
            out.feed(piece)
            step.advance(len(piece))
