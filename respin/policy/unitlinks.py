"""Links that enable a plugin's units: as the signed unit files call for them, and all of them for a declared unit.

What ``systemctl enable`` and ``preset`` make of ``[Install]`` (systemd.unit(5)). When a transaction is judged only the
plan is at hand, so what a unit file says is looked at in the finished root.
"""

from __future__ import annotations

import posixpath
import re
import stat
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Tuple

from respin.node.paths import read_file, real_parent, real_path
from respin.node.profile import UNIT_DIRECTORIES
from respin.node.selinux import without_label
from respin.plan import InstallPlan
from respin.policy.findings import Finding
from respin.policy.overrides import template
from respin.root.delta import Change, Delta, Entry, Kind
from respin.roottree import RootTree

_ENABLED = "/etc/systemd/system"
_FOLDERS = {"WantedBy": "wants", "RequiredBy": "requires", "UpheldBy": "upholds"}
_ALWAYS = ("wants", "requires")  # UpheldBy= came with systemd 254
_SUFFIXES = tuple(f".{folder}" for folder in _FOLDERS.values())
_SPECIFIER = re.compile(r"%(.)")

Install = Dict[str, Tuple[str, ...]]
"""The words by key of ``[Install]``."""


def is_unit_link(entry: Entry, plan: InstallPlan) -> bool:
    """Whether ``entry`` is a link to a declared unit of a plugin, in a place for links that enable units."""
    directory, _, name = entry.path.rpartition("/")
    parent, _, folder = directory.rpartition("/")
    if entry.kind is not Kind.SYMLINK or entry.new is None:
        return False
    target = real_parent(plan.node.root, posixpath.join(directory, entry.new.target or ""))
    place, _, unit = target.rpartition("/")
    if place not in UNIT_DIRECTORIES or target not in plan.files:
        return False
    if parent in UNIT_DIRECTORIES and folder.endswith(_SUFFIXES):
        return unit in (name, template(name)) and bool({name, unit} & {*plan.declared("units")})
    return directory == _ENABLED and unit in plan.declared("units") and not _is_vendors(name, plan)


def is_unit_link_directory(entry: Entry) -> bool:
    """Whether ``entry`` is a directory made to hold such a link."""
    directory, _, folder = entry.path.rpartition("/")
    return (
        entry.kind is Kind.DIRECTORY
        and directory in UNIT_DIRECTORIES
        and folder.endswith(_SUFFIXES)
        and entry.new is not None
        and (entry.new.mode, entry.new.uid, entry.new.gid, without_label(entry.new)) == (0o755, 0, 0, {})
    )


def judge_unit_links(plan: InstallPlan, delta: Delta, after: RootTree[Any]) -> Iterator[Finding]:
    """Findings on links that no unit file calls for, and on those that a declared unit's calls for and lacks."""
    declared = plan.declared("units")
    for entry in delta:
        if entry.change is not Change.ADDED or entry.path in plan.files or not is_unit_link(entry, plan):
            continue
        directory, _, name = entry.path.rpartition("/")
        folder = "" if directory in UNIT_DIRECTORIES else directory.rpartition("/")[2]
        target = real_parent(plan.node.root, posixpath.join(directory, (entry.new and entry.new.target) or ""))
        unit = name if folder else target.rpartition("/")[2]
        install = _install(unit, plan, after)
        called = _folders(unit, install) if folder else frozenset(_expanded(unit, install.get("Alias", ())))
        named = name in declared or name in _instances(template(name), install)
        if (folder or name) not in called or (folder and not named):
            yield Finding(
                "undeclared-effect",
                entry.path,
                f"the [Install] section of {target} does not call for this link",
                "say WantedBy= or the like in the unit file, or ship the link in the package",
            )
    for unit in sorted(set(declared)):
        yield from _enabled(unit, plan, after)


