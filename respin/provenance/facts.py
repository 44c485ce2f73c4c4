"""The facts that a respun Node carries in its own root: what it is made of. Unsigned; the proof is on the ISO.

``/usr/share/respin/facts.json``, canonical JSON with the field ``schema``; docs/reference/provenance.md has the fields.
"""

from __future__ import annotations

from typing import Any, Dict

from respin import __version__, strictjson
from respin.node.base import BaseClaim
from respin.plan import InstallPlan
from respin.root.delta import Delta

SCHEMA = "respin.facts/1"


def facts(claim: BaseClaim, plan: InstallPlan, delta: Delta) -> bytes:
    """The facts file's bytes; ``delta`` is what the plugins changed, without this file."""
    document: Dict[str, Any] = {
        "schema": SCHEMA,
        "notice": "unsigned facts; the proof is the signed statement on the ISO (respin verify)",
        "respin": __version__,
        "base": {
            "name": claim.name,
            "product": plan.node.identity.product,
            "sha256": claim.sha256,
            "verified": claim.kind,
            **({"signer": claim.signature.key.public.fingerprint} if claim.signature else {}),
        },
        "plugins": [
            {
                "name": bundle.manifest.name,
                "version": bundle.manifest.version,
                "release": bundle.manifest.release,
                "sha256": bundle.sha256,
                "signer": bundle.signer.key.public.fingerprint,
                "packages": [{"nevra": rpm.header.nevra, "sha256": rpm.sha256} for rpm in bundle.rpms],
            }
            for bundle in plan.bundles
        ],
        "changes": len(delta.entries),
    }
    return strictjson.encode(document, indent=2)
