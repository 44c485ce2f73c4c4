"""The profiles that count: those that respin brings along, and those of the user's trust store."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Dict, Tuple

from respin.errors import UsageError
from respin.node.profile import Profile
from respin.node.profileparser import parse
from respin.trust import TrustStore


@cache
def built_in() -> Tuple[Profile, ...]:
    """The profiles that respin brings along, by name."""
    directory = resources.files("respin.node") / "profiles"
    files = sorted((entry for entry in directory.iterdir() if entry.name.endswith(".toml")), key=lambda e: e.name)
    return tuple(parse(entry.read_text("utf-8"), entry.name) for entry in files)


def known(trust: TrustStore) -> Tuple[Profile, ...]:
    """The profiles that respin brings along and those of a trust store; UsageError when two have the same id."""
    found: Dict[str, Profile] = {profile.id: profile for profile in built_in()}
    for name, text in trust.profiles.items():
        where = str(trust.path / name)
        profile = parse(text, where)
        if profile.id in found:
            raise UsageError(
                f"there is a profile {profile.id} already",
                where=where,
                remedy=f'give it an id of its own, and instead_of = ["{profile.id}"] if it is to count instead',
                finding="trust-store",
            )
        found[profile.id] = profile
    return tuple(found.values())
