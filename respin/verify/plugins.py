"""Each change in the root belongs to a signed plugin, or is derived state: judged anew from the evidence in the ISO.

The same rules as during a build, on a plan made of signed manifests and signed RPM headers instead of whole bundles,
and on the difference that was found by reading both trees. Nothing that the ISO's maker says is taken for granted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Sequence, Tuple

from respin.digest import sha256_hex
from respin.errors import VerificationError
from respin.node.base import BaseClaim
from respin.node.image import NodeImage
from respin.node.paths import read_file
from respin.node.places import FACTS
from respin.node.selinux import without_label
from respin.plan import InstallPlan, make_plan
from respin.policy.content import judge_content
from respin.policy.derived import judge_derived
from respin.policy.findings import require_none
from respin.policy.labels import judge_labels
from respin.policy.outcome import judge_delta
from respin.policy.preflight import judge_plan
from respin.provenance import evidence, statement
from respin.provenance.evidence import ProvenBundle
from respin.provenance.facts import facts
from respin.provenance.layout import EVIDENCE
from respin.root.delta import Attributes, Change, Delta, Kind
from respin.safepath import parents
from respin.trust import TrustStore
from respin.verify.stock import Stock


def verify_evidence(
    output: NodeImage, claims: statement.Claims, trust: TrustStore, tmpdir: Path
) -> Tuple[ProvenBundle, ...]:
    """The plugins by the signatures in the evidence; they must be those that the statement names, in its order.

    What the statement says of them follows from manifests and headers, but for who signed what and how far that key is
    trusted, which is by the trust store of whoever asks, and for the digests of whole bundles, which are not there.
    """
    view = output.iso.file_view(f"/{EVIDENCE}")
    digests = {str(plugin["name"]): str(plugin["sha256"]) for plugin in claims.plugins}
    if len(digests) != len(claims.plugins):
        raise VerificationError("the statement names a plugin twice", where=view.name, finding="evidence")
    proven = evidence.verify_bundles(evidence.unpack(view), digests, trust, where=view.name, tmpdir=tmpdir)
    said, wanted = (claims.plugins, claims.packages), statement.described(proven)
    if [_without_signers(one) for part in said for one in part] != [
        _without_signers(one) for part in wanted for one in part
    ]:
        raise VerificationError(
            "the statement says something else of plugins and packages than their signed manifests and headers",
            where=view.name,
            remedy="this is not what its maker says it is; do not use it",
            finding="evidence",
        )
    return proven


def _without_signers(described: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in described.items() if key not in ("signer", "tier")}


def proven_plan(stock: Stock, bundles: Sequence[ProvenBundle], claims: statement.Claims, scratch: Path) -> InstallPlan:
    """The plan that was carried out, made anew from the vendor's Node and the signed manifests and headers."""
    return make_plan(stock.node, tuple(bundles), claims.epoch, claims.architecture, scratch, stock.packages)


def judge_changes(
    output: NodeImage, delta: Delta, plan: InstallPlan, marks: Mapping[str, bytes], claim: BaseClaim, scratch: Path
) -> None:
    """Hold every change against the plugins and the rules; raises PolicyError or VerificationError.

    ``marks`` is what must stand in files of the vendor's that say that the Node was respun.
    """
    require_none(judge_plan(plan))
    own = {FACTS, *parents(FACTS)}
    _require_marks(output, delta, plan, marks)
    theirs = Delta(
        tuple(
            entry
            for entry in delta
            if (entry.path not in own or entry.change is not Change.ADDED) and entry.path not in marks
        )
    )
    require_none(judge_delta(theirs, plan))
    require_none(judge_labels(delta, plan))
    require_none(judge_content(plan, output.root))
    require_none(judge_derived(plan, delta, output.root, scratch))
    for entry in delta:
        if entry.path in own and entry.new is not None and entry.change is Change.ADDED:
            kind, mode = (Kind.FILE, 0o644) if entry.path == FACTS else (Kind.DIRECTORY, 0o755)
            if replace(entry.new, mtime=0, size=0, sha256=None, xattrs=without_label(entry.new)) != Attributes(
                kind, mode, 0, 0, 0
            ):
                raise _not_ours(output, entry.path)
    if read_file(output.root, FACTS) != facts(claim, plan, theirs):
        raise _not_ours(output, FACTS)


def _require_marks(output: NodeImage, delta: Delta, plan: InstallPlan, marks: Mapping[str, bytes]) -> None:
    """Every mark is there, with the vendor's attributes and exactly the content that follows from the plan."""
    found = {entry.path: entry for entry in delta if entry.path in marks}
    for path, content in marks.items():
        entry = found.get(path)
        old = None if entry is None else entry.old
        wanted = None if old is None else replace(old, mtime=plan.epoch, size=len(content), sha256=sha256_hex(content))
        if entry is None or entry.new != wanted:
            raise VerificationError(
                "this file does not say that the Node was respun, and with what",
                where=f"{output.root.view.name}:{path}",
                remedy="this is not the vendor's Node plus the declared plugins; do not use it",
                finding="marks",
            )


def _not_ours(output: NodeImage, path: str) -> VerificationError:
    return VerificationError(
        "the facts in the root are not those of this respin",
        where=f"{output.root.view.name}:{path}",
        finding="facts",
    )
