"""Signs a bundle: an armored detached signature over the exact bytes of its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Protocol

from respin.bundle import effects, lint, packing
from respin.bundle.examination import check_files, check_identity, manifest_member, place
from respin.bundle.maker import Draft
from respin.bundle.manifest import Manifest
from respin.bundle.members import Bundle
from respin.bundle.reading import bundle_of, read_bundle
from respin.bundle.schema import parse_manifest
from respin.bundle.signer import canonical_signature
from respin.formats.rpmfile import RpmFile
from respin.progress import SILENT, Progress


class DetachedSigner(Protocol):
    """Whoever can sign: a GnuPG home or an external command."""

    def sign_detached(self, data: bytes) -> bytes:
        """An armored detached OpenPGP signature over ``data``."""


def sign(path: Path, signer: DetachedSigner, tmpdir: Optional[Path] = None, progress: Progress = SILENT) -> Draft:
    """The bundle at ``path`` with a new signature in place of any it had.

    Nobody signs a bundle that could never be verified: it must agree with its manifest (see :func:`consistent`).
    """
    bundle = read_bundle(path, tmpdir, progress)
    try:
        manifest = consistent(bundle)
        signature = canonical_signature(
            signer.sign_detached(manifest_member(bundle).read()), where=place(path, packing.SIGNATURE)
        )
        members = [member for member in bundle.members if member.name != packing.SIGNATURE]
        members.append(bundle.store.add(packing.SIGNATURE, [signature], size=len(signature), where=str(path)))
        return Draft(manifest, bundle_of(path, members, bundle.store))
    except BaseException:
        bundle.close()
        raise


def consistent(bundle: Bundle) -> Manifest:
    """The manifest of a bundle whose files, packages and effects are what it says. No signature is looked at."""
    manifest = parse_manifest(manifest_member(bundle).read(), where=place(bundle.path, packing.MANIFEST))
    files = check_files(manifest, bundle)
    headers = []
    for rpm in manifest.rpms:
        headers.append(RpmFile.parse(files[rpm.path].view).header)
        check_identity(rpm, headers[-1], bundle)
    lint.check(manifest, headers, where=str(bundle.path))
    effects.check(manifest.effects, effects.derive(headers), where=str(bundle.path))
    return manifest
