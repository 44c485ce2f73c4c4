"""Rules on the second copy of /etc: exactly what changed in /etc has changed there, in the same way."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterator

from respin.node.selinux import without_label
from respin.node.treediff import attributes
from respin.plan import InstallPlan
from respin.policy.findings import Finding
from respin.root.delta import Attributes, Change, Delta, Entry, Kind
from respin.root.factory import ETC, counterpart, is_wanted


class Factory:
    """The copy that the profile names, if it does, held against a delta."""

    def __init__(self, delta: Delta, plan: InstallPlan) -> None:
        self._root = plan.node.root
        directory = plan.node.profile.marks.factory
        inode = self._root.lookup(directory) if directory else None
        self._factory = directory if inode is not None and inode.is_directory else ""
        self._entries: Dict[str, Entry] = {entry.path: entry for entry in delta} if self._factory else {}

    def is_copy(self, entry: Entry) -> bool:
        """Whether a change is that of a copy whose original has become the same."""
        if not self._factory or not entry.path.startswith(self._factory + "/") or entry.new is None:
            return False
        path = ETC + entry.path[len(self._factory) :]
        original = self._entries.get(path)
        if original is not None:
            return original.new is not None and _alike(original.new, entry.new)
        if entry.change is not Change.ADDED or entry.kind is not Kind.DIRECTORY:
            return False
        inode = self._root.lookup(path)
        return inode is not None and inode.is_directory and _alike(attributes(self._root, inode), entry.new)

    def judge(self) -> Iterator[Finding]:
        """A finding for each change in /etc of which the copy knows nothing."""
        for entry in self._entries.values():
            target = counterpart(entry.path, self._factory)
            if not target or not is_wanted(entry, self._root.lookup(target) is not None):
                continue
            copy = self._entries.get(target)
            if copy is None or not self.is_copy(copy):
                yield Finding("factory", target, f"it is not the copy of {entry.path}, with which the Node compares it")


def _alike(original: Attributes, copy: Attributes) -> bool:
    """But for the label, which follows from the path, and for a directory's time."""
    one, other = (replace(side, xattrs=without_label(side)) for side in (original, copy))
    return one.same(other) if original.kind is Kind.DIRECTORY else one == other
