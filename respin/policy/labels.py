"""SELinux labels: what is new has the label that the Node's own policy gives its path, the vendor's keeps its own.

The rule is applied when a root is made and held against every root that is verified, from the vendor's file contexts
and never from those in the root at hand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterable, Iterator, Mapping, Optional

from respin.formats.selinux import XATTR
from respin.node.places import FACTS
from respin.node.selinux import show_label, without_label
from respin.plan import InstallPlan
from respin.policy.findings import Finding
from respin.root.delta import Attributes, Delta, Entry, Kind
from respin.safepath import parents


def label_of(entry: Entry, plan: InstallPlan) -> Optional[bytes]:
    """The label that what is at a path now must have; None for none.

    What a plugin's package brings, and what was not there, gets what restorecon(8) would give. What the vendor had and
    something else changed (the RPM database, the linker's cache) keeps its label. Of several names of one file the
    first counts.
    """
    new, old = entry.new, entry.old
    assert new is not None
    if old is not None and _is_the_vendors(entry, plan):
        return old.xattrs.get(XATTR)
    return None if plan.selinux is None else plan.selinux.label(entry.link_group or entry.path, new.kind)


def with_labels(delta: Delta, plan: InstallPlan) -> Delta:
    """``delta`` as the sandbox tells it, with what that does not see: labels, and of a flat root's own files every
    extended attribute. What is new gets the label that it must have."""
    return Delta(tuple(_completed(entry, plan) for entry in delta))


def labels_of_facts(plan: InstallPlan, marks: Iterable[str] = ()) -> Mapping[str, bytes]:
    """The labels of respin's own file and of the directories that may be made for it, by path.

    ``marks`` are files of the vendor's that get other content; they keep their labels.
    """
    kinds = {FACTS: Kind.FILE, **{path: Kind.DIRECTORY for path in parents(FACTS)}}
    found: Dict[str, bytes] = {}
    for path, kind in kinds.items():
        label = None if plan.selinux is None else plan.selinux.label(path, kind)
        if label is not None:
            found[path] = label
    for path in marks:
        inode = plan.node.root.lookup(path)
        label = None if inode is None else plan.node.root.xattrs(inode).get(XATTR)
        if label is not None:
            found[path] = label
    return found


def judge_labels(delta: Delta, plan: InstallPlan) -> Iterator[Finding]:
    """A finding for every path whose label is not the one that it must have."""
    for entry in delta:
        if entry.new is None:
            continue
        found, wanted = entry.new.xattrs.get(XATTR), label_of(entry, plan)
        if found != wanted:
            yield Finding(
                "selinux-label",
                entry.path,
                f"it has {show_label(found)} where the Node's policy and the vendor's labels give {show_label(wanted)}",
                "labels are not a plugin's to set: they follow from the path",
            )


def _completed(entry: Entry, plan: InstallPlan) -> Entry:
    old, new, hidden = entry.old, entry.new, _hidden(entry, plan)
    if old is not None:
        entry = replace(entry, old=replace(old, xattrs={**old.xattrs, **hidden}))
    if new is None:
        return entry
    kept = hidden if _is_the_vendors(entry, plan) else {}
    new = replace(new, xattrs={**kept, **new.xattrs})
    return replace(entry, new=_labelled(new, label_of(entry, plan)))


def _hidden(entry: Entry, plan: InstallPlan) -> Mapping[str, bytes]:
    """Attributes of the vendor's file that the sandbox does not see: of a flat root it sees none."""
    inode = None if entry.old is None else plan.node.root.lookup(entry.path)
    found = {} if inode is None else plan.node.root.xattrs(inode)
    return {name: value for name, value in found.items() if name == XATTR or not plan.node.image.inner_path}


def _is_the_vendors(entry: Entry, plan: InstallPlan) -> bool:
    """Whether the vendor had it, and something else than a plugin's package changed it."""
    new, old = entry.new, entry.old
    return new is not None and old is not None and old.kind is new.kind and entry.path not in plan.files


def _labelled(attributes: Attributes, label: Optional[bytes]) -> Attributes:
    others = without_label(attributes)
    return replace(attributes, xattrs=others if label is None else {**others, XATTR: label})
