"""The verification as a whole: link by link, each from the bytes at hand; the first one that fails ends it."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from respin.byteview import FileView
from respin.digest import sha256_hex
from respin.errors import VerificationError
from respin.formats.iso9660.image import IsoImage
from respin.medium.derive import derive_marks
from respin.node.base import BaseClaim, claim_from_checksum, claim_from_text, opened
from respin.node.image import NodeImage, open_node
from respin.node.knownprofiles import known
from respin.node.protected import protected_paths
from respin.node.selinux import read_policy
from respin.progress import SILENT, Progress
from respin.provenance import evidence, statement
from respin.provenance.carrier import find_iso, look_behind
from respin.provenance.layout import EVIDENCE, STATEMENT
from respin.trust import Role, TrustedSignature, TrustStore
from respin.verify import words
from respin.verify.against_base import compare_with_base
from respin.verify.medium import claimed_link, derived, medium_link
from respin.verify.plugins import judge_changes, proven_plan, verify_evidence
from respin.verify.reading import Reading, read_through
from respin.verify.report import Digests, Link, Report, Status
from respin.verify.root import (
    check_declared,
    protected,
    require_recent,
    require_same_delta,
    require_same_growth,
    require_same_policy,
    require_same_profile,
    require_same_sets,
)
from respin.verify.statement import (
    read_statement,
    subject_masks,
    verify_media_check,
    verify_signatures,
    verify_subject,
)
from respin.verify.stock import Stock, StockSource
from respin.workspace import Workspace

# The keyrings that the evidence is verified with. What is wrong with one is raised where it is used.
_NEEDED = Role.BASE, Role.PLUGIN, Role.RPM


@dataclass(frozen=True)
class VerifyRequest:
    """What to verify. ``base`` is the vendor's ISO, ``base_checksum`` its CHECKSUM; both may be absent.

    ``plain`` asks for the ISO's plain digest in the report. ``at`` is the time by which keys and the trust store are
    judged, in seconds since 1970; None is now.
    """

    iso: Path
    trust: Path
    base: Optional[Path] = None
    base_checksum: Optional[Path] = None
    tmpdir: Optional[Path] = None
    plain: bool = False
    at: Optional[int] = None


def verify(
    request: VerifyRequest, progress: Progress = SILENT, then: Callable[[NodeImage], None] = lambda node: None
) -> Report:
    """Verify a respun ISO. Whatever fails raises; a report means that everything which was checked holds.

    ``then`` gets the verified Node while it is open.
    """
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(request.tmpdir))
        trust = TrustStore.load(request.trust, scratch=workspace.path, at=request.at)
        fd = stack.enter_context(opened(request.iso))
        found = find_iso(FileView(fd, str(request.iso)))
        profiles = known(trust)
        raw, envelope = read_statement(IsoImage.open(found.view))
        output = open_node(found.view, profiles)
        signatures = verify_signatures(output.iso, envelope, trust, workspace.path)
        claims = statement.parse(raw, where=f"{request.iso}:/{STATEMENT}")
        source = StockSource(found.view, request.base, profiles, workspace.path, stack)
        # First of all whether these are the signed bytes: whatever is found later in others would only confuse.
        with ThreadPoolExecutor(1, thread_name_prefix="keyrings") as beside:
            for role in _NEEDED:
                beside.submit(trust.keyring, role, workspace.path)
            reading = read_output(output, claims, progress, plain=request.plain)
        verify_subject(output.iso, claims, progress, reading)
        claim = _claim(request, output, claims, trust, workspace.path)
        stock = source.verified(claim, progress)
        report = verify_output(output, claims, signatures.trusted, reading, stock, trust, workspace.path, progress)
        then(output)
        judged = tuple(one.to_json() for one in signatures.judged)
        digests = Digests(reading.plain, sha256_hex(raw))
        report = replace(
            report, signatures=judged, entries=claims.changes, digests=digests, trust=words.describe_trust(trust)
        )
        return report if found.carrier is None else words.on_carrier(report, look_behind(found.carrier, progress))


def verify_output(
    output: NodeImage,
    claims: statement.Claims,
    signature: Optional[TrustedSignature],
    reading: Reading,
    stock: Optional[Stock],
    trust: TrustStore,
    tmpdir: Path,
    progress: Progress,
) -> Report:
    """Verify an opened output whose statement's signature was checked."""
    verified = verify_bytes(output, claims, reading, progress)
    return with_bytes(verify_content(output, claims, signature, stock, trust, tmpdir, progress), verified)


def verify_bytes(output: NodeImage, claims: statement.Claims, reading: Reading, progress: Progress) -> Link:
    """Hold all digests of an opened output against the statement; the link that says so."""
    verify_subject(output.iso, claims, progress, reading)
    media = verify_media_check(output.iso, claims, progress, reading)
    _root_image(output, claims)
    return Link("ISO", Status.PASSED, f"all {output.iso.view.size} bytes are those that the statement names; {media}")


def with_bytes(report: Report, verified: Link) -> Report:
    """The report of :func:`verify_content` with the link of :func:`verify_bytes`, behind the statement's own."""
    return replace(report, links=(report.links[0], verified, *report.links[1:]))


