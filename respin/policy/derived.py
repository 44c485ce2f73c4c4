"""Validators of derived state: its content is recomputed or compared, never waved through.

They look at the root as it will be shipped, through the reader that verification uses, and not at what the transaction
said it did.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

from respin.node import rpmdb
from respin.node.paths import read_file
from respin.node.places import LINKER_CACHE, PROGRAM_DIRECTORIES, USER_DATABASE
from respin.plan import InstallPlan
from respin.policy import accounts, userdb
from respin.policy.findings import Finding
from respin.policy.linkercache import judge_linker_cache
from respin.policy.moduledeps import indexes_called_for, judge_dependencies
from respin.policy.moduleindex import judge_module_index
from respin.policy.outcome import DEPMOD_FILES, is_derived
from respin.policy.recorded import judge_contents, judge_recorded
from respin.policy.unitlinks import judge_unit_links
from respin.root.delta import Change, Delta
from respin.root.derived import changes_linker_cache
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
    named = accounts.shells(plan, after)
    for path in sorted(changed & set(USER_DATABASE)):
        yield from userdb.judge(
            path,
            read_file(before, path.rstrip("-")) or b"",
            read_file(after, path) or b"",
            users=plan.declared("users"),
            groups=plan.declared("groups"),
            vendor_groups=vendor_groups,
            shells=named,
        )
    yield from accounts.judge_pairs(plan, after)
    yield from judge_unit_links(plan, delta, after)
    if LINKER_CACHE in changed or (any(changes_linker_cache(path) for path in changed) and _has_ldconfig(before)):
        yield from judge_linker_cache(plan, after)
    for path in sorted(changed | indexes_called_for(plan)):
        name = path.rpartition("/")[2]
        if name == "modules.dep":
            yield from judge_dependencies(path, plan, after)
        elif name in DEPMOD_FILES and is_derived(path, plan):
            yield from judge_module_index(path, plan, after)


def _has_ldconfig(root: RootTree[Any]) -> bool:
    return any(root.resolve(f"{directory}/ldconfig") is not None for directory in PROGRAM_DIRECTORIES)
