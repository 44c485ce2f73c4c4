"""The root against what the statement declares: changes path by path, protected sets by digest."""

from __future__ import annotations

from typing import Mapping, Optional

from respin.errors import VerificationError
from respin.formats.iso9660.image import IsoImage
from respin.node.image import Identity, NodeImage
from respin.node.protected import ProtectedDigest, protected_digests
from respin.node.selinux import SelinuxPolicy
from respin.node.treediff import attributes
from respin.provenance import statement
from respin.root.delta import Delta, Entry
from respin.root.growth import Growth
from respin.safepath import show
from respin.trust import NODE, TrustStore


def require_recent(iso: IsoImage, identity: Identity, trust: TrustStore) -> None:
    """Raise PolicyError for a Node that is older than the trust store's minimum for its profile."""
    version, name = identity.version, "" if identity.profile is None else identity.profile.id
    trust.require_recent(NODE, name, version.get("VERSION", ""), version.get("RELEASE", ""), where=iso.name)


def require_same_profile(output: NodeImage, stock: NodeImage) -> None:
    """Raise VerificationError when the two are not of one kind: other sets would count as protected."""
    if output.profile != stock.profile:
        raise VerificationError(
            f"it looks like {output.profile.title}, the vendor's ISO like {stock.profile.title}",
            where=output.iso.view.name,
            remedy="this is not the vendor's Node plus the declared plugins; do not use it",
            finding="not-the-vendors",
        )


def protected(node: NodeImage, claims: statement.Claims) -> Mapping[str, ProtectedDigest]:
    """The digests of a Node's protected sets; VerificationError unless the statement says the same."""
    digests = protected_digests(node.iso, node.root, node.profile, claims.medium.files)
    require_same_sets(node, claims.protected, digests)
    return digests


def require_same_sets(
    output: NodeImage, wanted: Mapping[str, ProtectedDigest], found: Mapping[str, ProtectedDigest]
) -> None:
    """Raise VerificationError if a protected set of ``output`` (``found``) is not as ``wanted``."""
    for name in sorted(set(wanted) | set(found)):
        if wanted.get(name) != found.get(name):
            raise VerificationError(
                f"the Node's {name} is not what it should be",
                where=output.iso.view.name,
                remedy="the protected files differ, or whoever built it had another profile of that name; do not use"
                " this ISO",
                finding="protected-set",
            )


def require_same_policy(output: NodeImage, claims: statement.Claims, policy: Optional[SelinuxPolicy]) -> None:
    """Raise VerificationError if labels were computed by other file contexts than those of ``policy``."""
    if claims.selinux != (None if policy is None else policy.id):
        raise VerificationError(
            "the statement names other SELinux file contexts than the Node's",
            where=output.root.view.name,
            remedy="labels were not computed by this Node's policy; do not use this ISO",
            finding="selinux-policy",
        )


def check_declared(output: NodeImage, delta: Delta) -> None:
    """Hold the declared changes against the root, path by path."""
    for entry in delta:
        inode = output.root.lookup(entry.path)
        found = None if inode is None else attributes(output.root, inode)
        if found != entry.new:
            raise _undeclared(output, entry)


def require_same_delta(output: NodeImage, found: Delta, declared: Delta) -> None:
    """Raise VerificationError at the first path where what differs is not what is declared."""
    by_path = {entry.path: entry for entry in declared}
    for entry in found:
        if by_path.pop(entry.path, None) != entry:
            raise _undeclared(output, entry)
    for entry in by_path.values():
        raise _undeclared(output, entry)


def require_same_growth(output: NodeImage, found: Optional[Growth], declared: Optional[Growth]) -> None:
    """Raise VerificationError unless the root's file system was grown as it is declared."""
    if found != declared:
        raise VerificationError(
            "the root's file system has another size than the statement declares",
            where=output.root.view.name,
            remedy="this is not the vendor's Node plus the declared plugins; do not use it",
            finding="undeclared-change",
        )


def _undeclared(output: NodeImage, entry: Entry) -> VerificationError:
    return VerificationError(
        "the root differs from what the statement declares for this path",
        where=f"{output.root.view.name}:{show(entry.path)}",
        remedy="this is not the vendor's Node plus the declared plugins; do not use it",
        finding="undeclared-change",
    )
