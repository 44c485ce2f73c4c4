"""Compares what the changed image says with what was planned, through :mod:`respin.formats.ext` and not debugfs.

debugfs leaves a file of full size with unwritten data when it fails in the middle, and e2fsck calls that clean.
"""

from __future__ import annotations

import stat
from typing import Any, Dict, Mapping

from respin.byteview import chunks
from respin.digest import sha256_chunks
from respin.errors import BuildError
from respin.formats.ext import ExtImage, ExtInode
from respin.root.delta import Attributes, Kind
from respin.root.entries import Plan, Target
from respin.safepath import show

_FORMATS = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
}
# What adding and removing names must not change in a directory.
_KEPT = (
    "number", "mode", "uid", "gid", "atime", "ctime", "mtime", "crtime",
    "atime_nsec", "ctime_nsec", "mtime_nsec", "crtime_nsec",
)  # fmt: skip


class ReadBack:
    """Reads ``image``, which messages call ``name``."""

    def __init__(self, image: ExtImage, name: str) -> None:
        self._image = image
        self._name = name

    def check(self, plan: Plan, before: Mapping[str, ExtInode]) -> None:
        """BuildError unless every target is as planned, every removal is gone, and ``before`` (directories in which
        names were added or removed) kept all their attributes."""
        targets = {path for target in plan.targets for path in (target.path, *target.links)}
        for removal in plan.removals:
            if removal.path not in targets and self._image.lookup(removal.path) is not None:
                raise self._wrong(removal.path, "is still there")
        for target in plan.targets:
            self._check_target(target)
        for path, inode in before.items():
            now = self._find(path)
            for name in _KEPT:
                if getattr(now, name) != getattr(inode, name):
                    raise self._wrong(path, f"has another {name} than before")

    def _check_target(self, target: Target) -> None:
        inode, wanted = self._find(target.path), target.attributes
        for name, value in self._wanted(target, wanted).items():
            found = getattr(inode, name)
            if found != value:
                raise self._wrong(target.path, f"has {name} {found} instead of {value}")
        if wanted.kind is Kind.FILE and sha256_chunks(chunks(self._image.file_view(inode))) != wanted.sha256:
            raise self._wrong(target.path, "has other content")
        if wanted.kind is Kind.SYMLINK and self._image.readlink(inode) != wanted.target:
            raise self._wrong(target.path, "points elsewhere")
        xattrs = {n: v for n, v in self._image.xattrs(inode).items() if not n.startswith("system.")}
        if xattrs != dict(wanted.xattrs):
            raise self._wrong(target.path, "has other extended attributes")
        for link in target.links:
            if self._find(link).number != inode.number:
                raise self._wrong(link, f"is no hard link to {show(target.path)}")

    def _wanted(self, target: Target, wanted: Attributes) -> Dict[str, Any]:
        values: Dict[str, Any] = {
            "mode": _FORMATS[wanted.kind] | wanted.mode,
            "uid": wanted.uid,
            "gid": wanted.gid,
            "mtime": wanted.mtime,
        }
        if wanted.kind is not Kind.DIRECTORY:
            values["nlink"] = 1 + len(target.links)
        if wanted.kind is Kind.FILE:
            values["size"] = wanted.size
        if target.make:
            values["atime"] = values["ctime"] = wanted.mtime
            if self._image.superblock.inode_size > 128:
                values["crtime"] = wanted.mtime
        return values

    def _find(self, path: str) -> ExtInode:
        inode = self._image.lookup(path)
        if inode is None:
            raise self._wrong(path, "is missing")
        return inode

    def _wrong(self, path: str, what: str) -> BuildError:
        return BuildError(
            f"reading back the changed root: {show(path)} {what}", where=self._name, finding="read-back-differs"
        )
