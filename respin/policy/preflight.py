"""Rules on the plan: what can be refused before any code of a plugin runs."""

from __future__ import annotations

import stat
from typing import Any, Iterator, Mapping, Set, Tuple

from respin.formats.kernelmodule import module_name
from respin.node.places import LIBRARY_DIRECTORIES, MODULES, PROGRAM_DIRECTORIES, RESERVED
from respin.node.profile import Profile
from respin.plan import InstallPlan, PlannedFile
from respin.policy.arguments import judge_arguments
from respin.policy.findings import Finding
from respin.policy.overrides import judge_overrides
from respin.policy.packages import judge_bundles
from respin.roottree import RootTree
from respin.safepath import first_match


def judge_plan(plan: InstallPlan) -> Iterator[Finding]:
    """All findings on the plan; each refuses the build."""
    yield from judge_bundles(plan)
    found_modules = vendor_modules(plan.node.root)
    yield from judge_arguments(plan, found_modules)
    for path in sorted(plan.files):
        planned = plan.files[path]
        yield from protected(plan.node.profile, path, planned.nevra)
        yield from _existing(plan.node.root, planned)
        yield from _module(plan, planned, found_modules)
    yield from _shadows(plan)
    yield from judge_overrides(plan)


def protected(profile: Profile, path: str, who: str) -> Iterator[Finding]:
    """A finding if ``path`` belongs to the installer, to the persistence layer or to a reserved place."""
    for name, members in sorted(profile.protected.items()):
        pattern = first_match(path, members.root_patterns)
        if pattern:
            yield Finding(
                "protected-path",
                path,
                f"{who} reaches into the Node's {'persistence layer' if name == 'persistence' else name} ({pattern})",
                "the installer and the persistence layer stay exactly as the vendor made them",
            )
    pattern = first_match(path, RESERVED)
    if pattern:
        yield Finding(
            "protected-path",
            path,
            f"{who} reaches a place that changes what the vendor's own programs do ({pattern})",
            "ship the file elsewhere, below a directory of the plugin's own",
        )


def _existing(root: RootTree[Any], planned: PlannedFile) -> Iterator[Finding]:
    inode = root.lookup(planned.path)
    if inode is None or (planned.entry.is_ghost and not stat.S_ISDIR(inode.mode)):
        if inode is not None:
            yield _conflict(planned, "the Node already has it")
        return
    if stat.S_ISDIR(inode.mode) and stat.S_ISDIR(planned.entry.mode):
        if inode.mode != planned.entry.mode:
            yield _conflict(
                planned,
                f"the directory has mode {stat.S_IMODE(inode.mode):o}, the package wants"
                f" {stat.S_IMODE(planned.entry.mode):o}",
            )
        return
    yield _conflict(planned, "the Node already has it")


def _conflict(planned: PlannedFile, why: str) -> Finding:
    return Finding("conflict", planned.path, f"{planned.nevra} owns this path, but {why}", "a plugin only adds files")


def _module(plan: InstallPlan, planned: PlannedFile, vendor: Mapping[str, str]) -> Iterator[Finding]:
    for base in MODULES:
        if not planned.path.startswith(base + "/"):
            continue
        release = planned.path[len(base) + 1 :].split("/")[0]
        if release not in plan.node.kernel_releases:
            have = ", ".join(plan.node.kernel_releases) or "none"
            yield Finding(
                "kernel-mismatch",
                planned.path,
                f"{planned.nevra} brings modules for kernel {release}, the Node has {have}",
                "get the plugin for this Node's kernel",
            )
        name = module_name(planned.path)
        if name and name in vendor:
            yield Finding(
                "module-override",
                planned.path,
                f"{planned.nevra} brings the module {name}, which the Node already has as {vendor[name]}",
                "a plugin only adds; give the module a name of its own",
            )


def vendor_modules(root: RootTree[Any]) -> Mapping[str, str]:
    """The paths of the vendor's modules by the kernel's names for them."""
    found = {}
    for base in MODULES:
        directory = root.lookup(base)
        if directory is None or not directory.is_directory:
            continue
        for path, _ in root.walk(base):
            name = module_name(path)
            if name:
                found[name] = path
    return found


def _shadows(plan: InstallPlan) -> Iterator[Finding]:
    for directories, kind in ((PROGRAM_DIRECTORIES, "program"), (LIBRARY_DIRECTORIES, "library")):
        vendor = _names(plan.node.root, directories)
        for path in sorted(plan.files):
            directory, _, name = path.rpartition("/")
            if directory in directories and (kind == "program" or ".so" in name):
                others = [other for other, names in vendor if name in names and other != directory]
                if others:
                    yield Finding(
                        "shadows",
                        path,
                        f"{plan.files[path].nevra} brings a {kind} that hides or is hidden by {others[0]}/{name}",
                        "give it a name of its own",
                    )


def _names(root: RootTree[Any], directories: Tuple[str, ...]) -> Tuple[Tuple[str, Set[str]], ...]:
    found = []
    for directory in directories:
        inode = root.lookup(directory)
        if inode is not None and stat.S_ISDIR(inode.mode):
            found.append((directory, set(root.listdir(directory))))
    return tuple(found)
