"""What a respun ISO was built from, by its statement, held against what is at hand. Anything else is refused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional, Tuple

from respin.bundle.reading import read_bundle
from respin.errors import UnsupportedError, UsageError, VerificationError
from respin.formats.iso9660.image import IsoImage
from respin.node.base import BaseClaim, claim_from_text, claim_given
from respin.progress import Progress
from respin.provenance import evidence
from respin.provenance.layout import EVIDENCE
from respin.provenance.statement import Claims
from respin.safepath import show
from respin.trust import TrustStore


@dataclass(frozen=True)
class ReproduceRequest:
    """What to rebuild and from what. Without ``base`` the vendor's ISO is restored from ``iso``.

    At most one of ``base_checksum`` and ``base_sha256`` says what the vendor's ISO must be; without either it is the
    vendor's CHECKSUM that ``iso`` carries. ``keep`` is where the rebuilt ISO stays; None: nowhere.
    """

    iso: Path
    plugins: Tuple[Path, ...]
    trust: Path
    base: Optional[Path] = None
    base_checksum: Optional[Path] = None
    base_sha256: Optional[str] = None
    keep: Optional[Path] = None
    force: bool = False
    tmpdir: Optional[Path] = None


def require_architecture(claims: Claims) -> None:
    """Raise UnsupportedError unless this machine is of the kind on which the ISO was built."""
    machine = os.uname().machine
    if claims.architecture != machine:
        raise UnsupportedError(
            f"it was built on a machine of the kind {show(claims.architecture)}; this one is {machine}",
            remedy="scriptlets run natively: rebuild it on such a machine",
            finding="architecture",
        )


def base_claim(request: ReproduceRequest, iso: IsoImage, claims: Claims, trust: TrustStore, tmpdir: Path) -> BaseClaim:
    """What the base must be, as the statement records it: with the vendor's CHECKSUM that the ISO carries, or pinned.

    Raises VerificationError when what is given speaks of another base than the statement.
    """
    given = claim_given(request.base_checksum, request.base_sha256, claims.base_name, trust, tmpdir)
    if given is not None:
        _require_base(given, claims, str(request.base_checksum or "--base-sha256"))
    if claims.base_kind == "vendor-signed":
        view = iso.file_view(f"/{EVIDENCE}")
        text = evidence.unpack(view).get(evidence.CHECKSUM)
        if text is None:
            raise VerificationError("the evidence lacks the vendor's CHECKSUM", where=view.name, finding="evidence")
        where = f"{view.name}:{evidence.CHECKSUM}"
        carried = claim_from_text(text, claims.base_name, trust, tmpdir, where)
        _require_base(carried, claims, where)
        return carried
    if given is None:
        raise UsageError(
            "the ISO was built on a base that no vendor's CHECKSUM speaks of",
            where=iso.view.name,
            remedy=f"say that you mean it: --base-sha256 {claims.base_sha256}",
        )
    return BaseClaim(claims.base_sha256, claims.base_name, None, b"")


def plugins_in_order(request: ReproduceRequest, claims: Claims, tmpdir: Path, progress: Progress) -> Tuple[Path, ...]:
    """The bundles in the order of the statement.

    Raises VerificationError when one is given that the statement does not name, or one that it names is not given.
    """
    wanted = {str(plugin["sha256"]): str(plugin["name"]) for plugin in claims.plugins}
    names = ", ".join(show(name) for name in wanted.values())
    found: Dict[str, Path] = {}
    for path in request.plugins:
        with read_bundle(path, tmpdir, progress) as bundle:
            digest = bundle.sha256
        if digest not in wanted:
            raise VerificationError(
                f"its sha256 is {digest}, and the statement names no plugin with it",
                where=str(path),
                remedy=f"give the bundles that it was built from: {names}",
                finding="other-plugin",
            )
        if digest in found:
            raise UsageError("the same bundle is given twice", where=str(path))
        found[digest] = path
    for digest, name in wanted.items():
        if digest not in found:
            raise VerificationError(
                f"the ISO was built with {show(name)} (sha256 {digest}), which is not given",
                where=str(request.iso),
                remedy="give it with --plugin",
                finding="missing-plugin",
            )
    return tuple(found[digest] for digest in wanted)


def _require_base(claim: BaseClaim, claims: Claims, where: str) -> None:
    if claim.sha256 != claims.base_sha256:
        raise VerificationError(
            f"it speaks of a base with the sha256 {claim.sha256}; the ISO was built from {show(claims.base_name)} with"
            f" {claims.base_sha256}",
            where=where,
            remedy="give the vendor's ISO that the statement names",
            finding="base-digest",
        )