def _enabled(unit: str, plan: InstallPlan, after: RootTree[Any]) -> Iterator[Finding]:
    """A finding for each link that is missing, unless the package has one itself and leaves nothing to a scriptlet."""
    install = _install(unit, plan, after)
    for name in _instances(unit, install):
        shipped = [path.split("/") for path in plan.files if path.endswith(f"/{name}")]
        if any(parts[-2].endswith(_SUFFIXES) for parts in shipped):
            continue
        for link in sorted(_wanted_links(name, install, plan)):
            found = [after.lookup(f"{base}/{link}") for base in UNIT_DIRECTORIES]
            if not any(inode is not None and stat.S_ISLNK(inode.mode) for inode in found):
                yield Finding(
                    "effect-mismatch",
                    f"{_ENABLED}/{link}",
                    f"the manifest declares that {unit} gets enabled, and this link is missing",
                    "enable it in %post (by a preset only if those of the Node let it), or do not declare it",
                )


def _wanted_links(name: str, install: Install, plan: InstallPlan) -> Iterator[str]:
    for folder in _folders(name, install):
        other, _, kind = folder.rpartition(".")
        # A template is enabled for other templates alone.
        if kind in _ALWAYS and ("@." not in name or "@." in other):
            yield f"{folder}/{name}"
    kind = name.rpartition(".")[2]
    for alias in _expanded(name, install.get("Alias", ())):
        if alias != name and alias.rpartition(".")[2] == kind and not _is_vendors(alias, plan):
            yield alias


def _is_vendors(name: str, plan: InstallPlan) -> bool:
    names = {name, template(name)}
    return any(plan.node.root.lookup(f"{base}/{one}") is not None for base in UNIT_DIRECTORIES for one in names)


def _instances(unit: str, install: Install) -> List[str]:
    """What of ``unit`` is enabled: itself, or of a template the default instance, if it has one."""
    if "@." not in unit:
        return [unit]
    default = install.get("DefaultInstance", ())
    return [unit.replace("@.", f"@{default[-1]}.", 1)] if default else [unit]


def _folders(unit: str, install: Install) -> FrozenSet[str]:
    return frozenset(
        f"{other}.{folder}" for key, folder in _FOLDERS.items() for other in _expanded(unit, install.get(key, ()))
    )


def _expanded(unit: str, words: Tuple[str, ...]) -> Iterator[str]:
    """Names with their specifiers filled in; those that depend on the machine are left out."""
    stem, _, _ = unit.rpartition(".")
    prefix, _, instance = stem.partition("@")
    known = {"%": "%", "i": instance, "j": prefix.rpartition("-")[2], "n": unit, "N": stem, "p": prefix}
    for word in words:
        name = _SPECIFIER.sub(lambda match: known.get(match[1], "/"), word)
        if "/" not in name:
            yield name


def _install(unit: str, plan: InstallPlan, after: RootTree[Any]) -> Install:
    """What the plugins' file of ``unit``, or of its template, and drop-ins say; without one, nothing."""
    names = dict.fromkeys((unit, template(unit)))
    file = next((f"{base}/{one}" for one in names for base in UNIT_DIRECTORIES if f"{base}/{one}" in plan.files), None)
    if file is None:
        return {}
    folders = {f"{base}/{one}.d" for one in names for base in UNIT_DIRECTORIES}
    drop_ins = [path for path in plan.files if path.rpartition("/")[0] in folders and path.endswith(".conf")]
    found: Install = {}
    for path in (file, *sorted(drop_ins, key=lambda path: path.rpartition("/")[2])):
        text = _signed(path, plan, after)
        section = ""
        for line in re.sub(r"\\\n", " ", text or "").split("\n"):
            key, equals, value = (part.strip() for part in line.partition("="))
            if line.strip()[:1] == "[":
                section = line.strip()
            elif section == "[Install]" and equals and key[:1] not in ("#", ";"):
                # An empty assignment takes back what was said before.
                found[key] = (*found.get(key, ()), *value.split()) if value else ()
    return found


def _signed(path: str, plan: InstallPlan, after: RootTree[Any]) -> Optional[str]:
    """A text of the plugins', also where a link of theirs leads to it."""
    real = real_path(after, path)
    planned = plan.files.get(real)
    if planned is None or planned.entry.is_ghost:
        return None
    return (read_file(after, real) or b"").decode("utf-8", "surrogateescape")
