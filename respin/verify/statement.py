"""The first links: the statement in the ISO, who signed it, and whether it speaks of this very ISO."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

from respin.byteview import chunks
from respin.errors import MalformedError, VerificationError
from respin.formats import dsse, mediacheck
from respin.formats.iso9660.ends import insertion_point, unchecked_blocks, unchecked_start
from respin.formats.iso9660.fields import BLOCK
from respin.formats.iso9660.image import IsoImage
from respin.limits import LIMITS
from respin.progress import Progress
from respin.provenance import slot, statement
from respin.provenance.layout import (
    MEDIA_CHECK_OFFSET,
    MEDIA_CHECK_SIZE,
    SLOT,
    SLOT_SIZE,
    STATEMENT,
    Mask,
    covered_digest,
    masks,
)
from respin.trust import TrustStore
from respin.verify.reading import Reading
from respin.verify.signatures import JudgedSignatures, judge_signatures


def is_respun(iso: IsoImage) -> bool:
    """Whether the ISO carries a statement."""
    return f"/{STATEMENT}" in iso.files


def extent(iso: IsoImage, name: str) -> Tuple[int, int]:
    """Byte offset and size of one of our files in the root directory; every tree must agree on them."""
    view = iso.file_view(f"/{name}")
    return view.offset, view.size


def read_statement(iso: IsoImage) -> Tuple[bytes, dsse.Envelope]:
    """The statement's bytes and the signatures in the slot, unverified.

    Raises VerificationError when the ISO carries none, MalformedError when statement or slot are not as they should be.
    """
    raw, content = statement_and_slot(iso)
    return raw, slot.decode(content, raw, where=f"{iso.view.name}:/{SLOT}")


def statement_and_slot(iso: IsoImage) -> Tuple[bytes, bytes]:
    """The bytes of the statement and of the slot, whatever is in them.

    Raises VerificationError when the ISO carries none, MalformedError for a slot that lies somewhere else.
    """
    if not is_respun(iso) or f"/{SLOT}" not in iso.files:
        raise VerificationError(
            "this ISO carries no statement: it was not made by respin, or the statement was taken out",
            where=iso.view.name,
            remedy="`respin inspect` shows what it is; a stock ISO is proved by the vendor's CHECKSUM alone",
            finding="no-statement",
        )
    raw = iso.read(f"/{STATEMENT}", LIMITS.statement)
    offset, size = extent(iso, SLOT)
    if size != SLOT_SIZE or not unchecked_start(iso) * BLOCK <= offset <= insertion_point(iso) * BLOCK - size:
        raise MalformedError(
            "the signature slot does not lie where only a slot may lie",
            where=f"{iso.view.name}:/{SLOT}",
            finding="bad-slot",
        )
    return raw, iso.read(f"/{SLOT}", SLOT_SIZE)


def verify_signatures(iso: IsoImage, envelope: dsse.Envelope, trust: TrustStore, tmpdir: Path) -> JudgedSignatures:
    """The signatures over the statement, judged for this ISO; raises as :func:`judge_signatures`."""
    return judge_signatures(envelope, iso.volume_id, trust, where=f"{iso.view.name}:/{SLOT}", tmpdir=tmpdir)


def subject_masks(iso: IsoImage, claims: statement.Claims) -> Tuple[Mask, ...]:
    """The ranges of the ISO that the digest which the statement names does not cover."""
    return masks(extent(iso, STATEMENT), extent(iso, SLOT), media_check=claims.media_check)


def verify_subject(
    iso: IsoImage, claims: statement.Claims, progress: Progress, reading: Optional[Reading] = None
) -> None:
    """Hold the ISO against the digest that the statement names; VerificationError when they differ.

    ``reading`` has the digest if the ISO was read already.
    """
    digest = covered_digest(iso.view, subject_masks(iso, claims), progress) if reading is None else reading.covered
    if digest != claims.subject_sha256:
        raise VerificationError(
            f"the ISO's bytes are not the ones that were signed (sha256 of the covered bytes is {digest},"
            f" the statement says {claims.subject_sha256})",
            where=iso.view.name,
            remedy="the file was damaged or tampered with after it was built; get it again from its maker",
            finding="subject-digest",
        )


def verify_media_check(
    iso: IsoImage, claims: statement.Claims, progress: Progress, reading: Optional[Reading] = None
) -> str:
    """Compute the media check anew, which lies outside of the signed digest; returns what to say about it.

    ``reading`` has it if the ISO was read already.
    """
    if not claims.media_check:
        if mediacheck.read(iso.view) is not None:
            raise VerificationError(
                "the ISO has a media check that the statement does not speak of",
                where=f"{iso.view.name}, byte {MEDIA_CHECK_OFFSET}",
                remedy="this ISO was not made by respin; do not use it",
                finding="media-check",
            )
        return "no media check implanted"
    field = _media_check(iso, progress) if reading is None else reading.media_check
    if iso.view.read(MEDIA_CHECK_OFFSET, MEDIA_CHECK_SIZE) != field:
        raise VerificationError(
            "the media check implanted in the ISO does not match its content",
            where=f"{iso.view.name}, byte {MEDIA_CHECK_OFFSET}",
            remedy="the file is damaged; a classic Node refuses to install or upgrade from it",
            finding="media-check",
        )
    return "media check holds"


def _media_check(iso: IsoImage, progress: Progress) -> bytes:
    hasher = mediacheck.MediaCheckHasher(iso.volume_space_size, skip_sectors=unchecked_blocks(iso))
    with progress.step("computing the media check", iso.view.size) as step:
        for piece in chunks(iso.view):
            hasher.update(piece)
            step.advance(len(piece))
    return hasher.field()
