"""The list of kernel modules, ``modules.dep``: the vendor's lines stay, each module of a plugin has one with its needs.

What modprobe loads before a module stands here; a module that is not in the list is not found at all.
"""

from __future__ import annotations

import stat
from typing import Any, Dict, Iterator, List, Set, Tuple

from respin.formats.kernelmodule import module_name
from respin.node.paths import read_file
from respin.node.places import MODULES
from respin.plan import InstallPlan
from respin.policy.findings import Finding
from respin.policy.moduleindex import own_modules
from respin.roottree import RootTree

# What every depmod writes whatever the modules say of themselves.
_ALWAYS = ("modules.alias", "modules.alias.bin", "modules.dep", "modules.dep.bin", "modules.softdep")
_UNSEARCHED = frozenset(("build", "source"))  # links to the kernel's headers; depmod enters no directory called so


def indexes_called_for(plan: InstallPlan) -> Set[str]:
    """The indexes that have to speak of a plugin's modules, whether they differ from the vendor's or not."""
    return {
        f"{base}/{release}/{name}"
        for base in MODULES
        for release in plan.node.kernel_releases
        if any(True for _ in _searched(plan, f"{base}/{release}"))
        for name in _ALWAYS
    }


def _searched(plan: InstallPlan, directory: str) -> Iterator[str]:
    """The plugins' modules that depmod finds below ``directory``."""
    for path, planned in plan.files.items():
        plain = stat.S_ISREG(planned.entry.mode) and not planned.entry.is_ghost
        if plain and path.startswith(f"{directory}/") and module_name(path) and not _UNSEARCHED & {*path.split("/")}:
            yield path


def judge_dependencies(path: str, plan: InstallPlan, after: RootTree[Any]) -> Iterator[Finding]:
    """Findings on the list at ``path``."""
    directory = path.rpartition("/")[0]
    before, now = (_lines(read_file(root, path) or b"") for root in (plan.node.root, after))
    old, new = dict(before), dict(now)
    if len(new) != len(now):
        # Which of them counts is for each reader to say.
        yield Finding("modules", path, "it has several lines for one module")
        return
    for name in sorted(old):
        if new.get(name) != old[name]:
            yield Finding("modules", path, f"the dependencies of the vendor's module {name} changed")
    listed = {f"{directory}/{name}": name for name in set(new) - set(old)}
    for full in sorted(listed):
        if full not in plan.files or not module_name(full):
            yield Finding("modules", path, f"{full} is in the index but no plugin brings it")
        for needed in new[listed[full]]:
            if needed not in new:
                yield Finding("modules", path, f"{full} is said to need {needed}, no module")
    found = {module_name(full) for full in listed}
    for full in sorted(_searched(plan, directory)):
        if module_name(full) not in found:
            yield Finding("modules", path, f"{full} is not in the index, so nothing would load it")
    own = {full: one for full, one in own_modules(plan, after, directory).items() if full in listed}
    owners = _exporters(read_file(plan.node.root, f"{directory}/modules.symbols") or b"")
    for full, one in own.items():
        for symbol in one.exports:
            owners.setdefault(symbol, set()).add(module_name(full))
    for full in sorted(own):
        needs = new[listed[full]]
        names = {module_name(needed) for needed in needs}
        calls = (owners.get(symbol, set()) for symbol in own[full].imports)
        lacking = {min(some) for some in calls if some and not some & {*names, module_name(full)}}
        # What is needed by what it needs has to be loaded, too.
        lacking |= {module_name(one) for needed in needs for one in new.get(needed, ()) if one not in needs}
        for missing in sorted(lacking - {module_name(full)}):
            yield Finding("modules", path, f"{full} needs the module {missing}, and the index does not say so")


def _lines(data: bytes) -> List[Tuple[str, Tuple[str, ...]]]:
    pairs = (line.partition(":") for line in data.decode("utf-8", "surrogateescape").split("\n") if line)
    return [(name, tuple(dependencies.split())) for name, _, dependencies in pairs]


def _exporters(symbols: bytes) -> Dict[str, Set[str]]:
    """Which of the vendor's modules export a symbol, by ``modules.symbols``."""
    found: Dict[str, Set[str]] = {}
    for line in symbols.decode("utf-8", "surrogateescape").split("\n"):
        words = line.split()
        if len(words) == 3 and words[0] == "alias" and words[1].startswith("symbol:"):
            found.setdefault(words[1][len("symbol:") :], set()).add(words[2])
    return found
