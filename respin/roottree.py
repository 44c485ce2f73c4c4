"""What every kind of root image can be asked: one protocol, so that nothing above the formats cares which one it reads.

Names and targets are strings with surrogate escapes for what isn't UTF-8. ``InodeT`` is the format's own inode type.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from typing import Callable, Generic, Iterator, List, Mapping, Optional, Protocol, Tuple, TypeVar

from respin.byteview import ByteView
from respin.errors import UnsupportedError
from respin.limits import LIMITS

_MOST_LINKS = 40  # what the kernel follows
_CACHED_DIRECTORIES = 64
_CACHED_NAMES = 16_384  # larger directories are read again


class TreeInode(Protocol):
    """What stat(2) tells: ``mode`` is a whole st_mode, ``rdev`` an st_rdev, ``mtime`` counts seconds since 1970."""

    @property
    def number(self) -> int:
        """The inode's number; the same for all names of one file."""

    @property
    def mode(self) -> int:
        """Type and permissions."""

    @property
    def uid(self) -> int:
        """Owner."""

    @property
    def gid(self) -> int:
        """Group."""

    @property
    def size(self) -> int:
        """Bytes of content, or of a link's target; of a directory whatever the format counts."""

    @property
    def mtime(self) -> int:
        """Time of the last change of content."""

    @property
    def nlink(self) -> int:
        """How many names it has."""

    @property
    def rdev(self) -> int:
        """A device's number."""

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""


class TreeEntry(Protocol):
    """What stands behind a name in a directory."""

    @property
    def inode(self) -> int:
        """The number of its inode, for :meth:`RootTree.inode`."""


InodeT = TypeVar("InodeT", bound=TreeInode)
EntryT = TypeVar("EntryT", bound=TreeEntry)


@dataclass(frozen=True)
class Resolved(Generic[InodeT]):
    """A path without symbolic links, and the inode there."""

    path: str
    inode: InodeT


class RootTree(Protocol[InodeT]):
    """A root file system that is read without mounting it. Not for use from several threads at once."""

    @property
    def view(self) -> ByteView:
        """The image's bytes; their name is for messages."""

    @property
    def root(self) -> InodeT:
        """The inode of the top directory."""

    def inode(self, number: int) -> InodeT:
        """The inode that an entry of a directory that was scanned names."""

    def scan(self, inode: InodeT) -> Mapping[bytes, TreeEntry]:
        """The entries of a directory by raw name, in stored order, without ``.`` and ``..``."""

    def lookup(self, path: str) -> Optional[InodeT]:
        """The inode at an absolute path, or None; no symbolic link is followed, not even on the way."""

    def stat(self, path: str) -> InodeT:
        """As :meth:`lookup`, with UnsupportedError (finding ``no-such-path``) for None."""

    def listdir(self, path: str) -> List[str]:
        """The names in the directory at ``path``, sorted by their bytes."""

    def resolve(self, path: str) -> Optional[Resolved[InodeT]]:
        """Where ``path`` leads when symbolic links are followed inside the image, or None if nowhere."""

    def walk(self, top: str = "/", descend: Optional[Callable[[str], bool]] = None) -> Iterator[Tuple[str, InodeT]]:
        """Every path below ``top`` and its inode, ``top`` first, then depth first in byte order of names.

        ``descend`` says of a directory's path whether to read it; without it every directory is read.
        Raises MalformedError when a directory is reached twice or the tree is deeper or larger than the limits.
        """

    def read(self, inode: InodeT, limit: int = LIMITS.small_file) -> bytes:
        """The content of a regular file of at most ``limit`` bytes; UnsupportedError if it has more."""

    def file_view(self, inode: InodeT, name: Optional[str] = None) -> ByteView:
        """Random access to the content of a regular file; ``name`` is for messages."""

    def readlink(self, inode: InodeT) -> str:
        """The target of a symbolic link."""

    def xattrs(self, inode: InodeT) -> Mapping[str, bytes]:
        """The extended attributes by full name."""


class TreeByPath(ABC, Generic[InodeT, EntryT]):
    """The part of a :class:`RootTree` that is the same for every format: from inodes and directories to paths.

    Keeps the directories that were read last. A format sets ``view`` and ``root``, and says how to read the rest.
    """

    view: ByteView
    root: InodeT

    def __init__(self) -> None:
        self._directories: "OrderedDict[int, Mapping[bytes, EntryT]]" = OrderedDict()

    @abstractmethod
    def inode(self, number: int) -> InodeT:
        """The inode that an entry of a directory that was scanned names."""

    @abstractmethod
    def readlink(self, inode: InodeT) -> str:
        """The target of a symbolic link."""

    @abstractmethod
    def _scan(self, inode: InodeT) -> Mapping[bytes, EntryT]:
        """:meth:`scan` from the image itself; UnsupportedError (finding ``no-such-path``) if it is no directory."""

    def named(self, entry: EntryT) -> InodeT:
        """The inode behind an entry."""
        return self.inode(entry.inode)

    def scan(self, inode: InodeT) -> Mapping[bytes, EntryT]:
        """The entries of a directory by raw name, in stored order, without ``.`` and ``..``."""
        entries = self._directories.get(inode.number)
        if entries is None:
            entries = self._scan(inode)
            if len(entries) <= _CACHED_NAMES:
                self._directories[inode.number] = entries
            if len(self._directories) > _CACHED_DIRECTORIES:
                self._directories.popitem(last=False)
        return entries

    def lookup(self, path: str) -> Optional[InodeT]:
        """The inode at an absolute path, or None; no symbolic link is followed, not even on the way."""
        inode = self.root
        for part in path.split("/"):
            if not part:
                continue
            entry = self.scan(inode).get(part.encode("utf-8", "surrogateescape")) if inode.is_directory else None
            if entry is None:
                return None
            inode = self.named(entry)
        return inode

    def stat(self, path: str) -> InodeT:
        """As :meth:`lookup`, with UnsupportedError (finding ``no-such-path``) for None."""
        inode = self.lookup(path)
        if inode is None:
            raise UnsupportedError(f"there is no {path} in the image", where=self.view.name, finding="no-such-path")
        return inode

    def listdir(self, path: str) -> List[str]:
        """The names in the directory at ``path``, sorted by their bytes."""
        return [name.decode("utf-8", "surrogateescape") for name in sorted(self.scan(self.stat(path)))]

    def resolve(self, path: str) -> Optional[Resolved[InodeT]]:
        """Where ``path`` leads when symbolic links are followed inside the image, or None if nowhere.

        Absolute targets count from the image's root, and ``..`` never leaves it. More than 40 links lead nowhere.
        """
        trail: List[Tuple[str, InodeT]] = []
        parts = path.split("/")[::-1]
        links = 0
        while parts:
            part = parts.pop()
            inode = trail[-1][1] if trail else self.root
            if part in ("", "."):
                continue
            if not inode.is_directory:
                return None
            if part == "..":
                del trail[-1:]
                continue
            entry = self.scan(inode).get(part.encode("utf-8", "surrogateescape"))
            if entry is None:
                return None
            inode = self.named(entry)
            if inode.is_symlink:
                links += 1
                target = self.readlink(inode)
                if links > _MOST_LINKS:
                    return None
                if target.startswith("/"):
                    trail.clear()
                parts += target.split("/")[::-1]
                continue
            trail.append((part, inode))
        return Resolved("/" + "/".join(name for name, _inode in trail), trail[-1][1] if trail else self.root)
