"""The last steps: lay out the ISO, write it, complete the statement, sign, implant the media check, verify, publish."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, List, Mapping, Optional, Tuple, Union

from respin import sbom
from respin.build.layout import Laid, LayoutJob, NewSquashfs, lay_out
from respin.build.vendor import Vendor
from respin.build.writer import write_output
from respin.bundle import VerifiedBundle
from respin.byteview import ByteView, FileView, chunks
from respin.errors import RespinError
from respin.formats import mediacheck
from respin.formats.iso9660.moved import AREA_OFFSET, AREA_SIZE
from respin.formats.openpgp import Signer
from respin.lint.lint import lint, require_no_new_error
from respin.medium.derive import MediumRequest
from respin.medium.edit import MediumEdit
from respin.medium.initrds import Initrds
from respin.node.base import VerifiedBase
from respin.node.image import open_node
from respin.node.knownprofiles import known
from respin.plan import InstallPlan
from respin.progress import Progress
from respin.provenance import evidence, sidecar, slot, statement, subject
from respin.provenance.layout import (
    MEDIA_CHECK_OFFSET,
    RESTORE,
    SLOT,
    STATEMENT,
    Mask,
    MaskedDigest,
    masks,
)
from respin.provenance.medium import MediumRecord
from respin.root.delta import Delta
from respin.root.growth import Growth
from respin.segments import SegmentsView, replaced
from respin.trust import TrustedSignature, TrustStore
from respin.verify.reading import ReadBack, Reading
from respin.verify.report import Report
from respin.verify.statement import read_statement, subject_masks, verify_signatures
from respin.verify.stock import Stock
from respin.verify.verify import verify_bytes, verify_content, with_bytes
from respin.workspace import Output, publish_all, staged_file
from respin.writing import pwrite_all


@dataclass(frozen=True)
class SealJob:
    """What is to be sealed: the base, the plan, the bundles, all that differs in the root, the new root image.

    ``growth`` says how far the image in it was grown. ``initrds`` has what was taken apart of the vendor's. ``edit`` is
    what changes on the medium besides the root image, ``request`` what was asked for, ``payload`` where the root image
    goes as a file.
    """

    base: VerifiedBase
    plan: InstallPlan
    bundles: Tuple[VerifiedBundle, ...]
    shipped: Delta
    squashfs: NewSquashfs
    growth: Optional[Growth]
    toolchain: Mapping[str, str]
    restorable: bool
    vendor: Vendor
    initrds: Initrds
    request: MediumRequest
    edit: MediumEdit
    payload: Optional[Path]


@dataclass(frozen=True)
class Sealed:
    """A published ISO: plain sha256 and size, the files beside it, and what its verification found."""

    sha256: str
    size: int
    bytes_copied: int
    restore_size: int
    sidecars: Tuple[Path, ...]
    report: Report


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
    job: SealJob, output: Output, signer: Optional[Signer], trust: TrustStore, tmpdir: Path, progress: Progress
) -> Sealed:
    """Write, sign, verify and publish the output."""
    node, base = job.plan.node, job.base
    has_media_check = mediacheck.read(node.iso.view) is not None
    changed = job.edit.changed_paths(node.iso)
    protected = job.vendor.protected.digests(changed)
    record = MediumRecord(job.request, job.edit.edited, tuple(sorted(changed)))
    proofs = evidence.pack(base.claim.checksum_text, _in_plan_order(job))

    def compose(written: subject.Written) -> bytes:
        facts = statement.IsoFacts(written, job.squashfs.size, job.restorable, has_media_check, record, job.growth)
        return statement.compose(base, job.plan, job.shipped, protected, job.toolchain, facts)

    draft = compose(subject.UNWRITTEN)
    with progress.step("laying out the new ISO"):
        wanted = LayoutJob(base, node, job.squashfs, proofs, len(draft), has_media_check, job.restorable, job.edit)
        laid = lay_out(wanted)
    placed = laid.plan.files
    with output.writing():
        final, written, copied = _write(job, laid, compose, output, has_media_check, progress)
    late = {placed[f"/{STATEMENT}"][0]: final}
    if written.media_check:
        late[MEDIA_CHECK_OFFSET] = written.media_check
    if signer is not None:
        with progress.step("signing the statement"):
            signed = late[placed[f"/{SLOT}"][0]] = slot.encode(sidecar.sign(final, signer))
            with output.writing():
                pwrite_all(output.fd, signed, placed[f"/{SLOT}"][0])
    meant = SegmentsView(list(replaced(laid.segments(), late)), node.iso.view, str(output.target))
    masked = masks(placed[f"/{STATEMENT}"], placed[f"/{SLOT}"], media_check=has_media_check)
    stock = Stock(node, base.claim, job.vendor.even, job.vendor.protected, job.plan.vendor_packages, job.initrds)
    size = laid.plan.size
    with ReadBack(FileView(output.fd, str(output.target)), meant) as reading:
        report, components = _verify(stock, meant, written, masked, signer, trust, tmpdir, progress)
        with progress.step("reading the whole ISO"):
            sha256 = reading.result()
    image = FileView(output.fd, str(output.target), *placed[node.squashfs_path])
    payload = None if job.payload is None else (job.payload, image)
    sidecars = _publish(output, final, sha256, size, signer, components, payload)
    restore_size = placed[f"/{RESTORE}"][1] if job.restorable else 0
    return Sealed(sha256, size, copied, restore_size, sidecars, report)


def _in_plan_order(job: SealJob) -> List[VerifiedBundle]:
    by_name = {bundle.manifest.name: bundle for bundle in job.bundles}
    return [by_name[bundle.manifest.name] for bundle in job.plan.bundles]


def _write(
    job: SealJob,
    laid: Laid,
    compose: "statement.Composer",
    output: Output,
    has_media_check: bool,
    progress: Progress,
) -> Tuple[bytes, Reading, int]:
    """Write the ISO in one pass, then its statement and media check; the last number is that of bytes copied."""
    placed = laid.plan.files
    where = placed[f"/{STATEMENT}"]
    covered = MaskedDigest(masks(where, placed[f"/{SLOT}"], media_check=has_media_check))
    media = None
    if has_media_check:
        media = mediacheck.MediaCheckHasher(laid.plan.volume_space_size, skip_sectors=laid.plan.unchecked_blocks)
    sinks = [covered.update]
    if media is not None:
        sinks.append(_UpTo(media, where[0]).update)
    segments = laid.segments()
    copied = write_output(job.base, segments, laid.plan.size, output.fd, sinks, progress)
    view = FileView(output.fd, str(output.target))
    area = view.read(AREA_OFFSET, AREA_SIZE)
    final = compose(subject.Written(view.size, covered.hexdigest(), area))
    if len(final) != where[1]:
        raise RespinError("the statement changed its size while it was completed")
    pwrite_all(output.fd, final, where[0])
    field = b""
    if media is not None:
        for piece in chunks(view, where[0]):
            media.update(piece)
        field = media.field()
        pwrite_all(output.fd, field, MEDIA_CHECK_OFFSET)
    return final, Reading(covered.hexdigest(), field, ""), copied


def _verify(
    stock: Stock,
    meant: ByteView,
    written: Reading,
    masked: Tuple[Mask, ...],
    signer: Optional[Signer],
    trust: TrustStore,
    tmpdir: Path,
    progress: Progress,
) -> Tuple[Report, bytes]:
    """Verify what was written as ``respin verify --base`` does, before anybody else sees it.

    That it is what was ``meant``, byte by byte, is found out at the same time; so that is what is looked through, and
    the digests that were made while it was ``written`` are its. ``masked`` is what ``written.covered`` does not cover.
    Returns the bill of what was added with the report.
    """
    opened = open_node(meant, known(trust))
    raw, envelope = read_statement(opened.iso)
    signature: Optional[TrustedSignature] = None
    if signer is not None:
        signature = verify_signatures(opened.iso, envelope, trust, tmpdir).trusted
    claims = statement.parse(raw, where=f"{meant.name}:/{STATEMENT}")
    if subject_masks(opened.iso, claims) != masked:
        raise RespinError("the statement or its signatures are not where they were written", where=meant.name)
    verified = verify_bytes(opened, claims, written, progress)
    report = verify_content(opened, claims, signature, stock, trust, tmpdir, progress)
    _lint(stock.node.iso.view, meant, trust, progress)
    return with_bytes(report, verified), sbom.describe(opened, claims, everything=False, scratch=tmpdir).encode()


def _lint(base: ByteView, output: ByteView, trust: TrustStore, progress: Progress) -> None:
    """The vendor's own flaws are no reason to refuse; the media check was computed and compared already."""
    profiles = known(trust)
    with progress.step("looking for what would not boot"):
        before = lint(base, profiles, media_check=False)
        require_no_new_error(before, lint(output, profiles, media_check=False))


