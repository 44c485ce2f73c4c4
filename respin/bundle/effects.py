"""What the RPM headers say a plugin does, and whether its manifest says the same.

Paths, set-id bits, capabilities, scriptlets, kernel modules, unit links and accounts stand in the headers. What
scriptlets do does not: that the manifest declares, and the installed root is compared with it later.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Sequence, Set, Tuple

from respin import safepath
from respin.bundle.manifest import DeclaredScriptlet, Effects
from respin.digest import sha256_hex
from respin.errors import PolicyError
from respin.formats.rpmfile import RpmHeader, Scriptlet

_MODULE = re.compile(r".*/(?P<name>[^/]+)\.ko(?:\.(?:gz|xz|zst|bz2))?")
_UNIT_DIRECTORY = r"/(?:usr/lib|lib|etc)/systemd/system/"
_UNIT = re.compile(_UNIT_DIRECTORY + r"(?P<unit>[^/]+)")
_UNIT_LINK = re.compile(_UNIT_DIRECTORY + r"[^/]+\.(?:wants|requires|upholds)/(?P<unit>[^/]+)")
_ACCOUNT = re.compile(r"(?P<kind>user|group)\((?P<name>[^()]+)\)")
_GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True)
class Derived:
    """The effects that RPM headers name. ``units`` are those the packages link into a target, ``shipped`` all units."""

    paths: Tuple[str, ...]
    setuid: FrozenSet[str]
    capabilities: FrozenSet[Tuple[str, str]]
    scriptlets: FrozenSet[DeclaredScriptlet]
    kernel_modules: FrozenSet[str]
    units: FrozenSet[str]
    shipped: FrozenSet[str]
    users: FrozenSet[str]
    groups: FrozenSet[str]


def derive(headers: Sequence[RpmHeader]) -> Derived:
    """The effects of the packages with these ``headers``."""
    entries = [entry for header in headers for entry in header.files]
    paths = tuple(sorted({entry.path for entry in entries}))
    accounts = [_ACCOUNT.fullmatch(provided.name) for header in headers for provided in header.provides]
    named: Dict[str, Set[str]] = {"user": set(), "group": set()}
    for account in accounts:
        if account:
            named[account["kind"]].add(account["name"])
    return Derived(
        paths=paths,
        setuid=frozenset(
            e.path for e in entries if not stat.S_ISLNK(e.mode) and e.mode & (stat.S_ISUID | stat.S_ISGID)
        ),
        capabilities=frozenset((entry.path, entry.caps) for entry in entries if entry.caps),
        scriptlets=frozenset(_declare(header, scriptlet) for header in headers for scriptlet in header.scriptlets),
        kernel_modules=frozenset(name.replace("-", "_") for name in _names(_MODULE, "name", paths)),
        units=frozenset(_names(_UNIT_LINK, "unit", paths)),
        shipped=frozenset(_names(_UNIT, "unit", paths)),
        users=frozenset(named["user"]),
        groups=frozenset(named["group"]),
    )


def uncovered(paths: Iterable[str], patterns: Sequence[str]) -> List[str]:
    """Those of ``paths`` that no pattern covers; quick for the many patterns that are plain paths."""
    plain = frozenset(pattern for pattern in patterns if is_plain(pattern))
    globs = [pattern for pattern in patterns if pattern not in plain]
    return [path for path in paths if path not in plain and not safepath.first_match(path, globs)]


def is_plain(path: str) -> bool:
    """Whether ``path``, taken as a pattern, covers exactly itself."""
    return not _GLOB_CHARACTERS & set(path)


def check(declared: Effects, derived: Derived, *, where: str) -> None:
    """Raise PolicyError unless the manifest declares what the headers say: all of it, and nothing they contradict."""
    missing = [f"{path} is a path" for path in uncovered(derived.paths, declared.paths)]
    missing += [f"{path} is set-user-id or set-group-id" for path in sorted(derived.setuid - set(declared.setuid))]
    missing += [
        f"{path} has the capabilities {safepath.show(caps)}"
        for path, caps in sorted(derived.capabilities - set(declared.capabilities))
    ]
    missing += [f"{one} is a scriptlet" for one in sorted(derived.scriptlets - set(declared.scriptlets))]
    missing += _names_missing("is a kernel module", derived.kernel_modules, declared.kernel_modules)
    missing += _names_missing("is a unit that is linked into a target", derived.units, declared.units)
    missing += _names_missing("is a user that a package makes", derived.users, declared.users)
    missing += _names_missing("is a group that a package makes", derived.groups, declared.groups)
    if missing:
        raise PolicyError(
            f"{safepath.show(missing[0])} which the manifest does not declare",
            where=where,
            finding="undeclared-effect",
            remedy="make the bundle again with `respin bundle create`, and look at what it declares before signing it",
            also=[f"{safepath.show(sentence)} which the manifest does not declare" for sentence in missing[1:]],
        )
    _check_excess(declared, derived, where)


def _check_excess(declared: Effects, derived: Derived, where: str) -> None:
    excess = _names_missing("is declared as set-id", declared.setuid, derived.setuid)
    excess += [
        f"{path} is declared to have the capabilities {caps}"
        for path, caps in declared.capabilities
        if (path, caps) not in derived.capabilities
    ]
    excess += [f"{one} is declared" for one in declared.scriptlets if one not in derived.scriptlets]
    excess += _names_missing("is declared as a kernel module", declared.kernel_modules, derived.kernel_modules)
    excess += [
        f"{unit} is declared as a unit to enable"
        for unit in declared.units
        if unit not in derived.shipped and _template(unit) not in derived.shipped
    ]
    if excess:
        raise PolicyError(
            f"{safepath.show(excess[0])}, but no package of the bundle has it",
            where=where,
            finding="effect-mismatch",
            remedy="declare what the packages have and nothing else",
            also=[f"{safepath.show(sentence)}, but no package of the bundle has it" for sentence in excess[1:]],
        )


def _names_missing(what: str, names: Iterable[str], among: Iterable[str]) -> List[str]:
    return [f"{name} {what}" for name in sorted(set(names) - set(among))]


def _template(unit: str) -> str:
    return re.sub(r"@.*\.([a-z]+)$", r"@.\1", unit)


def _names(pattern: "re.Pattern[str]", group: str, paths: Iterable[str]) -> Set[str]:
    return {match[group] for match in map(pattern.fullmatch, paths) if match}


def _declare(header: RpmHeader, scriptlet: Scriptlet) -> DeclaredScriptlet:
    digest = sha256_hex(scriptlet.body.encode("utf-8", "surrogateescape"))
    return DeclaredScriptlet(header.nevra, scriptlet.kind, tuple(scriptlet.interpreter), digest)
