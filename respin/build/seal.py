"""The last steps: lay out the ISO, write it, complete the statement, sign, implant the media check, verify, publish."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, List, Mapping, Optional, Sequence, Tuple

from respin import sbom
from respin.build.checking import Checking
from respin.build.layout import Laid, LayoutJob, NewSquashfs, lay_out
from respin.build.writer import write_output
from respin.bundle import VerifiedBundle
from respin.byteview import FileView, chunks
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
from respin.node.indexing import Indexing
from respin.node.knownprofiles import known
from respin.node.protected import protected_digests
from respin.plan import InstallPlan
from respin.progress import SILENT, Progress
from respin.provenance import evidence, sidecar, slot, statement, subject
from respin.provenance.layout import MEDIA_CHECK_OFFSET, RESTORE, SLOT, STATEMENT, MaskedDigest, RangeDigest, masks
from respin.provenance.medium import MediumRecord
from respin.root.delta import Delta
from respin.root.growth import Growth
from respin.trust import TrustedSignature, TrustStore
from respin.verify.reading import Written, read_back
from respin.verify.report import Report
from respin.verify.statement import read_statement, subject_masks, verify_signatures
from respin.verify.stock import Stock
from respin.verify.verify import verify_bytes, verify_content, with_bytes
from respin.workspace import Output, publish_all, staged_file
from respin.writing import pwrite_all


@dataclass(frozen=True)
class SealJob:
    """What is to be sealed: the base, the plan, the bundles, all that differs in the root, the new root image.

    ``growth`` says how far the image in it was grown. ``indexing`` is that of the vendor's root, ``initrds`` has what
    was taken apart of the vendor's; ``checking`` is to be finished before anything is published. ``edit`` is what
    changes on the medium besides the root image, ``request`` what was asked for, ``payload`` where the root image goes
    as a file.
    """

    base: VerifiedBase
    plan: InstallPlan
    bundles: Tuple[VerifiedBundle, ...]
    shipped: Delta
    squashfs: NewSquashfs
    growth: Optional[Growth]
    toolchain: Mapping[str, str]
    restorable: bool
    indexing: Indexing
    initrds: Initrds
    checking: Checking
    request: MediumRequest
    edit: MediumEdit
    payload: Optional[Path]


@dataclass(frozen=True)
class Sealed:
    """A published ISO: plain sha256 and size, the files beside it, and what its verification found."""

    sha256: str
    size: int
    bytes_copied: int
    blocks_read_for_check: int
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
    with progress.step("reading the protected sets"):
        changed = job.edit.changed_paths(node.iso)
        protected = protected_digests(node.iso, node.root, node.profile, changed)
    record = MediumRecord(job.request, job.edit.edited, tuple(sorted(changed)))
    proofs = evidence.pack(base.claim.checksum_text, _in_plan_order(job))

    def compose(written: subject.Written) -> bytes:
        facts = statement.IsoFacts(written, job.squashfs.size, job.restorable, has_media_check, record, job.growth)
        return statement.compose(base, job.plan, job.shipped, protected, job.toolchain, facts)

    draft = compose(subject.UNWRITTEN)
    job.checking.begin()
    with progress.step("laying out the new ISO"):
        wanted = LayoutJob(base, node, job.squashfs, proofs, len(draft), has_media_check, job.restorable, job.edit)
        laid = lay_out(wanted)
    placed = laid.plan.files
    with output.writing():
        final, written, copied = _write(job, laid, compose, output, has_media_check, progress)
    job.checking.begin()
    if signer is not None:
        with progress.step("signing the statement"):
            signed = slot.encode(sidecar.sign(final, signer))
            with output.writing():
                pwrite_all(output.fd, signed, placed[f"/{SLOT}"][0])
    stock = Stock(node, base.claim, job.indexing, protected, job.initrds)
    report, sha256 = _verify(stock, output, final, written, signer, trust, tmpdir, progress)
    checked = job.checking.finish(progress)
    _lint(base, output, trust, progress)
    size = laid.plan.size
    image = FileView(output.fd, str(output.target), *placed[node.squashfs_path])
    further: List[Tuple[Path, Iterable[bytes]]] = [] if job.payload is None else [(job.payload, chunks(image))]
    further.append((sbom.beside(output.target), [_bill_of_materials(output, final, trust, tmpdir)]))
    sidecars = _publish(output, final, sha256, size, signer, further)
    restore_size = placed[f"/{RESTORE}"][1] if job.restorable else 0
    return Sealed(sha256, size, copied, checked, restore_size, sidecars, report)


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
) -> Tuple[bytes, Written, int]:
    """Write the ISO in one pass, then its statement and media check; the last number is that of bytes copied."""
    placed = laid.plan.files
    where = placed[f"/{STATEMENT}"]
    covered = MaskedDigest(masks(where, placed[f"/{SLOT}"], media_check=has_media_check))
    image = RangeDigest(*placed[job.plan.node.squashfs_path])
    media = None
    if has_media_check:
        media = mediacheck.MediaCheckHasher(laid.plan.volume_space_size, skip_sectors=laid.plan.unchecked_blocks)
    sinks = [covered.update, image.update]
    if media is not None:
        sinks.append(_UpTo(media, where[0]).update)
    segments = laid.segments()
    copied = write_output(job.base, segments, laid.plan.size, output.fd, sinks, progress)
    view = FileView(output.fd, str(output.target))
    area = view.read(AREA_OFFSET, AREA_SIZE)
    final = compose(subject.Written(view.size, covered.hexdigest(), image.hexdigest(), area))
    if len(final) != where[1]:
        raise RespinError("the statement changed its size while it was completed")
    pwrite_all(output.fd, final, where[0])
    field = b""
    if media is not None:
        for piece in chunks(view, where[0]):
            media.update(piece)
        field = media.field()
        pwrite_all(output.fd, field, MEDIA_CHECK_OFFSET)
    return final, Written(image.hexdigest(), field), copied


def _verify(
    stock: Stock,
    output: Output,
    final: bytes,
    written: Written,
    signer: Optional[Signer],
    trust: TrustStore,
    tmpdir: Path,
    progress: Progress,
) -> Tuple[Report, str]:
    """Verify what was written as ``respin verify --base`` does, before anybody else sees it; the SHA-256, too."""
    opened = open_node(FileView(output.fd, str(output.target)), known(trust))
    raw, envelope = read_statement(opened.iso)
    if raw != final:
        raise RespinError("the statement in the output is not the one that was written", where=str(output.target))
    signature: Optional[TrustedSignature] = None
    if signer is not None:
        signature = verify_signatures(opened.iso, envelope, trust, tmpdir).trusted
    claims = statement.parse(raw, where=f"{output.target}:/{STATEMENT}")
    with ThreadPoolExecutor(1, thread_name_prefix="read-back") as pool:
        reading = pool.submit(read_back, opened.iso, subject_masks(opened.iso, claims), written, SILENT)
        report = verify_content(opened, claims, signature, stock, trust, tmpdir, progress)
        with progress.step("reading the whole ISO"):
            found = reading.result()
    return with_bytes(report, verify_bytes(opened, claims, found, progress)), found.plain


def _lint(base: VerifiedBase, output: Output, trust: TrustStore, progress: Progress) -> None:
    """The vendor's own flaws are no reason to refuse; the media check was computed and compared already."""
    profiles = known(trust)
    with progress.step("looking for what would not boot"):
        before = lint(base.view(), profiles, media_check=False)
        require_no_new_error(before, lint(FileView(output.fd, str(output.target)), profiles, media_check=False))


