"""The one reading of a finished ISO that verification needs: one pass that feeds all digests, each in a thread."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import List, Mapping, Optional, Sequence, Tuple

from respin.byteview import ByteView, chunks
from respin.digest import PIECE, crc32
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
    """Reads an ISO that was just written, beside what else is done: all of it has to come back as it was written.

    The digests that were made while it was written hold for what is there then. ``checks`` are the CRC-32 that were
    made beside them, of each :data:`PIECE` bytes; ``size`` is that of the ISO. A disk that keeps something else is
    found by them as well as by the bytes themselves, for which the base would have to be read once more; they prove
    nothing against an attacker, who would have to change a file that nobody else can open. Only the plain digest is
    made here. A context manager; leaving it early ends the reading.
    """

    def __init__(self, view: ByteView, size: int, checks: Sequence[int]) -> None:
        if len(checks) != -(-size // PIECE):
            raise ValueError(f"{len(checks)} checksums for {size} bytes")
        self._view, self._size, self._checks = view, size, checks
        self._over = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-back")
        self._reading = self._pool.submit(self._read)

    def result(self) -> str:
        """The SHA-256 of the whole ISO, when all is read. Raises BuildError at the first piece that is another."""
        return self._reading.result()

    def _read(self) -> str:
        whole = hashlib.sha256()
        if self._view.size != self._size:
            raise self._different(f"it has {self._view.size} bytes instead of {self._size}")
        with FanOut([whole.update]) as out:
            for number, (piece, check) in enumerate(zip(chunks(self._view, step=PIECE), self._checks)):
                if self._over:
                    break
                out.feed(piece)
                if crc32(piece) != check:
                    raise self._different(f"what was written from byte {number * PIECE} on does not come back")
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


def renewed(checks: Sequence[int], meant: ByteView, later: Mapping[int, bytes]) -> Tuple[int, ...]:
    """``checks`` of an ISO to which bytes were written ``later``, by offset; with them it is what was ``meant``."""
    found = list(checks)
    for offset, data in later.items():
        for number in range(offset // PIECE, -(-(offset + len(data)) // PIECE)):
            found[number] = crc32(meant.read(number * PIECE, min(PIECE, meant.size - number * PIECE)))
    return tuple(found)


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
