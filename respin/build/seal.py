"""The last steps: lay out the ISO, write it, complete the statement, sign, implant the media check, verify, publish."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from respin.build.writer import write_output
from respin.byteview import FileView, chunks
from respin.digest import sha256_view
from respin.errors import RespinError
from respin.formats import mediacheck
from respin.formats.iso9660.plan import SplicePlan, plan_splice
from respin.formats.openpgp import Signer
from respin.formats.squashfs.splice import SplicedSquashfs
from respin.node.base import VerifiedBase
from respin.node.image import open_node
from respin.node.profile import built_in
from respin.node.protected import protected_digests
from respin.plan import InstallPlan
from respin.progress import Progress
from respin.provenance import sidecar, slot, statement
from respin.provenance.layout import MEDIA_CHECK_OFFSET, SLOT, STATEMENT, MaskedDigest, masks
from respin.root.delta import Delta
from respin.segments import Segment, Zeros, shift
from respin.trust import TrustedSignature, TrustStore
from respin.verify.against_base import new_files
from respin.verify.report import Report
from respin.verify.statement import read_statement, verify_signature
from respin.verify.verify import verify_output
from respin.workspace import Output, write_file


@dataclass(frozen=True)
class Sealed:
    """A published ISO: plain sha256 and size, the files beside it, and what its verification found."""

    sha256: str
    size: int
    bytes_copied: int
    sidecars: Tuple[Path, ...]
    report: Report


class _RangeDigest:
    """SHA-256 of one byte range of a stream that is fed in order."""

    def __init__(self, offset: int, size: int) -> None:
        self._start, self._end, self._position = offset, offset + size, 0
        self._digest = hashlib.sha256()

    def update(self, data: bytes) -> None:
        start, end = max(self._start - self._position, 0), self._end - self._position
        if start < len(data) and end > 0:
            self._digest.update(data[start:end])
        self._position += len(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class _UpTo:
    """Passes a stream on to a hasher until a given offset; the rest is fed later, when its bytes are known."""

    def __init__(self, hasher: mediacheck.MediaCheckHasher, end: int) -> None:
        self._hasher, self._left = hasher, end

    def update(self, data: bytes) -> None:
        if self._left:
            part = data[: self._left]
            self._hasher.update(part)
            self._left -= len(part)


def seal(
    base: VerifiedBase,
    plan: InstallPlan,
    delta: Delta,
    spliced: SplicedSquashfs,
    toolchain: Mapping[str, str],
    output: Output,
    signer: Optional[Signer],
    trust: TrustStore,
    tmpdir: Path,
    progress: Progress,
) -> Sealed:
    """Write, sign, verify and publish the output."""
    node = plan.node
    has_media_check = mediacheck.read(node.iso.view) is not None
    with progress.step("reading the protected sets"):
        protected = protected_digests(node.iso, node.root, node.profile)

    def compose(covered: str, image: str) -> bytes:
        facts = statement.IsoFacts(covered, image, spliced.size, (f"/{STATEMENT}", f"/{SLOT}"), has_media_check)
        return statement.compose(base, plan, delta, protected, toolchain, facts)

    draft = compose(statement.UNKNOWN_DIGEST, statement.UNKNOWN_DIGEST)
    layout = plan_splice(node.iso, {node.squashfs_path: spliced.size}, new_files(len(draft)))
    placed = layout.files
    covered = MaskedDigest(masks(placed[f"/{STATEMENT}"], placed[f"/{SLOT}"], media_check=has_media_check))
    image = _RangeDigest(*placed[node.squashfs_path])
    media = mediacheck.MediaCheckHasher(layout.volume_space_size) if has_media_check else None
    sinks = [covered.update, image.update]
    if media is not None:
        sinks.append(_UpTo(media, placed[f"/{STATEMENT}"][0]).update)
    copied = write_output(
        base, layout.segments(_content(plan, spliced, layout)), layout.size, output.fd, sinks, progress
    )
    final = compose(covered.hexdigest(), image.hexdigest())
    if len(final) != len(draft):
        raise RespinError("the statement changed its size while it was completed")
    _put(output.fd, placed[f"/{STATEMENT}"][0], final)
    if media is not None:
        _implant(output.fd, media, placed[f"/{STATEMENT}"][0])
    if signer is not None:
        with progress.step("signing the statement"):
            _put(output.fd, placed[f"/{SLOT}"][0], slot.encode(sidecar.sign(final, signer)))
    report = _verify(base, output, final, signer, trust, tmpdir, progress)
    sha256 = sha256_view(FileView(output.fd, str(output.target)), progress, "hashing the finished ISO")
    sidecars = _publish(output, final, sha256, layout.size, signer)
    return Sealed(sha256, layout.size, copied, sidecars, report)


def _content(plan: InstallPlan, spliced: SplicedSquashfs, layout: SplicePlan) -> Mapping[str, Sequence[Segment]]:
    start = plan.node.iso.file_view(plan.node.squashfs_path).offset
    content: Dict[str, Sequence[Segment]] = {
        path: [Zeros(size)] for path, (_, size) in layout.files.items() if path != plan.node.squashfs_path
    }
    content[plan.node.squashfs_path] = list(shift(spliced.segments, start))
    return content


def _implant(fd: int, media: mediacheck.MediaCheckHasher, start: int) -> None:
    view = FileView(fd, "the new ISO")
    for piece in chunks(view, start):
        media.update(piece)
    _put(fd, MEDIA_CHECK_OFFSET, media.field())


def _put(fd: int, offset: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(fd, left, offset)
        left, offset = left[written:], offset + written


def _verify(
    base: VerifiedBase,
    output: Output,
    final: bytes,
    signer: Optional[Signer],
    trust: TrustStore,
    tmpdir: Path,
    progress: Progress,
) -> Report:
    """Verify what was written as ``respin verify --base`` does, before anybody else sees it."""
    opened = open_node(FileView(output.fd, str(output.target)), built_in())
    raw, envelope = read_statement(opened.iso)
    if raw != final:
        raise RespinError("the statement in the output is not the one that was written", where=str(output.target))
    signature: Optional[TrustedSignature] = None
    if signer is not None:
        signature = verify_signature(opened.iso, raw, envelope, trust, tmpdir)
    claims = statement.parse(raw, where=f"{output.target}:/{STATEMENT}")
    return verify_output(opened, claims, signature, base, built_in(), progress, base.claim)


def _publish(output: Output, final: bytes, sha256: str, size: int, signer: Optional[Signer]) -> Tuple[Path, ...]:
    """The sidecars first, the ISO last: whoever sees the ISO sees them too. A failure takes the sidecars away again."""
    made: List[Path] = []
    try:
        if signer is not None:
            name = output.target.name
            attestation, checksum = sidecar.paths(output.target)
            for path, data in (
                (attestation, sidecar.attestation(final, name, sha256, signer)),
                (checksum, sidecar.checksum(name, sha256, size, signer)),
            ):
                write_file(path, data, force=output.force)
                made.append(path)
        output.publish()
    except BaseException:
        for path in made:
            path.unlink()
        raise
    return tuple(made)
