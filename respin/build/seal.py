"""The last steps: lay out the ISO, write it, complete the statement, sign, implant the media check, verify, publish."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, Optional, Tuple

from respin import sbom
from respin.build.layout import Laid, LayoutJob, NewSquashfs, lay_out
from respin.build.publish import Finished, publish
from respin.build.vendor import Vendor
from respin.build.writer import write_output
from respin.bundle import VerifiedBundle
from respin.byteview import ByteView, FileView, chunks
from respin.digest import PieceChecks
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
from respin.verify.reading import ReadBack, Reading, renewed
from respin.verify.report import Report
from respin.verify.statement import read_statement, subject_masks, verify_signatures
from respin.verify.stock import Stock
from respin.verify.verify import verify_bytes, verify_content, with_bytes
from respin.workspace import Output
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


@dataclass(frozen=True)
class _Written:
    """What was written: the statement, the digests made on the way, CRC-32 of each piece before the statement and
    whatever comes later were there, and how many bytes were copied."""

    statement: bytes
    reading: Reading
    checks: Tuple[int, ...]
    copied: int


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
    return _Sealing(job, output, signer, trust, tmpdir, progress).sealed()


@dataclass(frozen=True)
class _Sealing:
    """What stays the same from the first of these steps to the last."""

    job: SealJob
    output: Output
    signer: Optional[Signer]
    trust: TrustStore
    tmpdir: Path
    progress: Progress

    def sealed(self) -> Sealed:
        """All steps, one after the other."""
        job, output = self.job, self.output
        node = job.plan.node
        has_media_check = mediacheck.read(node.iso.view) is not None
        compose = self._composer(has_media_check)
        with self.progress.step("laying out the new ISO"):
            proofs = evidence.pack(job.base.claim.checksum_text, _in_plan_order(job))
            size = len(compose(subject.UNWRITTEN))
            wanted = LayoutJob(job.base, node, job.squashfs, proofs, size, has_media_check, job.restorable, job.edit)
            laid = lay_out(wanted)
        placed = laid.plan.files
        with output.writing():
            written = self._write(laid, compose, has_media_check)
        final = written.statement
        late = {placed[f"/{STATEMENT}"][0]: final, **self._signature(final, placed[f"/{SLOT}"][0])}
        if has_media_check:
            late[MEDIA_CHECK_OFFSET] = written.reading.media_check
        meant = SegmentsView(list(replaced(laid.segments(), late)), node.iso.view, str(output.target))
        masked = masks(placed[f"/{STATEMENT}"], placed[f"/{SLOT}"], media_check=has_media_check)
        checks = renewed(written.checks, meant, late)
        with ReadBack(FileView(output.fd, str(output.target)), meant.size, checks) as reading:
            report, components = self._verify(meant, written.reading, masked)
            with self.progress.step("reading the whole ISO"):
                sha256 = reading.result()
        image = FileView(output.fd, str(output.target), *placed[node.squashfs_path])
        payload = None if job.payload is None else (job.payload, image)
        sidecars = publish(output, Finished(final, sha256, laid.plan.size, components, payload), self.signer)
        restore_size = placed[f"/{RESTORE}"][1] if job.restorable else 0
        return Sealed(sha256, laid.plan.size, written.copied, restore_size, sidecars, report)

    def _composer(self, has_media_check: bool) -> statement.Composer:
        """What makes the statement once the digest is known; all else that it says is settled."""
        job = self.job
        changed = job.edit.changed_paths(job.plan.node.iso)
        protected = job.vendor.protected.digests(changed)
        record = MediumRecord(job.request, job.edit.edited, tuple(sorted(changed)))

        def compose(written: subject.Written) -> bytes:
            facts = statement.IsoFacts(written, job.squashfs.size, job.restorable, has_media_check, record, job.growth)
            return statement.compose(job.base, job.plan, job.shipped, protected, job.toolchain, facts)

        return compose

    def _write(self, laid: Laid, compose: statement.Composer, has_media_check: bool) -> _Written:
        """Write the ISO in one pass, then its statement and media check."""
        output, placed = self.output, laid.plan.files
        where = placed[f"/{STATEMENT}"]
        covered = MaskedDigest(masks(where, placed[f"/{SLOT}"], media_check=has_media_check))
        media = None
        if has_media_check:
            media = mediacheck.MediaCheckHasher(laid.plan.volume_space_size, skip_sectors=laid.plan.unchecked_blocks)
        checks = PieceChecks()
        sinks = [covered.update, checks.update]
        if media is not None:
            sinks.append(_UpTo(media, where[0]).update)
        copied = write_output(self.job.base, laid.segments(), laid.plan.size, output.fd, sinks, self.progress)
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
        return _Written(final, Reading(covered.hexdigest(), field, ""), checks.result(), copied)

    def _signature(self, final: bytes, offset: int) -> Mapping[int, bytes]:
        """Sign the statement and write that to its slot at ``offset``: what was written, by offset."""
        if self.signer is None:
            return {}
        with self.progress.step("signing the statement"):
            signed = slot.encode(sidecar.sign(final, self.signer))
            with self.output.writing():
                pwrite_all(self.output.fd, signed, offset)
        return {offset: signed}

    def _verify(self, meant: ByteView, written: Reading, masked: Tuple[Mask, ...]) -> Tuple[Report, bytes]:
        """Verify what was written as ``respin verify --base`` does, before anybody else sees it.

        That it comes back as it was ``meant`` is found out at the same time; so that is what is looked through,
        and the digests that were made while it was ``written`` are its. ``masked`` is what ``written.covered`` does
        not cover. Returns the bill of what was added with the report.
        """
        job, trust, tmpdir, progress = self.job, self.trust, self.tmpdir, self.progress
        opened = open_node(meant, known(trust))
        raw, envelope = read_statement(opened.iso)
        signature: Optional[TrustedSignature] = None
        if self.signer is not None:
            signature = verify_signatures(opened.iso, envelope, trust, tmpdir).trusted
        claims = statement.parse(raw, where=f"{meant.name}:/{STATEMENT}")
        if subject_masks(opened.iso, claims) != masked:
            raise RespinError("the statement or its signatures are not where they were written", where=meant.name)
        verified = verify_bytes(opened, claims, written, progress)
        node, vendor = job.plan.node, job.vendor
        stock = Stock(node, job.base.claim, vendor.even, vendor.protected, job.plan.vendor_packages, job.initrds)
        report = verify_content(opened, claims, signature, stock, trust, tmpdir, progress)
        _lint(node.iso.view, meant, trust, progress)
        return with_bytes(report, verified), sbom.describe(opened, claims, everything=False, scratch=tmpdir).encode()


def _in_plan_order(job: SealJob) -> List[VerifiedBundle]:
    by_name = {bundle.manifest.name: bundle for bundle in job.bundles}
    return [by_name[bundle.manifest.name] for bundle in job.plan.bundles]


def _lint(base: ByteView, output: ByteView, trust: TrustStore, progress: Progress) -> None:
    """The vendor's own flaws are no reason to refuse; the media check was computed and compared already."""
    profiles = known(trust)
    with progress.step("looking for what would not boot"):
        before = lint(base, profiles, media_check=False)
        require_no_new_error(before, lint(output, profiles, media_check=False))
