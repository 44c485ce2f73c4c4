"""How the links of the chain are said to people."""

from __future__ import annotations

from dataclasses import replace
from typing import Mapping, Optional, Sequence

from respin.clock import show_time
from respin.node.base import BaseClaim
from respin.plan import Bundle
from respin.provenance import statement
from respin.provenance.carrier import Trailing
from respin.provenance.medium import MediumRecord
from respin.root.delta import Change, Delta
from respin.root.growth import Growth, megabytes
from respin.safepath import show
from respin.trust import TrustedSignature, TrustStore
from respin.verify.against_base import Comparison
from respin.verify.report import Link, Report, Status


def signature_link(signature: Optional[TrustedSignature]) -> Link:
    """The link of the statement's signature."""
    if signature is None:
        return Link("statement", Status.NOT_DONE, "unsigned")
    return Link("statement", Status.PASSED, f"signed by {signer_name(signature)}")


def signer_name(signature: TrustedSignature) -> str:
    """Who signed: user id and fingerprint."""
    public = signature.key.public
    return f"{show(public.user_ids[0]) if public.user_ids else 'a key without a name'} ({public.fingerprint})"


def on_carrier(report: Report, found: Trailing) -> Report:
    """The report with what lies behind the ISO, which nobody signed."""
    carrier = found.carrier
    said = f"the ISO is the first {carrier.iso_size} of {carrier.size} bytes"
    if carrier.moved:
        said += "; the backup of its partition table was moved to the end, with the signed partitions"
    if found.first_data is None:
        status, said = Status.PASSED, f"{said}; everything else behind it is zero"
    else:
        status = Status.NOT_DONE
        said = f"{said}; from byte {found.first_data} on there is data that nobody signed, and nothing is said about it"
    return replace(report, links=(*report.links, Link("carrier", status, said)), carrier=found.to_json())


def no_vendor() -> Link:
    """The link that a pinned base leaves open: only the ISO's maker says that there is a vendor behind it."""
    detail = "the base was pinned by its sha256; no signature of a vendor says that it is a Node"
    return Link("vendor", Status.NOT_DONE, detail)


def describe_signature(signature: Optional[TrustedSignature]) -> Optional[Mapping[str, object]]:
    """Who signed, as plain data."""
    if signature is None:
        return None
    public = signature.key.public
    return {
        "fingerprint": public.fingerprint,
        "user_ids": list(public.user_ids),
        "tier": signature.key.tier,
        "signed_at": signature.signature.created,
    }


def describe_medium(record: MediumRecord) -> Mapping[str, object]:
    """What else changed on the medium, and what whoever built it asked for, as plain data."""
    arguments = record.request.arguments
    return {
        "append_arguments": list(arguments.append),
        "remove_arguments": list(arguments.remove),
        "edited": [one.to_json() for one in record.edited],
    }


def describe_trust(trust: TrustStore) -> Mapping[str, object]:
    """By which trust store, and by which time, everything was judged; None is now."""
    expires = trust.policy.expires
    return {
        "sha256": trust.digest,
        "expires": None if expires is None else show_time(expires),
        "judged_at": None if trust.at is None else show_time(trust.at),
    }


def stock(claim: BaseClaim, claims: statement.Claims, found: Comparison) -> str:
    """What the comparison with the vendor's ISO found."""
    return (
        f"{claims.base_name}, {_who_says(claim, claims)}; {found.bytes_compared} bytes of the ISO and"
        f" {found.root_same} are the vendor's"
    )


def _who_says(claim: BaseClaim, claims: statement.Claims) -> str:
    if claim.signature is not None:
        return f"signed by {signer_name(claim.signature)}"
    return f"by a pinned sha256 ({claims.base_sha256[:16]}...), which no vendor signed"


def not_stock(claims: statement.Claims) -> str:
    """Why the stock check was not done."""
    return (
        f"not compared with the vendor's {claims.base_name} (sha256 {claims.base_sha256}): the ISO was built without a"
        " restore map; give --base NODE.iso to have every byte compared"
    )


def plugins(bundles: Sequence[Bundle]) -> str:
    """How many plugins and packages were signed by trusted keys."""
    packages = sum(len(bundle.rpms) for bundle in bundles)
    return (
        f"{len(bundles)} plugin{'s' * (len(bundles) != 1)} and {packages} package{'s' * (packages != 1)}"
        " signed by trusted keys"
    )


def counts(delta: Delta) -> Mapping[str, int]:
    """How many paths were added, changed and removed."""
    return {change.value: sum(1 for entry in delta if entry.change is change) for change in Change}


def changes(delta: Delta, growth: Optional[Growth]) -> str:
    """The same as a phrase, and how far the file system was grown."""
    found = counts(delta)
    grown = ""
    if growth is not None:
        grown = f"; its file system was grown from {megabytes(growth.old_size)} to {megabytes(growth.new_size)}"
    return (
        f"{found['added']} paths added, {found['changed']} changed, {found['removed']} removed, all as declared"
        f" (slack inside of metadata is not judged){grown}"
    )
