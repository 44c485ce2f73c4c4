"""Is this the vendor's ISO? Answered by the vendor's signed CHECKSUM, or by a digest that the caller vouches for."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, ContextManager, Iterator, Optional, Tuple

from respin.byteview import FileView, chunks
from respin.digest import PIECE, crc32
from respin.digesting import Digesting
from respin.errors import UsageError, VerificationError
from respin.fanout import FanOut
from respin.formats import checksumfile
from respin.limits import LIMITS
from respin.progress import SILENT, Progress
from respin.trust import Role, TrustedSignature, TrustStore
from respin.unchanged import ReadLease, unchanged

NOT_VERIFIED = "not verified"
"""What is said where nobody vouches for an ISO, instead of :attr:`BaseClaim.kind`."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class BaseClaim:
    """What is expected of the base: its digest, and who says so (``signature`` is None for a pinned digest)."""

    sha256: str
    name: str
    signature: Optional[TrustedSignature]
    checksum_text: bytes

    @property
    def kind(self) -> str:
        """ "vendor-signed" or "pinned"."""
        return "pinned" if self.signature is None else "vendor-signed"


@dataclass(frozen=True)
class VerifiedBase:
    """A base ISO whose bytes are what the claim says; made by :func:`verify_base` only.

    ``checks`` are the CRC-32 of its pieces of :data:`PIECE` bytes. While ``lease`` holds, they still are.
    """

    fd: int
    path: Path
    size: int
    claim: BaseClaim
    checks: Tuple[int, ...]
    lease: Optional[ReadLease] = None

    def view(self) -> FileView:
        """The ISO's bytes."""
        return FileView(self.fd, str(self.path), 0, self.size)


def claim_from_checksum(path: Path, iso_name: str, trust: TrustStore, tmpdir: Path) -> BaseClaim:
    """What the vendor's clearsigned CHECKSUM file says of ``iso_name``; only text that GnuPG vouches for is read."""
    return claim_from_text(read_small(path, LIMITS.checksum_file), iso_name, trust, tmpdir, str(path))


def claim_from_text(text: bytes, iso_name: str, trust: TrustStore, tmpdir: Path, where: str) -> BaseClaim:
    """The same for a CHECKSUM text at hand; ``where`` names it in messages."""
    signature, signed = trust.verify_clearsigned(Role.BASE, iso_name, text, where=where, tmpdir=tmpdir)
    listed = checksumfile.parse(signed, where=where)
    if iso_name in listed:
        algorithm, digest = listed[iso_name]
        if algorithm == "sha256":
            return BaseClaim(digest, iso_name, signature, text)
        raise VerificationError(
            f"the vendor's CHECKSUM gives {iso_name} only by {algorithm}", where=where, finding="weak-digest"
        )
    raise VerificationError(
        f"the vendor's CHECKSUM does not name {iso_name}",
        where=where,
        remedy=f"it names {', '.join(sorted(listed)) or 'nothing'}: take the CHECKSUM of this release, and keep"
        " the vendor's file name",
        finding="not-listed",
    )


def claim_pinned(sha256: str, iso_name: str) -> BaseClaim:
    """A digest that the caller vouches for instead of the vendor; reported as "pinned", never as signed."""
    if not _SHA256.fullmatch(sha256.lower()):
        raise UsageError("--base-sha256 needs 64 hex digits", remedy="sha256sum NODE.iso prints them")
    return BaseClaim(sha256.lower(), iso_name, None, b"")


def claim_given(
    checksum: Optional[Path], sha256: Optional[str], iso_name: str, trust: Optional[TrustStore], tmpdir: Path
) -> Optional[BaseClaim]:
    """The claim of a CHECKSUM file or of a digest, whichever is given; None for neither, UsageError for both."""
    if checksum is not None and sha256 is not None:
        raise UsageError("--base-checksum and --base-sha256 are both given", remedy="give one of them")
    if checksum is not None and trust is None:
        raise UsageError("--base-checksum is judged by a trust store", remedy="give it with --trust DIR")
    if checksum is not None and trust is not None:
        return claim_from_checksum(checksum, iso_name, trust, tmpdir)
    return None if sha256 is None else claim_pinned(sha256, iso_name)


def verify_base(
    fd: int, path: Path, claim: BaseClaim, progress: Progress = SILENT, begun: Optional[Digesting] = None
) -> VerifiedBase:
    """Hash the open file and compare; VerificationError when it is not the ISO that the claim speaks of.

    ``begun`` may have begun with that, if it is of this file.
    """
    view = FileView(fd, str(path))
    with progress.step(f"verifying {path.name}", view.size) as step:
        found = begun.result(step.advance) if begun is not None and begun.is_of(fd) else None
        lease = begun.lease if begun is not None and found is not None else None
        digest, checks = found or _hashed(view, step.advance)
    if digest != claim.sha256:
        says = "the vendor's signed CHECKSUM" if claim.signature else "--base-sha256"
        raise VerificationError(
            f"its sha256 is {digest}, {says} says {claim.sha256}",
            where=str(path),
            remedy="the file is damaged, or not the release that the checksum speaks of; fetch it again",
            finding="base-digest",
        )
    return VerifiedBase(fd, path, view.size, claim, checks, lease)


def _hashed(view: FileView, advance: Callable[[int], None]) -> Tuple[str, Tuple[int, ...]]:
    sha256 = hashlib.sha256()
    checks = []
    with FanOut([sha256.update]) as out:
        for piece in chunks(view, step=PIECE):
            out.feed(piece)
            checks.append(crc32(piece))
            advance(len(piece))
    return sha256.hexdigest(), tuple(checks)


def open_input(path: Path) -> int:
    """Open a file for reading; UsageError for what is neither a regular file nor a block device."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not to wait for the other end of a FIFO
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        os.close(fd)
        raise UsageError("this is not a file", where=str(path), remedy="name a regular file or a device")
    return fd


@contextmanager
def opened(path: Path, watch: Callable[[int, str], ContextManager[None]] = unchanged) -> Iterator[int]:
    """The descriptor of an input while it is open, watched by :func:`unchanged` or ``changes_told``."""
    fd = open_input(path)
    try:
        with watch(fd, str(path)):
            yield fd
    finally:
        os.close(fd)


def read_small(path: Path, limit: int) -> bytes:
    """A small file whole; UsageError when it is larger than ``limit``."""
    fd = open_input(path)
    try:
        view = FileView(fd, str(path))
        data = view.read(0, min(view.size, limit + 1))
    finally:
        os.close(fd)
    if len(data) > limit:
        raise UsageError(
            f"the file is larger than {limit} bytes; it cannot be what it should be",
            where=str(path),
            remedy="look whether another file was meant",
        )
    return data
