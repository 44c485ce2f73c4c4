"""The media check of isomd5sum: an MD5 of an ISO image with running fragments, kept inside the image itself.

Covered: the field as ``implantisomd5`` writes it into the primary volume descriptor's application-use bytes, the sum
and the fragments as ``checkisomd5`` computes them. It finds bad media; MD5 proves nothing against an attacker.
"""

from __future__ import annotations

import hashlib
import re
from enum import Enum
from typing import List, NamedTuple, Optional

from respin.byteview import ByteView, chunks
from respin.progress import SILENT, Progress

SECTOR = 2048
DESCRIPTOR = 16 * SECTOR
"""Byte offset of the primary volume descriptor."""
FIELD_OFFSET = DESCRIPTOR + 883
FIELD_SIZE = 512
SKIP_SECTORS = 15
"""Sectors at the end of the volume that the sum leaves out: some drives can't read them."""
FRAGMENTS = 20
_SPACE_SIZE = DESCRIPTOR + 84  # the big-endian half of the volume space size
_READ = 16 * SECTOR  # isomd5sum reads this much at a time and looks for the end of a fragment after each read
_DIGITS = 3  # hex digits that stand for a fragment

_FIELD = (
    rb"ISO MD5SUM = ([0-9a-f]{32});SKIPSECTORS = ([0-9]{1,5});RHLISOSTATUS=([01]);"
    rb"FRAGMENT SUMS = ([0-9a-f]{0,60});FRAGMENT COUNT = ([0-9]{1,3});"
    rb"THIS IS NOT THE SAME AS RUNNING MD5SUM ON THIS ISO!! *"
)


class MediaCheck(NamedTuple):
    """The content of the field."""

    md5: str
    """32 hex digits."""
    skip_sectors: int
    supported: bool
    """RHLISOSTATUS: whether the vendor marked the image as supported."""
    fragment_sums: str
    """Three hex digits for each fragment that is complete."""
    fragment_count: int


class Result(Enum):
    """What checking an image found."""

    PASS = "pass"  # noqa: S105 - checkisomd5's word
    FAIL = "fail"
    ABSENT = "absent"


def covered_bytes(volume_space_size: int, skip_sectors: int = SKIP_SECTORS) -> int:
    """How many bytes from the start the sum covers; ``volume_space_size`` is in sectors."""
    return max(0, volume_space_size - skip_sectors) * SECTOR


def read(view: ByteView) -> Optional[MediaCheck]:
    """The media check of an image; None when the field holds anything else."""
    if view.size < FIELD_OFFSET + FIELD_SIZE or view.read(DESCRIPTOR, 6) != b"\1CD001":
        return None
    found = re.fullmatch(_FIELD, view.read(FIELD_OFFSET, FIELD_SIZE))
    if found is None:
        return None
    md5, skip, status, sums, count = (group.decode("ascii") for group in found.groups())
    return MediaCheck(md5, int(skip), status == "1", sums, int(count))


class MediaCheckHasher:
    """Computes the sum over an image that is fed in order, in pieces of any size.

    The field itself counts as spaces whatever it holds. Bytes behind the covered part are counted but not hashed.
    """

    def __init__(
        self, volume_space_size: int, *, skip_sectors: int = SKIP_SECTORS, fragment_count: int = FRAGMENTS
    ) -> None:
        self.covered = covered_bytes(volume_space_size, skip_sectors)
        self.position = 0
        """How many bytes were fed."""
        self._skip_sectors = skip_sectors
        self._fragment_count = fragment_count
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._ends = _fragment_ends(self.covered, fragment_count)
        self._sums: List[str] = []

    @property
    def complete(self) -> bool:
        """Whether all of the covered part was fed."""
        return self.position >= self.covered

    def update(self, data: bytes) -> None:
        """Feed the next bytes of the image."""
        start = self.position
        self.position += len(data)
        if start < FIELD_OFFSET + FIELD_SIZE and self.position > FIELD_OFFSET:
            data = _blank(data, start)
        piece = memoryview(data)[: max(0, self.covered - start)]
        end = start + len(piece)
        while self._ends and self._ends[0] <= end:
            cut = self._ends.pop(0) - start
            self._md5.update(piece[:cut])
            piece = piece[cut:]
            start += cut
            running = self._md5.copy().digest()[:_DIGITS]
            self._sums.append("".join(f"{byte:x}"[0] for byte in running))
        self._md5.update(piece)

    def result(self, *, supported: bool = False) -> MediaCheck:
        """The media check of what was fed; ValueError before all of the covered part was."""
        if not self.complete:
            raise ValueError(f"{self.position} of {self.covered} covered bytes were fed")
        return MediaCheck(
            md5=self._md5.hexdigest(),
            skip_sectors=self._skip_sectors,
            supported=supported,
            fragment_sums="".join(self._sums),
            fragment_count=self._fragment_count,
        )

    def field(self, *, supported: bool = False) -> bytes:
        """The 512 bytes for :data:`FIELD_OFFSET`; ValueError before all of the covered part was fed."""
        return encode(self.result(supported=supported))


def encode(check: MediaCheck) -> bytes:
    """The 512 bytes that hold ``check``."""
    text = (
        f"ISO MD5SUM = {check.md5};SKIPSECTORS = {check.skip_sectors};RHLISOSTATUS={int(check.supported)};"
        f"FRAGMENT SUMS = {check.fragment_sums};FRAGMENT COUNT = {check.fragment_count};"
        "THIS IS NOT THE SAME AS RUNNING MD5SUM ON THIS ISO!!"
    )
    return text.encode("ascii").ljust(FIELD_SIZE)


def volume_space_size(view: ByteView) -> int:
    """The size of the volume in sectors, from the half of the field that isomd5sum reads."""
    return int.from_bytes(view.read(_SPACE_SIZE, 4), "big")


def verify(view: ByteView, progress: Progress = SILENT) -> Result:
    """Check an image against the sum it carries.

    FAIL also for fragments that differ and for an image shorter than its volume; ABSENT when it carries no sum.
    """
    expected = read(view)
    if expected is None:
        return Result.ABSENT
    hasher = MediaCheckHasher(
        volume_space_size(view), skip_sectors=expected.skip_sectors, fragment_count=expected.fragment_count
    )
    if hasher.covered > view.size:
        return Result.FAIL
    with progress.step(f"checking the media sum of {view.name}", hasher.covered) as step:
        for piece in chunks(view, 0, hasher.covered):
            hasher.update(piece)
            step.advance(len(piece))
    return Result.PASS if hasher.result(supported=expected.supported) == expected else Result.FAIL


def _fragment_ends(covered: int, count: int) -> List[int]:
    """The offsets at which a running sum is taken: after each read that begins in another fragment than the last."""
    size = covered // (count + 1)
    if not size:
        return []
    ends: List[int] = []
    previous = 0
    for fragment in range(1, covered // size + 1):
        start = -(-fragment * size // _READ) * _READ  # the first read that begins in this fragment or behind it
        if start < covered and start // size != previous:
            previous = start // size
            ends.append(min(start + _READ, covered))
    return ends


def _blank(data: bytes, start: int) -> bytes:
    """``data``, which begins at byte ``start`` of the image, with the field in it as spaces."""
    blank = bytearray(data)
    first, last = max(0, FIELD_OFFSET - start), min(len(data), FIELD_OFFSET + FIELD_SIZE - start)
    blank[first:last] = b" " * (last - first)
    return bytes(blank)
