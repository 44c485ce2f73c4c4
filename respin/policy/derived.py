"""Validators of derived state: its content is recomputed or compared, never waved through.

They look at the root as it will be shipped, through the reader that verification uses, and not at what the transaction
said it did.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Mapping, Set

from respin.formats.kernelmodule import module_name
from respin.node import rpmdb
from respin.node.paths import read_file
from respin.node.places import LINKER_CACHE, USER_DATABASE
from respin.plan import InstallPlan
from respin.policy import userdb
from respin.policy.findings import Finding
from respin.policy.linkercache import judge_linker_cache
from respin.policy.moduleindex import judge_module_index
from respin.policy.outcome import DEPMOD_FILES, is_derived
from respin.policy.recorded import judge_contents, judge_recorded
from respin.root.delta import Change, Delta
from respin.roottree import RootTree


def judge_derived(plan: InstallPlan, delta: Delta, after: RootTree[Any], scratch: Path) -> Iterator[Finding]:
    """All findings on the content of derived state in ``after``; ``scratch`` is a private directory."""
    before = plan.node.root
    changed = {entry.path for entry in delta.entries if entry.change is not Change.REMOVED}
    file = plan.database.file
    wanted = {rpm.header.raw: rpm.header.nevra for rpm in plan.rpms}
    if plan.database.backend == "sqlite":
        databases = (read_file(before, file) or b"", read_file(after, file) or b"")
        yield from judge_recorded(*databases, wanted, file, scratch)
    else:
        old, new = (rpmdb.contents(root, plan.database) for root in (before, after))
        yield from judge_contents(old, new, wanted, file)
    group_lines = (read_file(before, "/etc/group") or b"").decode("utf-8", "surrogateescape").split("\n")
    vendor_groups = {fields[2]: fields[0] for fields in (line.split(":") for line in group_lines) if len(fields) > 2}
    for path in sorted(changed & set(USER_DATABASE)):
        yield from userdb.judge(
            path,
            read_file(before, path.rstrip("-")) or b"",
            read_file(after, path) or b"",
            users=plan.declared("users"),
            groups=plan.declared("groups"),
            vendor_groups=vendor_groups,
        )
    if LINKER_CACHE in changed:
        yield from judge_linker_cache(before, after, plan.files)
    for path in sorted(changed):
        name = path.rpartition("/")[2]
        if name == "modules.dep":
            yield from _modules_dep(path, plan, read_file(before, path) or b"", read_file(after, path) or b"")
        elif name in DEPMOD_FILES and is_derived(path, plan):
            yield from judge_module_index(path, plan, after)


def _modules_dep(path: str, plan: InstallPlan, before: bytes, after: bytes) -> Iterator[Finding]:
    old, new = _dependencies(before), _dependencies(after)
    directory = path.rpartition("/")[0]
    for name in sorted(old):
        if new.get(name) != old[name]:
            yield Finding(
                "modules", path, f"the dependencies of the vendor's module {name.decode('utf-8', 'replace')} changed"
            )
    ours: Set[str] = {planned for planned in plan.files if module_name(planned)}
    for name in sorted(set(new) - set(old)):
        full = f"{directory}/{name.decode('utf-8', 'surrogateescape')}"
        if full not in ours:
            yield Finding("modules", path, f"{full} is in the index but no plugin brings it")
        for needed in new[name].split():
            if needed not in new:
                yield Finding("modules", path, f"{full} is said to need {needed.decode('utf-8', 'replace')}, no module")


def _dependencies(data: bytes) -> Mapping[bytes, bytes]:
    pairs = (line.partition(b":") for line in data.split(b"\n") if line)
    return {name: dependencies.strip() for name, _, dependencies in pairs}
