"""What a merge is asked to do: paths to put and paths to remove, checked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Tuple, Union

from respin.byteview import ByteView
from respin.errors import RespinError, UnsupportedError
from respin.formats.squashfs.inode import Kind
from respin.limits import LIMITS

Content = Union[ByteView, Path]

_MOST_NAME = 256
_MOST_TARGET = 4095  # what the kernel takes, a page with its NUL
_MOST_VALUE = 0xFFFF_FFFF
PREFIXES = {"user.": 0, "trusted.": 1, "security.": 2}


@dataclass(frozen=True)
class Put:
    """A path as it has to be. ``mode`` holds the permission bits only (0o7777), ``mtime`` whole seconds since 1970.

    A regular file takes ``content`` (a path names a file that is opened when its turn comes), or keeps the vendor's if
    that is None. A directory that the vendor has keeps its names but for those that are put or removed themselves.
    ``target`` is a symbolic link's (surrogateescape), ``rdev`` a device's st_rdev. Names of one new inode have the
    first of their paths as ``link_group``; what that path says of the inode goes for all.
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    content: Optional[Content] = None
    target: Optional[str] = None
    rdev: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    link_group: Optional[str] = None


@dataclass(frozen=True)
class Removal:
    """A path of the vendor's that goes, with all below it. Paths below may be listed, too."""

    path: str


Change = Union[Put, Removal]


class Touched:
    """A path that a merge has to look at: what happens to it, and what to look at below.

    ``relink`` is the number of the vendor's inode there when only its number of names changes.
    """

    def __init__(self) -> None:
        self.change: Optional[Change] = None
        self.relink: Optional[int] = None
        self.below: Dict[bytes, "Touched"] = {}

    def at(self, parts: Iterable[bytes]) -> "Touched":
        """The node for a path from here, made if it isn't there."""
        node = self
        for part in parts:
            node = node.below.setdefault(part, Touched())
        return node


@dataclass(frozen=True)
class Request:
    """Checked changes as a tree, and how many names every new inode with several has, by the first of them."""

    top: Touched
    links: Mapping[str, int]
    groups: Mapping[str, Put]


def read_changes(changes: Iterable[Change]) -> Request:
    """Check ``changes`` and put them in a tree.

    Raises UnsupportedError for what squashfs cannot hold, RespinError for changes that contradict each other.
    """
    top = Touched()
    links: Dict[str, int] = {}
    groups: Dict[str, Put] = {}
    for change in changes:
        node = top.at(path_parts(change.path))
        if node.change is not None:
            raise contradiction(change.path, "it is there twice")
        node.change = change
        if isinstance(change, Put):
            _check(change)
            if change.link_group is not None:
                links[change.link_group] = links.get(change.link_group, 0) + 1
                if change.link_group == change.path:
                    groups[change.path] = change
    for path in links.keys() - groups.keys():
        raise contradiction(path, "other paths are links to it, but it is not one of them")
    if isinstance(top.change, Removal) or (top.change is not None and top.change.kind is not Kind.DIRECTORY):
        raise contradiction("/", "the root stays a directory")
    _check_nesting(top)
    return Request(top, links, groups)


def path_parts(path: str) -> List[bytes]:
    """The names in an absolute path. Raises UnsupportedError for names that squashfs cannot hold."""
    if not path.startswith("/"):
        raise contradiction(path, "it is not an absolute path")
    parts = [part.encode("utf-8", "surrogateescape") for part in path[1:].split("/")] if path != "/" else []
    if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
        raise contradiction(path, "it is not a real path")
    if any(len(part) > _MOST_NAME for part in parts) or len(parts) >= LIMITS.squashfs_depth:
        raise UnsupportedError("the path is too long for squashfs", where=path, finding="squashfs-name")
    return parts


def contradiction(path: str, what: str) -> RespinError:
    """The error for changes that cannot be made."""
    return RespinError(f"the squashfs cannot be changed so: {what}", where=path)


def _check(put: Put) -> None:
    if put.mode & ~0o7777:
        raise contradiction(put.path, f"mode {put.mode:o}")
    if not 0 <= put.mtime <= _MOST_VALUE:
        raise UnsupportedError(
            f"squashfs holds times from 1970 to 2106, not {put.mtime}", where=put.path, finding="squashfs-time"
        )
    if not (0 <= put.uid < _MOST_VALUE and 0 <= put.gid < _MOST_VALUE and 0 <= put.rdev <= _MOST_VALUE):
        raise UnsupportedError(
            f"squashfs cannot hold owner {put.uid}, group {put.gid}, device {put.rdev:#x}",
            where=put.path,
            finding="squashfs-ids",
        )
    if put.kind is Kind.SYMLINK:
        target = (put.target or "").encode("utf-8", "surrogateescape")
        if not 0 < len(target) <= _MOST_TARGET or b"\0" in target:
            raise UnsupportedError(
                f"a link target of {len(target)} bytes cannot be stored", where=put.path, finding="squashfs-target"
            )
    if put.kind is Kind.DIRECTORY and put.link_group is not None:
        raise contradiction(put.path, "a directory has one name")
    for name, value in put.xattrs.items():
        _prefix, short = split_xattr(name, put.path)
        if not 0 < len(short) <= 255 or len(value) > 0xFFFF:
            raise UnsupportedError(
                f"the extended attribute {name!r} is too long for squashfs", where=put.path, finding="squashfs-xattr"
            )


def split_xattr(name: str, path: str) -> Tuple[int, bytes]:
    """An attribute's name as squashfs has it: the number of its prefix, and the rest."""
    for prefix, number in PREFIXES.items():
        if name.startswith(prefix):
            return number, name[len(prefix) :].encode("utf-8", "surrogateescape")
    raise UnsupportedError(
        f"squashfs cannot hold the extended attribute {name!r}", where=path, finding="squashfs-xattr"
    )


def _check_nesting(top: Touched) -> None:
    """Nothing is put below a path that is removed or is no directory."""
    todo: List[Tuple[Touched, Optional[str]]] = [(top, None)]
    while todo:
        node, closed = todo.pop()
        change = node.change
        if closed is not None and isinstance(change, Put):
            raise contradiction(change.path, f"{closed} is no directory")
        if isinstance(change, Removal) or (isinstance(change, Put) and change.kind is not Kind.DIRECTORY):
            closed = change.path
        todo += [(child, closed) for child in node.below.values()]
