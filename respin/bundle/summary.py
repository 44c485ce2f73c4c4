"""What a bundle says of itself, as plain data and as text for a person."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from respin.bundle import packing
from respin.bundle.examination import manifest_member, place
from respin.bundle.manifest import Manifest, Target
from respin.bundle.members import Bundle
from respin.bundle.schema import parse_manifest
from respin.bundle.verifier import VerifiedBundle
from respin.trust import TrustedSignature

SCHEMA = "respin.bundle/1"
MOST_LINES = 12  # of one kind; the JSON document has all


def describe(bundle: Bundle) -> Tuple[Manifest, Dict[str, Any]]:
    """The manifest and the JSON document of a bundle nobody has verified; MalformedError if it has no manifest."""
    manifest = parse_manifest(manifest_member(bundle).read(), where=place(bundle.path, packing.MANIFEST))
    signed = bundle.member(packing.SIGNATURE) is not None
    return manifest, _document(manifest, bundle.sha256, bundle.size, {"verified": False, "signed": signed})


def describe_verified(bundle: VerifiedBundle) -> Dict[str, Any]:
    """The JSON document of a verified bundle: in addition, who signed it and its packages."""
    status = {
        "verified": True,
        "signed": True,
        "signer": _signer(bundle.signer),
        "rpm_signers": {rpm.header.nevra: _signer(rpm.signer) for rpm in bundle.rpms},
    }
    return _document(bundle.manifest, bundle.sha256, bundle.size, status)


def text(manifest: Manifest, document: Dict[str, Any]) -> str:
    """A page about the bundle for a person; it starts with how far it is to be believed."""
    lines = [f"{manifest.nvra}: {manifest.summary}", f"  {_status(document)}", ""]
    lines += _rows("vendor", [manifest.vendor])
    lines += _rows("license", [manifest.license or "not stated"])
    lines += _rows("for", _target(manifest.target))
    lines += _rows("packages", [_package(rpm.nevra, document) for rpm in manifest.rpms])
    for title, names in _effects(manifest):
        lines += _rows(title, names)
    lines += _rows("conflicts with", manifest.conflicts)
    lines += _rows("installed after", manifest.after)
    lines += _rows("sha256", [f"{document['sha256']} ({document['size']} bytes)"])
    return "\n".join(lines)


def _document(manifest: Manifest, sha256: str, size: int, status: Dict[str, Any]) -> Dict[str, Any]:
    return {"schema": SCHEMA, "sha256": sha256, "size": size, **status, "manifest": manifest.to_json()}


def _signer(signature: TrustedSignature) -> Dict[str, Any]:
    return {
        "fingerprint": signature.key.public.fingerprint,
        "user_ids": list(signature.key.public.user_ids),
        "role": str(signature.key.role),
        "tier": signature.key.tier,
        "created": signature.signature.created,
        "verdict": str(signature.signature.verdict),
    }


def _status(document: Dict[str, Any]) -> str:
    if document["verified"]:
        signer = document["signer"]
        return f"verified: signed by {_name(signer)} ({signer['tier']}), {signer['fingerprint']}"
    if document["signed"]:
        return "NOT VERIFIED: it is signed, but nobody has looked at the signature; `respin bundle verify` does"
    return "NOT VERIFIED: it is not signed"


def _name(signer: Dict[str, Any]) -> str:
    name = str(signer["user_ids"][0]) if signer["user_ids"] else "a key without a name"
    # a trust store may opt in to expired and weak keys; nobody should have to guess that it did
    return name if signer["verdict"] == "GOOD" else f"{name} ({signer['verdict']}, accepted by the trust store)"


def _package(nevra: str, document: Dict[str, Any]) -> str:
    signer: Optional[Dict[str, Any]] = document.get("rpm_signers", {}).get(nevra)
    return f"{nevra}, signed by {_name(signer)}" if signer else nevra


def _target(target: Target) -> Sequence[str]:
    versions = [f"from {target.at_least} on"] if target.at_least else []
    versions += [f"before {target.below}"] if target.below else []
    return [
        f"Nodes of profile {_any(target.profiles)} on {', '.join(target.architectures)}",
        f"product {_any(target.products)}, version {' and '.join(versions) or 'any'}",
        f"kernel {_any(target.kernels) if target.kernels else 'any'}",
    ]


def _any(globs: Sequence[str]) -> str:
    return "any" if "*" in globs else " or ".join(globs)


def _effects(manifest: Manifest) -> List[Tuple[str, Sequence[str]]]:
    effects = manifest.effects
    return [
        ("adds", effects.paths),
        ("replaces", effects.replaces),
        ("set-id files", effects.setuid),
        ("capabilities", [f"{path}: {caps}" for path, caps in effects.capabilities]),
        ("runs code", [f"{one} ({' '.join(one.interpreter) or 'no interpreter'})" for one in effects.scriptlets]),
        ("enables units", effects.units),
        ("makes users", effects.users),
        ("makes groups", effects.groups),
        ("kernel modules", effects.kernel_modules),
        ("in early boot", effects.initrd_modules),
        ("kernel arguments", effects.kernel_arguments),
        ("accepts unmet", effects.accepts_unmet),
    ]


def _rows(title: str, values: Sequence[str]) -> List[str]:
    shown = list(values[:MOST_LINES])
    if len(values) > MOST_LINES:
        shown.append(f"and {len(values) - MOST_LINES} more")
    return [f"  {title if index == 0 else '':<16}  {value}" for index, value in enumerate(shown)]
