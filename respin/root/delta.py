"""The typed difference between the vendor's root and the changed one; what policy judges and what is applied.

Paths are real paths inside the root: absolute, no symbolic link above the last part. Text comes from file names
as ``os.fsdecode`` gives it (bytes that are not UTF-8 are surrogates). Times are whole seconds since 1970.
"""

from __future__ import annotations

import base64
import stat
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from respin.errors import MalformedError


class Change(str, Enum):
    """What happened to a path."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Kind(str, Enum):
    """The type of a file (inode(7))."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    CHARACTER = "character-device"
    BLOCK = "block-device"
    FIFO = "fifo"
    SOCKET = "socket"


# By the type bits of st_mode.
KINDS: Mapping[int, Kind] = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}


@dataclass(frozen=True)
class Attributes:
    """All that a path is. ``mode`` holds the permission bits only (0o7777).

    ``size`` and ``sha256`` are those of a regular file, ``target`` is a symbolic link's. ``xattrs`` never holds the
    overlay's own, and what comes from the sandbox no label (``security.selinux``); ``security.capability`` is in the
    form without a root id (VFS_CAP_REVISION_2).
    """

    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    sha256: Optional[str] = None
    target: Optional[str] = None
    xattrs: Mapping[str, bytes] = field(default_factory=dict)

    def same(self, other: "Attributes") -> bool:
        """Equality but for the time, which a copy-up or a mere touch changes."""
        return all(getattr(self, f.name) == getattr(other, f.name) for f in fields(self) if f.name != "mtime")

    def to_json(self) -> Dict[str, Any]:
        """As plain data; extended attributes in base64."""
        document: Dict[str, Any] = {
            "kind": self.kind.value,
            "mode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
            "mtime": self.mtime,
        }
        if self.kind is Kind.FILE:
            document["size"] = self.size
            document["sha256"] = self.sha256
        if self.target is not None:
            document["target"] = self.target
        if self.xattrs:
            document["xattrs"] = {
                name: base64.b64encode(value).decode("ascii") for name, value in sorted(self.xattrs.items())
            }
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Attributes":
        """The reverse of :meth:`to_json`; MalformedError for anything else."""
        try:
            return cls(
                kind=Kind(document["kind"]),
                mode=int(document["mode"]),
                uid=int(document["uid"]),
                gid=int(document["gid"]),
                mtime=int(document["mtime"]),
                size=int(document.get("size", 0)),
                sha256=document.get("sha256"),
                target=document.get("target"),
                xattrs={n: base64.b64decode(v, validate=True) for n, v in document.get("xattrs", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MalformedError("a delta's attributes are not well formed") from error


@dataclass(frozen=True)
class Entry:
    """One path that differs. ``new`` is None when it was removed, ``old`` (the vendor's) when it was added.

    ``link_group`` is the first path of those that are names of the same new inode; None for a file of one name.
    """

    path: str
    change: Change
    new: Optional[Attributes] = None
    old: Optional[Attributes] = None
    link_group: Optional[str] = None

    @property
    def kind(self) -> Kind:
        """The type of the path now, or what was removed."""
        attributes = self.new or self.old
        assert attributes is not None
        return attributes.kind

    def __post_init__(self) -> None:
        present = (self.new is not None, self.old is not None)
        if present != {Change.ADDED: (True, False), Change.CHANGED: (True, True)}.get(self.change, (False, True)):
            raise MalformedError("a delta's entry is not well formed", where=self.path)

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        document: Dict[str, Any] = {"path": self.path, "change": self.change.value}
        if self.new is not None:
            document["new"] = self.new.to_json()
        if self.old is not None:
            document["old"] = self.old.to_json()
        if self.link_group is not None:
            document["link-group"] = self.link_group
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Entry":
        """The reverse of :meth:`to_json`."""
        try:
            return cls(
                path=str(document["path"]),
                change=Change(document["change"]),
                new=Attributes.from_json(document["new"]) if "new" in document else None,
                old=Attributes.from_json(document["old"]) if "old" in document else None,
                link_group=document.get("link-group"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedError("a delta's entry is not well formed") from error


@dataclass(frozen=True)
class Delta:
    """All entries, sorted by path."""

    entries: Tuple[Entry, ...]

    def __post_init__(self) -> None:
        paths = [entry.path for entry in self.entries]
        if paths != sorted(set(paths)):
            raise MalformedError("a delta's entries must be sorted by path, each path once")

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def added(self) -> Tuple[Entry, ...]:
        """The entries that the vendor's root doesn't have."""
        return self._of(Change.ADDED)

    @property
    def changed(self) -> Tuple[Entry, ...]:
        """The entries whose content or attributes differ from the vendor's."""
        return self._of(Change.CHANGED)

    @property
    def removed(self) -> Tuple[Entry, ...]:
        """The vendor's entries that are gone."""
        return self._of(Change.REMOVED)

    def _of(self, change: Change) -> Tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.change is change)

    def get(self, path: str) -> Optional[Entry]:
        """The entry for ``path``, if it differs."""
        return next((entry for entry in self.entries if entry.path == path), None)

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {"entries": [entry.to_json() for entry in self.entries]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Delta":
        """The reverse of :meth:`to_json`; MalformedError for anything else."""
        entries = document.get("entries")
        if not isinstance(entries, list):
            raise MalformedError("a delta has no list of entries")
        return cls(tuple(Entry.from_json(entry) for entry in entries))