def _bill_of_materials(output: Output, final: bytes, trust: TrustStore, tmpdir: Path) -> bytes:
    node = open_node(FileView(output.fd, str(output.target)), known(trust))
    claims = statement.parse(final, where=f"{output.target}:/{STATEMENT}")
    return sbom.describe(node, claims, everything=False, scratch=tmpdir).encode()


def _publish(
    output: Output,
    final: bytes,
    sha256: str,
    size: int,
    signer: Optional[Signer],
    further: Sequence[Tuple[Path, Iterable[bytes]]],
) -> Tuple[Path, ...]:
    """``further`` files and sidecars first, the ISO last: whoever sees it sees them too. A failure takes them away."""
    name = output.target.name
    stale: Tuple[Path, ...] = ()
    files = list(further)
    if signer is not None:
        attestation, checksum = sidecar.paths(output.target)
        files += [
            (attestation, [sidecar.attestation(final, name, sha256, signer)]),
            (checksum, [sidecar.checksum(name, sha256, size, signer)]),
        ]
        signer.done()
    elif output.force:
        stale = sidecar.paths(output.target)  # of a signed ISO that is replaced by an unsigned one
    with ExitStack() as stack:
        staged = [
            stack.enter_context(staged_file(path, data, force=output.force, reaper=output.reaper))
            for path, data in files
        ]
        publish_all([*staged, output], stale)
    return tuple(path for path, _ in files)
