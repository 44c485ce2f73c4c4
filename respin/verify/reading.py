"""The one reading of a finished ISO that verification needs: one pass that feeds all digests, each in a thread."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import List, Optional, Tuple

from respin.byteview import ByteView, chunks
from respin.errors import BuildError
from respin.fanout import FanOut, Sink
from respin.formats import mediacheck
from respin.formats.iso9660.ends import unchecked_blocks
from respin.formats.iso9660.image import IsoImage
from respin.progress import Progress
from respin.provenance.layout import Mask, MaskedDigest


@dataclass(frozen=True)
class Reading:
    """What was computed from the bytes of an ISO; digests are SHA-256.

    ``covered`` counts masked ranges as their fill, ``plain`` is that of everything if it was made. ``media_check`` is
    the field that belongs into the ISO, empty if there is none.
    """

    covered: str
    media_check: bytes
    plain: str


class ReadBack:
    """Reads an ISO that was just written, beside what else is done: every byte has to come back as it was meant.

    The digests that were made on the way hold for what is there then. What was meant is composed once more and compared
    byte by byte, which takes a third of what a digest takes; only the plain digest is made here. A context manager;
    leaving it early ends the reading.
    """

    def __init__(self, view: ByteView, wanted: ByteView) -> None:
        self._view, self._wanted = view, wanted
        self._over = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-back")
        self._reading = self._pool.submit(self._read)

    def result(self) -> str:
        """The SHA-256 of the whole ISO, when all is read. Raises BuildError at the first byte that is not as meant."""
        return self._reading.result()

    def _read(self) -> str:
        whole = hashlib.sha256()
        position = 0
        if self._view.size != self._wanted.size:
            raise self._different(f"it has {self._view.size} bytes instead of {self._wanted.size}")
        with FanOut([whole.update]) as out:
            for piece in chunks(self._view):
                if self._over:
                    break
                out.feed(piece)
                if piece != self._wanted.read(position, len(piece)):
                    raise self._different(f"what was written from byte {position} on does not come back")
                position += len(piece)
        return whole.hexdigest()

    def _different(self, what: str) -> BuildError:
        return BuildError(
            what,
            where=self._view.name,
            remedy="nothing was published; look after the disk, and whether somebody else writes there",
            finding="read-back-differs",
        )

    def __enter__(self) -> "ReadBack":
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._pool.shutdown()


def read_through(
    iso: IsoImage,
    masks: Tuple[Mask, ...],
    progress: Progress,
    *,
    media_check: bool,
    plain: bool = False,
) -> Reading:
    """Read all of ``iso`` once; ``media_check`` is whether to compute that."""
    covered, whole = MaskedDigest(masks), hashlib.sha256()
    media: Optional[mediacheck.MediaCheckHasher] = None
    sinks: List[Sink] = [covered.update]
    if media_check:
        media = mediacheck.MediaCheckHasher(iso.volume_space_size, skip_sectors=unchecked_blocks(iso))
        sinks.append(media.update)
    if plain:
        sinks.append(whole.update)
    _feed(iso, sinks, progress)
    field = b"" if media is None else media.field()
    return Reading(covered.hexdigest(), field, whole.hexdigest() if plain else "")


def _feed(iso: IsoImage, sinks: List[Sink], progress: Progress) -> None:
    with progress.step("reading the whole ISO", iso.view.size) as step, FanOut(sinks) as out:
        for piece in chunks(iso.view):
            out.feed(piece)
            step.advance(len(piece))
