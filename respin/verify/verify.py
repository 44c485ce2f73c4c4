"""The verification as a whole."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, Optional, Sequence

from respin.byteview import FileView
from respin.digest import sha256_view
from respin.errors import VerificationError
from respin.node.base import BaseClaim, VerifiedBase, claim_from_checksum, open_input, verify_base
from respin.node.image import NodeImage, open_node
from respin.node.profile import Profile, built_in
from respin.node.protected import ProtectedDigest, protected_digests
from respin.node.treediff import attributes
from respin.progress import SILENT, Progress
from respin.provenance import statement
from respin.root.delta import Change, Delta, Entry
from respin.safepath import show
from respin.trust import TrustedSignature, TrustStore
from respin.verify.against_base import compare_with_base
from respin.verify.report import Link, Report, Status
from respin.verify.statement import read_statement, verify_media_check, verify_signature, verify_subject
from respin.workspace import Workspace


@dataclass(frozen=True)
class VerifyRequest:
    """What to verify. ``base`` is the vendor's ISO, ``base_checksum`` its CHECKSUM; both may be absent."""

    iso: Path
    trust: Path
    base: Optional[Path] = None
    base_checksum: Optional[Path] = None
    tmpdir: Optional[Path] = None


def verify(request: VerifyRequest, progress: Progress = SILENT) -> Report:
    """Verify a respun ISO. Whatever fails raises; a report means that everything which was checked holds."""
    trust = TrustStore.load(request.trust)
    profiles = built_in()
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(request.tmpdir))
        fd = open_input(request.iso)
        stack.callback(os.close, fd)
        base = None
        if request.base is not None:
            base_fd = open_input(request.base)
            stack.callback(os.close, base_fd)
            base = base_fd, request.base
        output = open_node(FileView(fd, str(request.iso)), profiles)
        raw, envelope = read_statement(output.iso)
        signature = verify_signature(output.iso, raw, envelope, trust, workspace.path)
        claims = statement.parse(raw, where=f"{request.iso}:/respin.json")
        claim = _claim(request, claims, trust, workspace.path)
        verified = None if base is None else verify_base(base[0], base[1], claim, progress)
        return verify_output(output, claims, signature, verified, profiles, progress, claim)


def verify_output(
    output: NodeImage,
    claims: statement.Claims,
    signature: Optional[TrustedSignature],
    base: Optional[VerifiedBase],
    profiles: Sequence[Profile],
    progress: Progress,
    claim: BaseClaim,
) -> Report:
    """Verify an opened output whose statement's signature was checked; used by ``build`` on what it is to publish."""
    links: List[Link] = [_signature_link(signature)]
    verify_subject(output.iso, claims, progress)
    media = verify_media_check(output.iso, claims, progress)
    links.append(Link("ISO", Status.PASSED, f"all {output.iso.view.size} bytes are the signed ones; {media}"))
    _root_image(output, claims, progress)
    delta = Delta(claims.changes)
    digests = _protected(output, claims)
    if base is None:
        links.append(Link("stock Node", Status.NOT_DONE, _not_stock(claims)))
        with progress.step("checking the declared changes in the root"):
            _check_declared(output, delta)
    else:
        stock = open_node(base.view(), profiles)
        found = compare_with_base(output, stock, progress)
        who = _who_says(claim, claims)
        links.append(
            Link(
                "stock Node",
                Status.PASSED,
                f"{claims.base_name}, {who}; {found.bytes_compared} bytes of the ISO and {found.blocks_same} of"
                f" {found.blocks_same + found.blocks_changed} blocks of the root image are the vendor's",
            )
        )
        _require_same_delta(output, found.delta, delta)
        _require_same_sets(output, protected_digests(stock.iso, stock.root, stock.profile), digests)
    links.append(Link("root", Status.PASSED, _count_sentence(delta)))
    for name in sorted(digests):
        how = "as in the vendor's ISO" if base is not None else "as the statement says"
        links.append(Link(name, Status.PASSED, f"{digests[name].paths} protected paths, {how}"))
    return Report(
        iso=str(output.iso.view.name),
        size=output.iso.view.size,
        links=tuple(links),
        product=output.identity.product,
        base={"name": claims.base_name, "sha256": claims.base_sha256, "verified": claim.kind},
        plugins=claims.plugins,
        packages=claims.packages,
        signer=_describe_signature(signature),
        changes=_counts(delta),
    )


