"""Which profile an ISO fits, by facts on it, and where the parts are that the profile speaks of."""

from __future__ import annotations

import configparser
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from respin.errors import MalformedError, UnsupportedError
from respin.formats.iso9660.image import IsoImage
from respin.limits import LIMITS
from respin.node import versionfile
from respin.node.profile import Fact, Profile, VersionSource
from respin.safepath import first_match, printable, show


@dataclass(frozen=True)
class Places:
    """The files of an ISO that a profile speaks of, by path, sorted. ``root`` is None when there is none."""

    root: Optional[str] = None
    stage2: Tuple[str, ...] = ()
    kernels: Tuple[str, ...] = ()
    initrds: Tuple[str, ...] = ()
    boot_configurations: Tuple[str, ...] = ()
    checksums: Tuple[str, ...] = ()
    protected: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {
            "root": self.root,
            "stage2": list(self.stage2),
            "kernels": list(self.kernels),
            "initrds": list(self.initrds),
            "boot_configurations": list(self.boot_configurations),
            "checksums": list(self.checksums),
            "protected": {name: list(paths) for name, paths in self.protected.items()},
        }


def recognise(iso: IsoImage, profiles: Sequence[Profile]) -> Optional[Profile]:
    """The profile that fits ``iso``; None when none does.

    A profile that names others in ``instead_of`` counts instead of them. Raises UnsupportedError naming all that are
    left when they are more than one: nobody can say what has to stay protected then.
    """
    fitting = [profile for profile in profiles if fits(iso, profile)]
    beaten = {name for profile in fitting for name in profile.instead_of}
    left = [profile for profile in fitting if profile.id not in beaten]
    if len(left) > 1 or (fitting and not left):
        names = " and ".join(f"{profile.id} ({profile.title})" for profile in left or fitting)
        raise UnsupportedError(
            f"more than one profile recognises this ISO: {names}",
            where=iso.name,
            remedy="a profile that is the more exact one says so by instead_of; see docs/reference/profiles.md",
            finding="ambiguous-profile",
        )
    return left[0] if left else None


def fits(iso: IsoImage, profile: Profile) -> bool:
    """Whether everything that ``profile`` recognises its Node by is so on ``iso``."""
    wanted = profile.recognition
    if not all(_any(iso, pattern) for pattern in wanted.files) or any(_any(iso, path) for path in wanted.absent):
        return False
    return all(_holds(iso, fact) for fact in wanted.facts)


def places(iso: IsoImage, profile: Profile) -> Places:
    """Where the parts are; UnsupportedError when several files could be the root image."""
    roots = matching(iso, (profile.root,))
    if len(roots) > 1:
        raise UnsupportedError(
            f"several files could be the root image: {', '.join(map(show, roots))}",
            where=iso.name,
            remedy=f"the profile {profile.id} expects one file {profile.root}",
            finding="layout",
        )
    sums = profile.checksums
    return Places(
        root=roots[0] if roots else None,
        stage2=tuple(path for path in matching(iso, profile.stage2) if path not in roots),
        kernels=matching(iso, profile.kernels),
        initrds=matching(iso, profile.initrds),
        boot_configurations=matching(iso, profile.boot_configurations),
        checksums=matching(iso, (*sums.treeinfo, *sums.kickstarts, *sums.sums)),
        protected={name: matching(iso, members.iso) for name, members in sorted(profile.protected.items())},
    )


def matching(iso: IsoImage, patterns: Sequence[str]) -> Tuple[str, ...]:
    """The files of ``iso`` that one of ``patterns`` covers, sorted."""
    return tuple(sorted(path for path in iso.files if first_match(path, patterns)))


def version_of(source: VersionSource, data: bytes, where: str) -> Mapping[str, str]:
    """What a version file says: everything in it, and PRODUCT, VERSION and RELEASE by the profile's names for them."""
    found = dict(values_of(data, source.section, where))
    for name, key in source.keys.items():
        if key:
            found[name.upper()] = found.get(key, "")
    return found


def values_of(data: bytes, section: str, where: str) -> Mapping[str, str]:
    """The values of a file of assignments, or of one ``section`` of an INI file; MalformedError if it is neither."""
    if not section:
        return versionfile.parse(data, where)
    reader = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    reader.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        reader.read_string(data.decode("utf-8", "replace"), where)
        values = dict(reader.items(section)) if reader.has_section(section) else {}
    except configparser.Error as error:
        raise MalformedError(f"this is no INI file: {show(str(error).splitlines()[0])}", where=where) from error
    return {key: value for key, value in values.items() if printable(key) and printable(value)}


def _any(iso: IsoImage, pattern: str) -> bool:
    return pattern in iso.files or any(first_match(path, (pattern,)) for path in iso.files)


def _holds(iso: IsoImage, fact: Fact) -> bool:
    if fact.file not in iso.files or iso.files[fact.file].size > LIMITS.small_file:
        return False
    data = iso.read(fact.file)
    if fact.text:
        return fact.text.encode("utf-8") in data
    value = values_of(data, fact.section, f"{iso.name}:{fact.file}").get(fact.key)
    return value is not None and any(fnmatchcase(value, glob) for glob in fact.values)
