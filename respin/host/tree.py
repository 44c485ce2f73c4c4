"""A root against the root image of a verified ISO: every path of the image, and what stands beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator, List, Set

from respin.host.files import local_attributes_left_out
from respin.host.report import Drift
from respin.host.root import HostRoot
from respin.node.image import NodeImage
from respin.node.paths import read_file
from respin.node.places import FACTS
from respin.node.treediff import attributes
from respin.root.delta import Attributes, Kind
from respin.roottree import TreeInode
from respin.safepath import first_match, show

# What a running system mounts over the image's directories; their own attributes are those of the mount.
MOUNTED = ("/proc/**", "/sys/**", "/dev/**", "/run/**", "/tmp/**", "/lost+found/**")
# Where a Node keeps what comes to be while it runs: new files there are no drift, changed ones are.
GROWING = (
    "/",
    "/var/**",
    "/etc/**",
    "/root/**",
    "/home/**",
    "/mnt/**",
    "/media/**",
    "/srv/**",
    "/config/**",
    "/data/**",
)


class TreeCheck:
    """Compares; ``checked`` counts the paths of the image that were looked at."""

    def __init__(self, root: HostRoot, node: NodeImage) -> None:
        self._root = root
        self._node = node
        self.checked = 0

    def run(self, facts: bytes) -> Iterator[Drift]:
        """A drift for each path that is not as in the image; ``facts`` are those of the root."""
        if read_file(self._node.root, FACTS) != facts:
            yield Drift(FACTS, "it is not that of the ISO: the Node was installed from another one, or it was changed")
        for path, inode in self._node.root.walk():
            if first_match(path, MOUNTED):
                continue
            self.checked += 1
            what = self._difference(path, inode)
            if what:
                yield Drift(path, what)
            elif inode.is_directory and not first_match(path, GROWING):
                yield from self._added(path)

    def _difference(self, path: str, inode: TreeInode) -> str:
        found = self._root.attributes(path)
        if found is None:
            return "it is missing"
        wanted = _comparable(attributes(self._node.root, inode))
        return ", ".join(_differences(_comparable(found), wanted))

    def _added(self, path: str) -> Iterator[Drift]:
        there: Set[str] = set(self._node.root.listdir(path))
        for name in self._root.listdir(path) or []:
            if name not in there:
                full = f"/{name}" if path == "/" else f"{path}/{name}"
                yield Drift(full, "it is not in the ISO's root")


def _comparable(found: Attributes) -> Attributes:
    """Without what a mere use of a file changes, and what a Node gives to its files by itself."""
    mtime = found.mtime if found.kind is Kind.FILE else 0
    return replace(found, mtime=mtime, xattrs=local_attributes_left_out(found.xattrs))


def _differences(found: Attributes, wanted: Attributes) -> List[str]:
    if found.kind is not wanted.kind:
        return [f"it is a {found.kind.value}, not a {wanted.kind.value}"]
    says: List[str] = []
    if found.kind is not Kind.SYMLINK and found.mode != wanted.mode:
        says.append(f"mode {found.mode:o} instead of {wanted.mode:o}")
    if (found.uid, found.gid) != (wanted.uid, wanted.gid):
        says.append(f"owner {found.uid}:{found.gid} instead of {wanted.uid}:{wanted.gid}")
    if found.target != wanted.target:
        says.append(f"link to {show(str(found.target))} instead of {show(str(wanted.target))}")
    if found.sha256 != wanted.sha256:
        says.append("other content")
    if found.mtime != wanted.mtime:
        says.append(f"time {found.mtime} instead of {wanted.mtime}")
    if found.xattrs != wanted.xattrs:
        says.append("other extended attributes")
    return says
