"""The facts that a respun Node carries in its own root: what it is made of. Unsigned; the proof is on the ISO.

``/usr/share/respin/facts.json``, canonical JSON with the field ``schema``; docs/reference/provenance.md has the fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from respin import __version__, strictjson
from respin.limits import LIMITS
from respin.node.base import BaseClaim
from respin.plan import InstallPlan
from respin.root.delta import Delta
from respin.strictjson import Fields

SCHEMA = "respin.facts/1"


@dataclass(frozen=True)
class PackageFacts:
    """A package: its name, the SHA-256 of the RPM and of its main header."""

    nevra: str
    sha256: str
    header_sha256: str


@dataclass(frozen=True)
class PluginFacts:
    """A plugin as its bundle's manifest calls it, who signed it, its packages."""

    name: str
    version: str
    release: str
    sha256: str
    signer: str
    packages: Tuple[PackageFacts, ...]


@dataclass(frozen=True)
class Facts:
    """What a Node says it is made of. ``base_signer`` is None when the base was pinned."""

    respin: str
    base_name: str
    base_product: str
    base_sha256: str
    base_verified: str
    base_signer: Optional[str]
    plugins: Tuple[PluginFacts, ...]
    changes: int

    @property
    def packages(self) -> Tuple[PackageFacts, ...]:
        """The packages of all plugins."""
        return tuple(package for plugin in self.plugins for package in plugin.packages)


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
                "packages": [
                    {
                        "nevra": rpm.header.nevra,
                        "sha256": rpm.sha256,
                        "header_sha256": rpm.header.sha256,
                    }
                    for rpm in bundle.rpms
                ],
            }
            for bundle in plan.bundles
        ],
        "changes": len(delta.entries),
    }
    return strictjson.encode(document, indent=2)


def parse(data: bytes, *, where: str) -> Facts:
    """Read a facts file; MalformedError for anything but what :func:`facts` writes."""
    document = strictjson.decode(data, where=where, limit=LIMITS.manifest)
    fields = Fields(document, where=where, place="facts", finding="facts")
    if fields.text("schema") != SCHEMA:
        raise fields.bad("are of another schema than this respin knows", "schema")
    fields.text("notice")
    base = fields.fields("base")
    signer = base.text("signer") if base.has("signer") else None
    found = Facts(
        respin=fields.text("respin"),
        base_name=base.text("name"),
        base_product=base.text("product", empty=True),
        base_sha256=base.sha256("sha256"),
        base_verified=base.text("verified"),
        base_signer=signer,
        plugins=tuple(_plugin(one) for one in fields.objects("plugins", limit=LIMITS.bundle_members)),
        changes=fields.integer("changes"),
    )
    base.done()
    fields.done()
    return found


def _plugin(fields: Fields) -> PluginFacts:
    packages = []
    for one in fields.objects("packages", limit=LIMITS.bundle_members):
        packages.append(PackageFacts(one.text("nevra"), one.sha256("sha256"), one.sha256("header_sha256")))
        one.done()
    plugin = PluginFacts(
        fields.text("name"),
        fields.text("version"),
        fields.text("release"),
        fields.sha256("sha256"),
        fields.text("signer"),
        tuple(packages),
    )
    fields.done()
    return plugin
