"""Signing a respun ISO later, elsewhere, or once more: the signature slot is filled in place, the sidecars are renewed.

Nobody signs a damaged ISO: its statement must match its bytes first. Everything that can fail is done before the first
byte is written; then the slot is written at once, and nothing else in the ISO is touched. The statement covers nothing
of the slot, so one that was torn by a power cut can be written anew as safely as an empty one is filled.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from respin.byteview import FileView, chunks
from respin.errors import BuildError, UsageError
from respin.formats import dsse
from respin.formats.iso9660.image import IsoImage
from respin.node.base import read_small
from respin.progress import SILENT, Progress
from respin.provenance import sidecar, slot, statement
from respin.provenance.layout import SLOT, STATEMENT
from respin.provenance.signing import CheckedSigner, Signatory, lock
from respin.scratch import Workspace
from respin.verify.reading import read_through
from respin.verify.statement import extent, statement_and_slot, subject_masks, verify_media_check, verify_subject
from respin.workspace import cannot_write, publish_all, staged_file


@dataclass(frozen=True)
class SignRequest:
    """What to sign, and by whom. ``key`` is a full fingerprint. ``force`` writes the slot anew, whatever it holds.

    ``command`` is a program that signs; without it ``gnupg_home`` holds the secret key. With it, a ``gnupg_home`` that
    holds the public key has the signatures checked before they are written.
    """

    iso: Path
    key: str
    gnupg_home: Optional[Path] = None
    command: Optional[str] = None
    tmpdir: Optional[Path] = None
    force: bool = False


@dataclass(frozen=True)
class SignedIso:
    """A signed ISO: its new plain digest, the keys that the slot's signatures are filed under, the files beside it.

    ``dropped`` are keys whose signatures the slot does not have any more. ``checked`` says whether the new signatures
    were verified with the public key before they were written.
    """

    iso: Path
    sha256: str
    size: int
    keys: Tuple[str, ...]
    dropped: Tuple[str, ...]
    sidecars: Tuple[Path, ...]
    checked: bool
    base: str
    plugins: Tuple[Mapping[str, Any], ...]

    def to_json(self) -> Dict[str, Any]:
        """The result as one document."""
        return {
            "schema": "respin.sign/1",
            "iso": str(self.iso),
            "sha256": self.sha256,
            "size": self.size,
            "signatures": list(self.keys),
            "dropped": list(self.dropped),
            "sidecars": [str(path) for path in self.sidecars],
            "checked": self.checked,
            "base": self.base,
            "plugins": [dict(one) for one in self.plugins],
        }


def sign(request: SignRequest, progress: Progress = SILENT) -> SignedIso:
    """Sign the ISO in place and renew what stands beside it.

    Raises VerificationError when the ISO is not what its statement says (or has none), BuildError when nobody signed;
    the ISO is unchanged then. Interrupted behind that point, the ISO is whole and signed, and the files beside it are
    made by signing again.
    """
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(request.tmpdir))
        signer = CheckedSigner(Signatory(request.key, request.gnupg_home, request.command), workspace.path)
        fd = _open(request.iso)
        stack.callback(os.close, fd)
        view = FileView(fd, str(request.iso))
        iso = IsoImage.open(view)
        raw, before = statement_and_slot(iso)
        where = f"{request.iso}:/{SLOT}"
        envelope = dsse.Envelope(raw, dsse.IN_TOTO) if request.force else slot.decode(before, raw, where=where)
        claims = statement.parse(raw, where=f"{request.iso}:/{STATEMENT}")
        offset, _ = extent(iso, SLOT)
        masks = subject_masks(iso, claims)
        reading = read_through(iso, masks, progress, media_check=claims.media_check)
        if view.size > claims.iso_size:
            raise UsageError(
                f"this is larger than the ISO in it, which has {claims.iso_size} bytes by its statement",
                where=str(request.iso),
                remedy="sign the ISO itself, not the carrier that it was written to or an image of that",
            )
        verify_subject(iso, claims, progress, reading)
        verify_media_check(iso, claims, progress, reading)
        signed = sidecar.countersign(envelope, signer)
        content = slot.encode(signed)
        sha256 = _digest(view, offset, content, progress)
        files = _sidecars(request.iso, raw, sha256, view.size, signer)
        reaper = workspace.reaper
        outputs = [stack.enter_context(staged_file(path, data, force=True, reaper=reaper)) for path, data in files]
        _write_slot(fd, offset, content, request.iso)
        publish_all(outputs, _stale(request.iso, [path for path, _ in files]))
        keys = tuple(one.keyid for one in signed.signatures)
        return SignedIso(
            request.iso,
            sha256,
            view.size,
            keys,
            tuple(name for name in slot.names(before) if name not in keys),
            tuple(path for path, _ in files),
            signer.checked,
            claims.base_name,
            claims.plugins,
        )


def _open(path: Path) -> int:
    """Open for writing, alone: two that sign at once would each lose the other's signature."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError("this is not a file", where=str(path), remedy="name the ISO file")
    try:
        lock(fd, path)
    except BuildError:
        os.close(fd)
        raise
    return fd


def _digest(view: FileView, offset: int, content: bytes, progress: Progress) -> str:
    """The plain SHA-256 that the ISO will have with ``content`` in its slot."""
    digest = hashlib.sha256()
    with progress.step("hashing the ISO with the new signature", view.size) as step:
        for piece in chunks(view, 0, offset):
            digest.update(piece)
            step.advance(len(piece))
        digest.update(content)
        end = offset + len(content)
        for piece in chunks(view, end, view.size - end):
            digest.update(piece)
    return digest.hexdigest()


def _sidecars(iso: Path, raw: bytes, sha256: str, size: int, signer: CheckedSigner) -> List[Tuple[Path, bytes]]:
    attestation, checksum = sidecar.paths(iso)
    before = read_small(attestation, sidecar.LIMIT) if attestation.exists() else b""
    outside = sidecar.outside(raw, iso.name, sha256)
    named = [checksum, _detached(checksum)]
    return [
        (attestation, sidecar.renewed(before, outside, signer, where=str(attestation))),
        *zip(named, signer.checksum(sidecar.checksum_text(iso.name, sha256, size))),
    ]


def _detached(checksum: Path) -> Path:
    return checksum.with_name(checksum.name + ".asc")


def _write_slot(fd: int, offset: int, content: bytes, path: Path) -> None:
    if os.fstat(fd).st_ino != path.stat().st_ino:
        raise BuildError(
            "somebody replaced the ISO while it was being signed; nothing was changed",
            where=str(path),
            remedy="sign it again if the new one is to be signed",
            finding="locked",
        )
    try:
        written = os.pwrite(fd, content, offset)
        os.fsync(fd)
    except OSError as error:
        raise cannot_write(path, error) from error
    if written != len(content):
        raise BuildError(
            "the slot was written in part only", where=str(path), remedy="sign it again", finding="cannot-write"
        )


def _stale(iso: Path, made: List[Path]) -> List[Path]:
    """A detached signature over an earlier CHECKSUM would only confuse."""
    detached = _detached(sidecar.paths(iso)[1])
    return [] if detached in made else [detached]
