"""Plugin bundles: signed RPMs with a signed manifest that says what they do to a Node. See docs/reference/bundle.md.

- ``manifest``, ``schema``: what a manifest says, and reading it strictly
- ``packing``, ``members``, ``reading``: the canonical tar, private copies of its members
- ``lint``, ``effects``: what RPM headers may not say, and whether they say what the manifest declares
- ``spec``, ``maker``: from a specification file to a bundle
- ``signing``, ``signer``: signing with a GnuPG home or with an external command
- ``verifier``: the only way to a :class:`VerifiedBundle`
- ``summary``: what a bundle says of itself
"""

from __future__ import annotations

from respin.bundle.maker import Draft, create
from respin.bundle.manifest import DeclaredScriptlet, Effects, FileMember, Manifest, RpmMember, Target
from respin.bundle.reading import read_bundle
from respin.bundle.schema import parse_manifest
from respin.bundle.signer import CommandSigner
from respin.bundle.signing import sign
from respin.bundle.verifier import VerifiedBundle, verify

__all__ = [
    "CommandSigner",
    "DeclaredScriptlet",
    "Draft",
    "Effects",
    "FileMember",
    "Manifest",
    "RpmMember",
    "Target",
    "VerifiedBundle",
    "create",
    "parse_manifest",
    "read_bundle",
    "sign",
    "verify",
]
