"""Whom we believe, about what: the trust store, and signatures that only it can call trusted.

- ``model``: roles, tiers, trusted keys and trusted signatures
- ``policyfile``: ``policy.toml``
- ``minimum``: the oldest versions that are accepted
- ``store``: the store in a directory, and verification against it
- ``edit``: adding a key to a store
- ``verdicts``: each verdict word with its meaning and its remedy
- ``rpmsig``: an RPM's signatures and digests, by GnuPG over the signed bytes and by rpm
- ``rpmchild``: rpm's half of that, run in a process of its own
- ``sealed``: a private copy of a file that nobody can change any more
"""

from __future__ import annotations

from respin.trust.edit import add_key
from respin.trust.minimum import NODE, PLUGIN
from respin.trust.model import TIERS, Role, TrustedKey, TrustedSignature
from respin.trust.store import TrustStore, VerifiedRpm

__all__ = [
    "NODE",
    "PLUGIN",
    "TIERS",
    "Role",
    "TrustStore",
    "TrustedKey",
    "TrustedSignature",
    "VerifiedRpm",
    "add_key",
]
