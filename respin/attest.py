"""Attesting what came out of testing an ISO: a signed in-toto statement beside it.

The subject is the ISO by its plain SHA-256: results are of exactly these bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional

from respin.byteview import FileView
from respin.digest import sha256_view
from respin.errors import UsageError, VerificationError
from respin.formats import intoto
from respin.limits import LIMITS
from respin.node.base import open_input, read_small
from respin.progress import SILENT, Progress
from respin.provenance import sidecar, testresult
from respin.provenance.signing import CheckedSigner, Signatory, lock
from respin.workspace import Workspace, refuse_existing, refuse_inputs, write_file


@dataclass(frozen=True)
class AttestRequest:
    """Which ISO, which results, who signs. With ``output`` the envelope goes to that file instead of the sidecar."""

    iso: Path
    results: Path
    signatory: Signatory
    output: Optional[Path] = None
    force: bool = False
    tmpdir: Optional[Path] = None


@dataclass(frozen=True)
class Attested:
    """What was written where; ``statements`` counts those in the file now."""

    iso: Path
    sha256: str
    results: testresult.TestResults
    key: str
    written: Path
    statements: int
    checked: bool

    def to_json(self) -> Dict[str, Any]:
        """The result as one document."""
        return {
            "schema": "respin.attest/1",
            "iso": str(self.iso),
            "sha256": self.sha256,
            "predicate_type": sidecar.TEST_RESULT,
            "result": self.results.result,
            "passed": len(self.results.named(testresult.PASSED)),
            "warned": len(self.results.named(testresult.WARNED)),
            "failed": len(self.results.named(testresult.FAILED)),
            "key": self.key,
            "written": str(self.written),
            "statements": self.statements,
            "checked": self.checked,
        }


def attest(request: AttestRequest, progress: Progress = SILENT) -> Attested:
    """Sign the results and put the statement beside the ISO; the ISO itself is not touched.

    Raises MalformedError for results that are not as specified, VerificationError when they are of another ISO,
    BuildError when nobody signed. The file beside the ISO is replaced at once or stays as it was.
    """
    target = request.output or sidecar.paths(request.iso)[0]
    refuse_inputs((target,), (request.iso, request.results, request.signatory.gnupg_home))
    results = testresult.parse(read_small(request.results, LIMITS.manifest), where=str(request.results))
    fd = open_input(request.iso)
    try:
        lock(fd, request.iso)
        refuse_existing(target, force=request.force or request.output is None)
        before = b""
        if request.output is None and target.exists():
            before = read_small(target, sidecar.LIMIT)
        sha256 = sha256_view(FileView(fd, str(request.iso)), progress, "hashing the ISO")
        if sha256 != results.iso_sha256:
            raise VerificationError(
                f"the results are of an ISO with the sha256 {results.iso_sha256}, this one has {sha256}",
                where=str(request.results),
                remedy="test this ISO; one that was signed again after its tests is another",
                finding="other-iso",
            )
        subject = intoto.Resource(name=request.iso.name, digest={"sha256": sha256})
        statement = intoto.build([subject], sidecar.TEST_RESULT, results.predicate()).raw
        with Workspace(request.tmpdir) as workspace:
            signer = CheckedSigner(request.signatory, workspace.path)
            content = sidecar.appended(before, statement, signer, where=str(target))
        if len(content) > sidecar.LIMIT:
            raise UsageError(
                f"the file would have more than {sidecar.LIMIT} bytes",
                where=str(target),
                remedy="write a file of its own with -o FILE",
            )
        write_file(target, content, force=request.force or request.output is None)
    finally:
        os.close(fd)
    return Attested(request.iso, sha256, results, signer.fingerprint, target, len(content.splitlines()), signer.checked)