def _claim(request: VerifyRequest, claims: statement.Claims, trust: TrustStore, tmpdir: Path) -> BaseClaim:
    """What the base must be: by the vendor's CHECKSUM if it is at hand, and always by the statement."""
    if request.base_checksum is None:
        return BaseClaim(claims.base_sha256, claims.base_name, None, b"")
    claim = claim_from_checksum(request.base_checksum, claims.base_name, trust, tmpdir)
    if claim.sha256 != claims.base_sha256:
        raise VerificationError(
            f"the statement names a base {claims.base_name} with another digest than the vendor's CHECKSUM",
            where=str(request.base_checksum),
            remedy="this is not a respin of that vendor's release; do not use it",
            finding="base-digest",
        )
    return claim


def _who_says(claim: BaseClaim, claims: statement.Claims) -> str:
    if claim.signature is not None:
        return f"signed by {signer_name(claim.signature)}"
    return f"by the sha256 in the signed statement (whose maker had it {claims.base_kind})"


def _root_image(output: NodeImage, claims: statement.Claims, progress: Progress) -> None:
    view = output.iso.file_view(output.squashfs_path)
    found = (output.squashfs_path, output.image.path, output.profile.id, view.size)
    claimed = (claims.root_image, claims.inner_image, claims.profile, claims.root_image_size)
    if found != claimed or sha256_view(view, progress, "hashing the root image") != claims.root_image_sha256:
        raise VerificationError(
            "the root image is not the one that the statement names", where=view.name, finding="root-image"
        )


def _protected(output: NodeImage, claims: statement.Claims) -> Mapping[str, ProtectedDigest]:
    digests = protected_digests(output.iso, output.root, output.profile)
    _require_same_sets(output, claims.protected, digests)
    return digests


def _require_same_sets(
    output: NodeImage, wanted: Mapping[str, ProtectedDigest], found: Mapping[str, ProtectedDigest]
) -> None:
    for name in sorted(set(wanted) | set(found)):
        if wanted.get(name) != found.get(name):
            raise VerificationError(
                f"the Node's {name} is not what it should be",
                where=output.iso.view.name,
                remedy="the protected files differ; do not use this ISO",
                finding="protected-set",
            )


def _check_declared(output: NodeImage, delta: Delta) -> None:
    """Hold the declared changes against the root, path by path."""
    for entry in delta:
        inode = output.root.lookup(entry.path)
        found = None if inode is None else attributes(output.root, inode)
        if found != entry.new:
            raise _undeclared(output, entry)


def _require_same_delta(output: NodeImage, found: Delta, declared: Delta) -> None:
    by_path = {entry.path: entry for entry in declared}
    for entry in found:
        if by_path.pop(entry.path, None) != entry:
            raise _undeclared(output, entry)
    for entry in by_path.values():
        raise _undeclared(output, entry)


def _undeclared(output: NodeImage, entry: Entry) -> VerificationError:
    return VerificationError(
        "the root differs from what the statement declares for this path",
        where=f"{output.root.view.name}:{show(entry.path)}",
        remedy="this is not the vendor's Node plus the declared plugins; do not use it",
        finding="undeclared-change",
    )


def _signature_link(signature: Optional[TrustedSignature]) -> Link:
    if signature is None:
        return Link("statement", Status.NOT_DONE, "unsigned")
    return Link("statement", Status.PASSED, f"signed by {signer_name(signature)}")


def signer_name(signature: TrustedSignature) -> str:
    """Who signed, for people: user id and fingerprint."""
    public = signature.key.public
    return f"{show(public.user_ids[0]) if public.user_ids else 'a key without a name'} ({public.fingerprint})"


def _describe_signature(signature: Optional[TrustedSignature]) -> Optional[Mapping[str, object]]:
    if signature is None:
        return None
    public = signature.key.public
    return {
        "fingerprint": public.fingerprint,
        "user_ids": list(public.user_ids),
        "tier": signature.key.tier,
        "signed_at": signature.signature.created,
    }


def _not_stock(claims: statement.Claims) -> str:
    return (
        f"not compared with the vendor's {claims.base_name}, which the statement names by sha256 {claims.base_sha256};"
        " give --base NODE.iso to have every byte compared"
    )


def _counts(delta: Delta) -> Mapping[str, int]:
    return {change.value: sum(1 for entry in delta if entry.change is change) for change in Change}


def _count_sentence(delta: Delta) -> str:
    counts = _counts(delta)
    return f"{counts['added']} paths added, {counts['changed']} changed, {counts['removed']} removed, all as declared"