def verify_content(
    output: NodeImage,
    claims: statement.Claims,
    signature: Optional[TrustedSignature],
    stock: Optional[Stock],
    trust: TrustStore,
    tmpdir: Path,
    progress: Progress,
) -> Report:
    """All but the digests: whoever made the bytes need not wait for these to go on, but must not forget them."""
    links: List[Link] = [words.signature_link(signature)]
    require_recent(output.iso, output.identity, trust)
    bundles = verify_evidence(output, claims, trust, tmpdir)
    digests = protected(output, claims)
    if stock is None:
        links.append(Link("stock Node", Status.NOT_DONE, words.not_stock(claims)))
        with progress.step("checking the declared changes in the root"):
            check_declared(output, claims.delta)
            require_same_policy(output, claims, read_policy(output.root))
        links.append(Link("plugins", Status.PASSED, f"{words.plugins(bundles)}; the rules were not judged anew"))
        links += [claimed_link(claims.medium)] if claims.medium.edited else []
    else:
        node = stock.node
        require_same_profile(output, node)
        plan = proven_plan(stock, bundles, claims, tmpdir)
        require_same_policy(output, claims, plan.selinux)
        said = [entry.path for entry in claims.delta]
        edit = derived(plan, claims.medium, output, stock.initrds, Path(tempfile.mkdtemp(dir=tmpdir)))
        found = compare_with_base(output, node, progress, said, stock.even, edit)
        links.append(Link("stock Node", Status.PASSED, words.stock(stock.claim, claims, found)))
        if stock.claim.signature is None:
            links.append(words.no_vendor())
        require_same_delta(output, found.delta, claims.delta)
        require_same_growth(output, found.growth, claims.growth)
        with progress.step("judging every change by the plugins' signed headers"):
            marks = derive_marks(plan, claims.medium.request)
            judge_changes(output, found.delta, plan, marks, stock.claim, tmpdir)
        files = claims.medium.files
        theirs = stock.protected or protected_paths(node.iso, node.root, node.profile, files)
        require_same_sets(output, theirs.digests(files), digests)
        links.append(Link("plugins", Status.PASSED, f"{words.plugins(bundles)}, and nothing else changed the root"))
        links += [medium_link(plan, claims.medium)] if claims.medium.edited else []
    links.append(Link("root", Status.PASSED, words.changes(claims.delta, claims.growth)))
    for name in sorted(digests):
        how = "as in the vendor's ISO" if stock is not None else "as the statement says"
        links.append(Link(name, Status.PASSED, f"{digests[name].paths} protected paths, {how}"))
    plugins, packages = statement.described(bundles)
    return Report(
        iso=str(output.iso.view.name),
        size=output.iso.view.size,
        links=tuple(links),
        product=output.identity.product,
        base={
            "name": claims.base_name,
            "sha256": claims.base_sha256,
            "verified": claims.base_kind if stock is None else stock.claim.kind,
        },
        plugins=plugins,
        packages=packages,
        signer=words.describe_signature(signature),
        changes=words.counts(claims.delta),
        medium=words.describe_medium(claims.medium),
        growth=claims.growth,
    )


def _claim(
    request: VerifyRequest, output: NodeImage, claims: statement.Claims, trust: TrustStore, tmpdir: Path
) -> BaseClaim:
    """What the vendor's ISO must be: by a CHECKSUM, given or carried in the ISO, and always as the statement says."""
    if request.base_checksum is not None:
        claim = claim_from_checksum(request.base_checksum, claims.base_name, trust, tmpdir)
    else:
        view = output.iso.file_view(f"/{EVIDENCE}")
        text = evidence.unpack(view).get(evidence.CHECKSUM)
        if text is None:
            return BaseClaim(claims.base_sha256, claims.base_name, None, b"")
        claim = claim_from_text(text, claims.base_name, trust, tmpdir, f"{view.name}:{evidence.CHECKSUM}")
    if claim.sha256 != claims.base_sha256:
        raise VerificationError(
            f"the statement names a base {claims.base_name} with another digest than the vendor's CHECKSUM",
            where=str(request.base_checksum or output.iso.view.name),
            remedy="this is not a respin of that vendor's release; do not use it",
            finding="base-digest",
        )
    return claim


def read_output(output: NodeImage, claims: statement.Claims, progress: Progress, *, plain: bool = False) -> Reading:
    """Read an opened output once for all digests that verification needs; ``plain`` adds that of the whole file."""
    return read_through(
        output.iso,
        subject_masks(output.iso, claims),
        progress,
        media_check=claims.media_check,
        plain=plain,
    )


def _root_image(output: NodeImage, claims: statement.Claims) -> None:
    view = output.iso.file_view(output.squashfs_path)
    found: Tuple[object, ...] = (output.squashfs_path, output.image.inner_path, output.profile.id, view.size)
    claimed = (claims.root_image, claims.inner_image, claims.profile, claims.root_image_size)
    other_size = claims.growth is not None and claims.growth.new_size != output.image.inner_size
    if found != claimed or other_size:
        raise VerificationError(
            "the root image is not the one that the statement names", where=view.name, finding="root-image"
        )
