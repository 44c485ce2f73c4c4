"""Verifies a bundle against a trust store; the only maker of :class:`VerifiedBundle`.

The order is: packing, the manifest's signature, the manifest, the files' digests, each RPM's own signature, and last
whether the RPM headers do what the manifest declares. Nothing of a manifest but its name is read before its signature
is good, and no byte of an RPM before its digest is.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from respin.bundle import effects, lint, packing
from respin.bundle.examination import check_files, check_identity, manifest_member, place
from respin.bundle.manifest import Manifest, RpmMember
from respin.bundle.members import Bundle, Member
from respin.bundle.reading import read_bundle
from respin.bundle.schema import parse_manifest, subject_name
from respin.bundle.signer import canonical_signature
from respin.errors import MalformedError, VerificationError
from respin.progress import SILENT, Progress
from respin.trust import PLUGIN, Role, TrustedSignature, TrustStore, VerifiedRpm

_BY_VERIFY = object()


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle that a trusted key signed, of packages that trusted keys signed, that do what the manifest declares.

    ``sha256`` is that of the canonical packing; ``rpms`` stand in the manifest's order and hold sealed private copies:
    close the bundle when done.
    """

    path: Path
    sha256: str
    size: int
    manifest: Manifest
    manifest_bytes: bytes
    signature_bytes: bytes
    signer: TrustedSignature
    rpms: Tuple[VerifiedRpm, ...]
    made_by: InitVar[Optional[object]] = None

    def __post_init__(self, made_by: Optional[object]) -> None:
        if made_by is not _BY_VERIFY:
            raise TypeError("only respin.bundle.verify makes verified bundles")

    def close(self) -> None:
        """Give up the private copies of the RPMs."""
        for rpm in self.rpms:
            rpm.close()


def verify(path: Path, trust: TrustStore, tmpdir: Path, progress: Progress = SILENT) -> VerifiedBundle:
    """The bundle at ``path`` (a file or a directory), verified; ``tmpdir`` takes private copies for that long.

    Raises MalformedError, VerificationError, PolicyError or UnsupportedError; docs/reference/bundle.md lists the
    findings.
    """
    with read_bundle(path, tmpdir, progress) as bundle:
        manifest_bytes = manifest_member(bundle).read()
        signature_bytes, signer = _verify_manifest(bundle, manifest_bytes, trust, tmpdir)
        manifest = parse_manifest(manifest_bytes, where=place(path, packing.MANIFEST))
        trust.require_recent(PLUGIN, manifest.name, manifest.version, manifest.release, where=str(path))
        files = check_files(manifest, bundle)
        rpms: List[VerifiedRpm] = []
        try:
            with progress.step(f"verifying the packages of {manifest.nvra}", len(manifest.rpms)) as step:
                for rpm in manifest.rpms:
                    rpms.append(_verify_rpm(rpm, files[rpm.path], bundle, trust, tmpdir))
                    check_identity(rpm, rpms[-1].header, bundle)
                    step.advance(1)
            headers = [rpm.header for rpm in rpms]
            lint.check(manifest, headers, where=str(path))
            effects.check(manifest.effects, effects.derive(headers), where=str(path))
            return VerifiedBundle(
                path=path,
                sha256=bundle.sha256,
                size=bundle.size,
                manifest=manifest,
                manifest_bytes=manifest_bytes,
                signature_bytes=signature_bytes,
                signer=signer,
                rpms=tuple(rpms),
                made_by=_BY_VERIFY,
            )
        except BaseException:
            for verified in rpms:
                verified.close()
            raise


def _verify_manifest(
    bundle: Bundle, manifest: bytes, trust: TrustStore, tmpdir: Path
) -> Tuple[bytes, TrustedSignature]:
    where = place(bundle.path, packing.MANIFEST)
    member = bundle.member(packing.SIGNATURE)
    if member is None:
        raise VerificationError(
            "the bundle is not signed",
            where=str(bundle.path),
            remedy="its maker signs it with `respin bundle sign`",
            finding="unsigned",
        )
    signature = member.read()
    if canonical_signature(signature, where=place(bundle.path, packing.SIGNATURE)) != signature:
        raise MalformedError(
            "the signature is not in its canonical spelling",
            where=place(bundle.path, packing.SIGNATURE),
            remedy="have the bundle signed again with `respin bundle sign`",
            finding="not-canonical",
        )
    subject = subject_name(manifest, where=where)
    signer = trust.verify_detached(Role.PLUGIN, subject, signature, manifest, where=where, tmpdir=tmpdir)
    return signature, signer


def _verify_rpm(rpm: RpmMember, member: Member, bundle: Bundle, trust: TrustStore, tmpdir: Path) -> VerifiedRpm:
    where = place(bundle.path, rpm.path)
    verified = trust.verify_rpm(member.fd, where=where, tmpdir=tmpdir)
    if verified.sha256 != rpm.sha256:
        verified.close()
        raise VerificationError("the package changed while it was verified", where=where, finding="digest-mismatch")
    return verified
