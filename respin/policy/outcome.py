"""Rules on the delta: every path that differs must be a plugin's file or derived state of a known kind.

Derived state is let through here by its path only; :mod:`respin.policy.derived` then validates its content.
"""

from __future__ import annotations

from typing import Iterator, Mapping

from respin.formats import capability
from respin.node.places import LINKER_CACHE, MODULES, USER_DATABASE
from respin.node.selinux import without_label
from respin.node.treediff import attributes
from respin.plan import InstallPlan, PlannedFile
from respin.policy.factory import Factory
from respin.policy.findings import Finding
from respin.policy.preflight import protected
from respin.policy.unitlinks import is_unit_link, is_unit_link_directory
from respin.root.delta import Attributes, Change, Delta, Entry, Kind
from respin.safepath import parents, show

# What depmod(8) writes; modules.order and modules.builtin* come from the kernel's build and stay the vendor's.
DEPMOD_FILES = frozenset(
    f"modules.{name}"
    for name in (
        "alias",
        "alias.bin",
        "builtin.alias.bin",
        "builtin.bin",
        "dep",
        "dep.bin",
        "devname",
        "softdep",
        "symbols",
        "symbols.bin",
        "weakdep",
    )
)


def judge_delta(delta: Delta, plan: InstallPlan) -> Iterator[Finding]:
    """All findings on what the transaction left; each refuses the build."""
    factory = Factory(delta, plan)
    yield from factory.judge()
    for entry in delta:
        if factory.is_copy(entry):
            continue
        if is_derived(entry.path, plan):
            yield from _derived(entry, plan)
        elif entry.change is Change.ADDED:
            yield from _added(entry, plan)
        else:
            yield from protected(plan.node.profile, entry.path, "a plugin's transaction")
            what = "removed" if entry.change is Change.REMOVED else "changed"
            yield Finding(
                "vendor-path-changed",
                entry.path,
                f"the vendor's path was {what} by the transaction",
                "a plugin only adds: look for the scriptlet or the file that does this",
            )


def judge_shipped(shipped: Delta, judged: Delta, facts: Mapping[str, bytes]) -> Iterator[Finding]:
    """Hold what differs in the finished root against what was judged, plus respin's own facts."""
    ours = {directory for path in facts for directory in parents(path)}
    expected = {entry.path: entry for entry in judged}
    for entry in shipped:
        if entry.path in facts or (entry.path in ours and entry.change is Change.ADDED):
            continue
        if expected.pop(entry.path, None) != entry:
            yield Finding("not-as-judged", entry.path, "the finished root differs from what was judged")
    for path in sorted(expected):
        yield Finding("not-as-judged", path, "a judged change is not in the finished root")


def is_derived(path: str, plan: InstallPlan) -> bool:
    """Whether ``path`` is state that is recomputed or validated instead of being compared with a package."""
    if path == LINKER_CACHE or path in USER_DATABASE or path in plan.database.files:
        return True
    directory, _, name = path.rpartition("/")
    return name in DEPMOD_FILES and any(
        directory == f"{base}/{release}" for base in MODULES for release in plan.node.kernel_releases
    )


def is_implied_directory(entry: Entry, plan: InstallPlan) -> bool:
    """Whether ``entry`` is a directory that no package owns and rpm made to put a plugin's file there."""
    new = entry.new
    plain = new is not None and (new.kind, new.mode, new.uid, new.gid, without_label(new)) == (
        Kind.DIRECTORY,
        0o755,
        0,
        0,
        {},
    )
    return plain and any(path.startswith(entry.path + "/") for path in plan.files)


def _derived(entry: Entry, plan: InstallPlan) -> Iterator[Finding]:
    if entry.change is Change.REMOVED or entry.kind is not Kind.FILE:
        yield Finding("vendor-path-changed", entry.path, "derived state was removed, or is no longer a file")
    elif entry.path == LINKER_CACHE and entry.change is Change.ADDED:
        yield Finding("undeclared-effect", entry.path, "the Node has no linker cache, and a scriptlet made one")
    elif entry.new is not None and not any(_same_access(entry.new, model) for model in _models(entry, plan)):
        yield Finding(
            "vendor-path-changed", entry.path, "its mode, owner or extended attributes are not those of the vendor's"
        )


def _models(entry: Entry, plan: InstallPlan) -> Iterator[Attributes]:
    """Whose access rights a derived file may have: its own old ones; a backup's also those of what it backs up."""
    if entry.old is not None:
        yield entry.old
    original = entry.path.rstrip("-") if entry.path in USER_DATABASE else entry.path
    inode = plan.node.root.lookup(original)
    if inode is not None and inode.is_file:
        yield attributes(plan.node.root, inode, content=False)
    elif entry.old is None:
        yield Attributes(Kind.FILE, 0o644, 0, 0, plan.epoch)


def _same_access(one: Attributes, other: Attributes) -> bool:
    mine, theirs = (one.mode, one.uid, one.gid), (other.mode, other.uid, other.gid)
    return mine == theirs and without_label(one) == without_label(other)


def _added(entry: Entry, plan: InstallPlan) -> Iterator[Finding]:
    yield from protected(plan.node.profile, entry.path, "a plugin's transaction")
    if entry.path in plan.files:
        yield from _extended_attributes(entry, plan.files[entry.path])
        return
    if is_implied_directory(entry, plan):
        return
    if is_unit_link(entry, plan) or is_unit_link_directory(entry):
        return
    yield Finding(
        "undeclared-effect",
        entry.path,
        f"a scriptlet made this {entry.kind.value}, which no package owns",
        "ship it in the package, or declare the unit that it enables under effects.units",
    )


def _extended_attributes(entry: Entry, planned: PlannedFile) -> Iterator[Finding]:
    """A package's file has the capabilities that its header names, and no other attribute that a scriptlet gave it.

    Its label is for :mod:`respin.policy.labels`.
    """
    caps = planned.entry.caps
    wanted = {capability.XATTR: capability.from_text(caps, where=entry.path)} if caps else {}
    found = without_label(entry.new) if entry.new is not None else {}
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            yield Finding(
                "content",
                entry.path,
                f"its extended attribute {show(name)} is not what the header of {planned.nevra} says",
                "give capabilities by %caps in the package and declare them; other attributes are not supported",
            )