def _hashed(pieces: Iterable[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def _publish(
    output: Output,
    final: bytes,
    sha256: str,
    size: int,
    signer: Optional[Signer],
    components: bytes,
    payload: Optional[Tuple[Path, ByteView]],
) -> Tuple[Path, ...]:
    """Payload and sidecars first, the ISO last: whoever sees it sees them too. A failure takes them away."""
    name = output.target.name
    staged: List[Output] = []
    signatures = list(sidecar.paths(output.target))
    with ExitStack() as stack:

        def stage(path: Path, data: Union[bytes, Iterable[bytes]]) -> None:
            file = staged_file(path, data, force=output.force, reaper=output.reaper)
            staged.append(stack.enter_context(file))

        if payload is not None:
            target, image = payload
            digest = hashlib.sha256()
            stage(target, _hashed(chunks(image), digest))
            signatures.append(sidecar.checksum_path(target))
            if signer is not None:
                stage(signatures[-1], sidecar.checksum(target.name, digest.hexdigest(), image.size, signer))
        stage(sbom.beside(output.target), components)
        if signer is not None:
            stage(signatures[0], sidecar.attestation(final, name, sha256, signer))
            stage(signatures[1], sidecar.checksum(name, sha256, size, signer))
            signer.done()
        # Signatures of what is replaced would be about something else than what stands beside them then.
        stale = signatures if signer is None and output.force else []
        publish_all([*staged, output], stale)
    return tuple(file.target for file in staged)
