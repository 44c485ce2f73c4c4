"""A flat squashfs as a root: a :class:`respin.roottree.RootTree` over :class:`SquashfsImage`.

What the kernel shows must be what is read here. It takes two inodes for the same file when their numbers are equal, so
one number must have one reference and one type; it looks names up by the order of a listing and by its index, so both
must be right. Not for use from several threads at once.
"""

from __future__ import annotations

from array import array
from typing import Callable, Dict, Iterator, Mapping, Optional, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.squashfs.directory import DirectoryEntry
from respin.formats.squashfs.dirindex import check_index
from respin.formats.squashfs.image import SquashfsFile, SquashfsImage
from respin.formats.squashfs.inode import Inode, Kind
from respin.formats.squashfs.nested import NestedView
from respin.limits import LIMITS
from respin.roottree import TreeByPath

_KIND_BITS = 3


class SquashfsRoot(TreeByPath[Inode, DirectoryEntry]):
    """The tree of a flat image. Keeps eight bytes for each inode, and the directories that were read last."""

    def __init__(self, image: SquashfsImage) -> None:
        super().__init__()
        self.image, self.view, self.root = image, image.view, image.root
        self._known = array("Q", bytes(8 * (image.superblock.inode_count + 1)))  # reference and kind, by number
        self._know(image.root.number, image.superblock.root_inode, Kind.DIRECTORY)

    @classmethod
    def open(cls, view: ByteView) -> "SquashfsRoot":
        """As :meth:`SquashfsImage.open`, with the same errors."""
        return cls(SquashfsImage.open(view))

    def reference(self, number: int) -> int:
        """Where inode ``number`` lies in the inode table, as directory entries say it."""
        known = self._known[number] if 0 < number < len(self._known) else 0
        if not known:
            raise MalformedError(f"no directory that was read names inode {number}", where=self.view.name)
        return (known >> _KIND_BITS) - 1

    def inode(self, number: int) -> Inode:
        """Inode ``number``, which a directory that was scanned must name."""
        reference = self.reference(number)
        inode = self.image.inode(reference)
        if inode.number != number or inode.kind != self._known[number] & (1 << _KIND_BITS) - 1:
            raise MalformedError(
                f"a directory entry and its inode differ: {number} in one, {inode.kind.name.lower()} inode"
                f" {inode.number} in the other",
                where=self.view.name,
            )
        return inode

    def walk(self, top: str = "/", descend: Optional[Callable[[str], bool]] = None) -> Iterator[Tuple[str, Inode]]:
        """Every path below ``top`` and its inode, ``top`` first, then depth first in byte order of names.

        ``descend`` says of a directory's path whether to read it; without it every directory is read.
        Raises MalformedError when a directory is reached twice or the tree is deeper or larger than the limits.
        """
        guard = Guard(self.image)
        stack = [iter([(top, self.stat(top).number)])]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                continue
            path, number = found
            inode = self.inode(number)
            yield path, inode
            if inode.is_directory and (descend is None or descend(path)):
                entries = self._scan(inode)
                guard.enter(path, number, len(stack), len(entries))
                stack.append(_children(path.rstrip("/"), entries))

    def directories(self, top: str = "/") -> Iterator[Tuple[str, Mapping[bytes, DirectoryEntry]]]:
        """Every directory from ``top`` down and its entries, in no promised order; no other inodes are read."""
        guard = Guard(self.image)
        todo = [(top, self.stat(top).number, 1)]
        while todo:
            path, number, depth = todo.pop()
            entries = self._scan(self.inode(number))
            guard.enter(path, number, depth, len(entries))
            yield path, entries
            prefix = path.rstrip("/")
            todo += [
                (f"{prefix}/{name.decode('utf-8', 'surrogateescape')}", entry.number, depth + 1)
                for name, entry in entries.items()
                if entry.kind is Kind.DIRECTORY
            ]

    def file(self, inode: Inode, name: Optional[str] = None) -> SquashfsFile:
        """A regular file with its block list; ``name`` stands for its path."""
        path = name or f"inode {inode.number}"
        found = self.image.entry_at(path, self.reference(inode.number), inode)
        if not isinstance(found, SquashfsFile):
            raise UnsupportedError(f"inode {inode.number} is not a regular file", where=self.view.name)
        return found

    def file_view(self, inode: Inode, name: Optional[str] = None) -> NestedView:
        """Random access to the content of a regular file; ``name`` is for messages."""
        return self.image.open_entry(self.file(inode, name), cache_size=4 * self.image.block_size, name=name)

    def read(self, inode: Inode, limit: int = LIMITS.small_file) -> bytes:
        """The content of a regular file of at most ``limit`` bytes; UnsupportedError if it has more."""
        if inode.size > limit:
            raise UnsupportedError(
                f"it has {inode.size} bytes, more than the limit of {limit}",
                where=f"{self.view.name}, inode {inode.number}",
            )
        return self.file_view(inode).read(0, inode.size)

    def readlink(self, inode: Inode) -> str:
        """The target of a symbolic link."""
        if not inode.is_symlink:
            raise UnsupportedError(f"inode {inode.number} is not a symbolic link", where=self.view.name)
        if b"\0" in inode.target:
            raise MalformedError(f"the target of inode {inode.number} holds a NUL", where=self.view.name)
        return inode.target.decode("utf-8", "surrogateescape")

    def xattrs(self, inode: Inode) -> Mapping[str, bytes]:
        """The extended attributes by full name."""
        return self.image.xattrs(inode)

    def _scan(self, inode: Inode) -> Dict[bytes, DirectoryEntry]:
        if not inode.is_directory:
            where = f"{self.view.name}, inode {inode.number}"
            raise UnsupportedError("it is not a directory", where=where, finding="no-such-path")
        entries: Dict[bytes, DirectoryEntry] = {}
        known, count = self._known, len(self._known)
        last = b""
        for entry in self.image.scan(inode):
            number = entry.number
            if not 0 < number < count or known[number] != (entry.reference + 1) << _KIND_BITS | entry.kind:
                self._know(number, entry.reference, entry.kind)
            if entry.name <= last:
                raise MalformedError(
                    f"impossible squashfs directory: {entry.name!r} stands behind {last!r}, where the kernel misses it",
                    where=f"{self.view.name}, inode {inode.number}",
                )
            entries[entry.name] = entry
            last = entry.name
        if inode.index_count:
            image = self.image
            check_index(image.inode_table, image.directory_table, self.reference(inode.number), inode, image.ids)
        return entries

    def _know(self, number: int, reference: int, kind: Kind) -> None:
        new = (reference + 1) << _KIND_BITS | kind
        if not 0 < number < len(self._known) or self._known[number] not in (0, new):
            raise MalformedError(
                f"a directory entry names inode {number} of {len(self._known) - 1}"
                " at another place or of another type than an earlier one",
                where=self.view.name,
                remedy="the image is damaged; fetch it again and compare its checksum",
            )
        self._known[number] = new


class Guard:
    """Bounds what one walk may meet."""

    def __init__(self, image: SquashfsImage) -> None:
        # Names can outnumber inodes (hard links), but not without bound.
        self._names_left = min(8 * image.superblock.inode_count + 65536, LIMITS.squashfs_inodes)
        self._seen = bytearray(image.superblock.inode_count + 1)
        self._where = image.view.name

    def enter(self, path: str, number: int, depth: int, names: int) -> None:
        """Call for directory ``number`` with ``names`` names in it; ``depth`` is 1 for the top."""
        if self._seen[number] or depth > LIMITS.squashfs_depth:
            raise MalformedError(
                "the squashfs's directories form a loop or are too deep", where=f"{self._where}:{path}"
            )
        self._seen[number] = 1
        self._names_left -= names
        if self._names_left < 0:
            raise UnsupportedError("the tree has more names than the limit", where=self._where)


def _children(prefix: str, entries: Mapping[bytes, DirectoryEntry]) -> Iterator[Tuple[str, int]]:
    for name in sorted(entries):
        yield f"{prefix}/{name.decode('utf-8', 'surrogateescape')}", entries[name].number
