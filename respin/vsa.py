"""A Verification Summary Attestation: what ``respin verify`` found, for whoever asks later and need not verify again.

The predicate is SLSA's (slsa.dev/spec/v1.0/verification_summary) in an in-toto Statement. ``timeVerified`` is a clock's
time, the only one that respin ever writes: a summary says what held at that time, by that trust store.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

from packageurl import PackageURL

from respin import __version__
from respin.byteview import FileView
from respin.digest import sha256_hex, sha256_view
from respin.errors import RespinError
from respin.formats import intoto
from respin.formats.iso9660.image import IsoImage
from respin.formats.openpgp import Signer
from respin.node.base import open_input
from respin.progress import SILENT, Progress
from respin.provenance import sidecar
from respin.trust import TrustStore
from respin.verify.report import Report, Status
from respin.verify.statement import read_statement

PREDICATE = "https://slsa.dev/verification_summary/v1"
VERIFIER = "urn:respin:verifier"
POLICY = "urn:respin:trust-store"
# Signed provenance, checked; SLSA's higher levels are about the platform that built it, of which nothing is known here.
LEVEL = "SLSA_BUILD_LEVEL_1"
FAILED = "FAILED"


@dataclass(frozen=True)
class Outcome:
    """How a verification ended: with a report, or with what was wrong."""

    iso: Path
    trust: Path
    result: Union[Report, RespinError]


def summarise(
    outcome: Outcome, signer: Optional[Signer], *, time: Optional[int] = None, progress: Progress = SILENT
) -> bytes:
    """The summary: a DSSE envelope when there is a signer, else the bare statement; one line.

    ``time`` (seconds since 1970) is now unless it is given.
    """
    now = datetime.now(timezone.utc) if time is None else datetime.fromtimestamp(time, timezone.utc)
    sha256, inside = _digests(outcome, progress)
    predicate: Dict[str, Any] = {
        "verifier": {"id": VERIFIER, "version": {"respin": __version__}},
        "timeVerified": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "resourceUri": PackageURL(
            "generic", name=outcome.iso.name, qualifiers={"checksum": f"sha256:{sha256}"}
        ).to_string(),
        "policy": {"uri": POLICY, "digest": {"sha256": TrustStore.load(outcome.trust).digest}},
        "inputAttestations": [{"digest": {"sha256": inside}}] if inside else [],
        "slsaVersion": "1.0",
        **_result(outcome),
    }
    subject = intoto.Resource(name=outcome.iso.name, digest={"sha256": sha256})
    statement = intoto.build([subject], PREDICATE, predicate).raw
    return (statement if signer is None else sidecar.sign(statement, signer).encode()) + b"\n"


def _digests(outcome: Outcome, progress: Progress) -> Tuple[str, str]:
    """The ISO's digest, and that of the statement in it (empty: there is none to read).

    Of what was verified, the file is not read again: by now it could be another one.
    """
    if isinstance(outcome.result, Report) and outcome.result.digests.iso:
        return outcome.result.digests.iso, outcome.result.digests.statement
    fd = open_input(outcome.iso)
    try:
        view = FileView(fd, str(outcome.iso))
        sha256 = sha256_view(view, progress, "hashing the ISO for the summary")
        try:
            raw, _ = read_statement(IsoImage.open(view))
        except RespinError:
            return sha256, ""
        return sha256, sha256_hex(raw)
    finally:
        os.close(fd)


def _result(outcome: Outcome) -> Dict[str, Any]:
    if isinstance(outcome.result, RespinError):
        finding = outcome.result.finding
        return {"verificationResult": FAILED, "verifiedLevels": [FAILED], "respin_finding": finding}
    links = outcome.result.links
    return {
        "verificationResult": "PASSED",
        "verifiedLevels": [LEVEL],
        "respin_complete": outcome.result.complete,
        "respin_not_done": [link.name for link in links if link.status is Status.NOT_DONE],
    }
