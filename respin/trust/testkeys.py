"""Throw-away keys for tries and tests: one of each role, their trust store and the list of fingerprints."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Dict, Mapping

from respin.errors import UsageError
from respin.formats.openpgp import export_public, generate_key
from respin.trust.edit import add_key
from respin.trust.model import Role

_TIERS: Mapping[Role, str] = {Role.BASE: "vendor", Role.PLUGIN: "partner", Role.RPM: "partner", Role.RESPIN: "partner"}


def generate_test_keys(directory: Path) -> Mapping[Role, str]:
    """Make ``gnupg/`` (private keys without passphrase), ``trust/`` and ``keys.json`` in ``directory``.

    Returns role -> fingerprint. UsageError when one of the three exists already; nothing is left behind on a failure.
    """
    home, store, listing = directory / "gnupg", directory / "trust", directory / "keys.json"
    for path in (home, store, listing):
        if path.exists() or path.is_symlink():
            raise UsageError("it exists already", where=str(path), remedy="name another directory, or remove it first")
    fingerprints: Dict[Role, str] = {}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700)
        for role in Role:
            name = f"TEST respin {role} key, not for production <{role}@respin.test>"
            fingerprints[role] = generate_key(home, name)
            public = export_public(home, fingerprints[role])
            add_key(store, public, role, tier=_TIERS[role], comment="throw-away test key")
        listing.write_text(json.dumps({str(role): fpr for role, fpr in fingerprints.items()}, indent=2) + "\n")
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(store, ignore_errors=True)
        if listing.exists():
            os.unlink(listing)
        raise
    return fingerprints
