"""Is this ISO what it should be? Answered before anything of it is written, if it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from respin.digest import sha256_view
from respin.errors import UnsupportedError, UsageError, VerificationError
from respin.formats.iso9660.image import IsoImage
from respin.node.base import NOT_VERIFIED, BaseClaim, claim_given, verify_base
from respin.node.image import Identity, identify_anyway, open_readable
from respin.node.knownprofiles import known
from respin.node.profile import Profile
from respin.progress import Progress
from respin.trust import TrustStore
from respin.verify.root import require_recent
from respin.verify.statement import is_respun
from respin.verify.verify import VerifyRequest, verify
from respin.workspace import Workspace


@dataclass(frozen=True)
class ProofRequest:
    """By what the ISO is verified: a trust store, for a vendor's ISO its CHECKSUM, a digest; all may be absent."""

    iso: Path
    trust: Optional[Path] = None
    checksum: Optional[Path] = None
    sha256: Optional[str] = None
    tmpdir: Optional[Path] = None


@dataclass(frozen=True)
class Proof:
    """What is known of the ISO: its SHA-256, and how it was verified.

    ``how`` is "respun" (all that ``respin verify`` checks), "vendor-signed", "pinned" or :data:`NOT_VERIFIED`;
    ``complete`` is False where ``respin verify`` could not check every link.
    """

    sha256: str
    how: str
    complete: bool

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {"sha256": self.sha256, "verified": self.how, "complete": self.complete}


def prove(request: ProofRequest, fd: int, iso: IsoImage, trust: Optional[TrustStore], progress: Progress) -> Proof:
    """Verify the open ISO as it was asked for, ``trust`` being the store of the request.

    Raises UsageError for a request that makes no sense, VerificationError when it does not hold, PolicyError for a Node
    that is older than the trust store accepts.
    """
    claim = _claim(request, trust, respun=is_respun(iso))
    if claim is not None:
        digest = verify_base(fd, request.iso, claim, progress).claim.sha256
        if trust is not None:
            require_recent(iso, _identity(iso, known(trust)), trust)
        return Proof(digest, claim.kind, True)
    if trust is None:
        return Proof(sha256_view(iso.view, progress, f"hashing {request.iso.name}"), NOT_VERIFIED, False)
    return _respun(request, iso, progress)


def _claim(request: ProofRequest, trust: Optional[TrustStore], *, respun: bool) -> Optional[BaseClaim]:
    if request.checksum is None and request.sha256 is None:
        return None
    if respun:
        raise UsageError(
            "this ISO was respun: no CHECKSUM or digest of the vendor's is about it",
            where=str(request.iso),
            remedy="leave out --base-checksum and --base-sha256; by --trust it is verified as a whole",
        )
    with Workspace(request.tmpdir) as workspace:
        return claim_given(request.checksum, request.sha256, request.iso.name, trust, workspace.path)


def _identity(iso: IsoImage, profiles: Sequence[Profile]) -> Identity:
    """What the Node is, with the version that stands in its root if that can be read."""
    try:
        return open_readable(iso.view, profiles).identity
    except UnsupportedError:
        return identify_anyway(iso, profiles)


def _respun(request: ProofRequest, iso: IsoImage, progress: Progress) -> Proof:
    assert request.trust is not None
    if not is_respun(iso):
        raise VerificationError(
            "this ISO is no respun one, and nobody says whether it is the vendor's",
            where=iso.name,
            remedy="give the vendor's CHECKSUM with --base-checksum, or a digest that you vouch for with --base-sha256",
            finding="not-respun",
        )
    report = verify(VerifyRequest(request.iso, request.trust, tmpdir=request.tmpdir, plain=True), progress)
    # What was verified is what is open here, whatever file the name leads to meanwhile.
    digest = sha256_view(iso.view, progress, f"hashing {request.iso.name}")
    if digest != report.digests.iso:
        raise VerificationError(
            "the file changed while it was verified",
            where=iso.name,
            remedy="work on a copy that nobody else can write to",
            finding="changed-while-read",
        )
    return Proof(digest, "respun", report.complete)
