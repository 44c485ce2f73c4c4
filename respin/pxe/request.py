"""What is asked for, checked: a mode of the profile, a name and a base URL that every boot loader takes as they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Tuple

from respin.errors import UnsupportedError, UsageError
from respin.node.profile import Profile, PxeMode
from respin.safepath import show

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~-]{0,99}\.[Ii][Ss][Oo]")
_URL = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9_.+~-]+)*/?")


@dataclass(frozen=True)
class PlanRequest:
    """The ISO's own name, a mode of its profile (empty: the profile's default), a base URL (empty: none)."""

    name: str
    mode: str = ""
    url: str = ""


def chosen_mode(profile: Profile, wanted: str, where: str) -> Tuple[str, PxeMode]:
    """The mode and its name; UnsupportedError for a profile without modes, UsageError for one that it has not."""
    if profile.pxe is None:
        raise UnsupportedError(
            f"the profile {profile.id} does not say how {profile.title} starts from a network",
            where=where,
            remedy="a profile of your own with a [pxe] table can say it; see docs/reference/profiles.md",
            finding="no-pxe",
        )
    name = wanted or profile.pxe.mode
    if name not in profile.pxe.modes:
        raise UsageError(
            f"the profile {profile.id} has no way {show(name)!r} to start from a network",
            where=where,
            remedy=f"it has: {', '.join(sorted(profile.pxe.modes))}",
            finding="no-such-mode",
        )
    return name, profile.pxe.modes[name]


def checked_name(name: str) -> str:
    """The name; UsageError if kernel arguments and boot loaders could take it for something else."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{show(name)!r} cannot be the name of the ISO where the Node looks for it",
            remedy="say --name NAME.iso: letters, digits and _.+~- up to the ending",
            finding="odd-name",
        )
    return name


def checked_url(url: str) -> str:
    """The URL without a slash at its end; UsageError if it is none that every boot loader reads alike."""
    if url and not _URL.fullmatch(url):
        raise UsageError(
            f"{show(url)!r} is no base URL",
            remedy="say --url http://SERVER/DIRECTORY (or https): letters, digits and _.+~- between the slashes",
            finding="odd-url",
        )
    return url.rstrip("/")
