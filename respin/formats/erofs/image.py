"""An erofs image as a tree, read without mounting it: a :class:`respin.roottree.RootTree`.

Names are strings with surrogate escapes for what isn't UTF-8. Not for use from several threads at once.
"""

from __future__ import annotations

import stat
from typing import Callable, Dict, Iterator, Mapping, Optional, Set, Tuple, Union

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.erofs.content import CACHE, CompressedView, PlainView
from respin.formats.erofs.directory import ErofsEntry, parse_directory
from respin.formats.erofs.inode import ErofsInode, Layout, read_inode
from respin.formats.erofs.superblock import ErofsSuperblock, malformed, read_superblock
from respin.formats.erofs.xattr import LongPrefixes, read_prefixes, read_xattrs
from respin.limits import LIMITS, MiB
from respin.roottree import TreeByPath

_PACKED_CACHE = 16 * MiB
_MOST_TARGET = 4096
_KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFLNK)

Content = Union[PlainView, CompressedView]


class ErofsImage(TreeByPath[ErofsInode, ErofsEntry]):
    """An opened image. Make one with :meth:`open`."""

    def __init__(self, view: ByteView, superblock: ErofsSuperblock) -> None:
        super().__init__()
        self.view = view
        self.superblock = superblock
        self._packed: Optional[ByteView] = None
        self._prefixes: Optional[LongPrefixes] = None
        self.root = self.inode(superblock.root)
        if not self.root.is_directory:
            raise malformed(view, "the root is not a directory")

    @classmethod
    def open(cls, view: ByteView) -> "ErofsImage":
        """Read the superblock and the root inode.

        Raises UnsupportedError (not erofs, features that are not handled) or MalformedError.
        """
        return cls(view, read_superblock(view))

    @property
    def compression(self) -> str:
        """The algorithms that compressed files may use, or "uncompressed"."""
        # Every image of a mkfs.erofs that can compress announces lz4 and zero padding, whether a file uses it or not.
        return "+".join(self.superblock.algorithms) or "uncompressed"

    def inode(self, number: int) -> ErofsInode:
        """Inode ``number``; the number says where it lies."""
        return read_inode(self.view, self.superblock, number)

    def named(self, entry: ErofsEntry) -> ErofsInode:
        """The inode behind an entry, which must be of the type that the entry says."""
        inode = self.inode(entry.inode)
        if not 1 <= entry.kind <= len(_KINDS) or stat.S_IFMT(inode.mode) != _KINDS[entry.kind - 1]:
            raise malformed(
                self.view, f"inode {entry.inode} has the mode {inode.mode:o}, its name says type {entry.kind}"
            )
        return inode

    def walk(self, top: str = "/", descend: Optional[Callable[[str], bool]] = None) -> Iterator[Tuple[str, ErofsInode]]:
        """Every path below ``top`` and its inode, ``top`` first, then depth first in byte order of names.

        ``descend`` says of a directory's path whether to read it; without it every directory is read.
        Raises MalformedError when a directory is reached twice or the tree is deeper or larger than the limits.
        """
        # Names can outnumber inodes (hard links), but not without bound.
        names_left = min(8 * self.superblock.inode_count + 65536, LIMITS.erofs_inodes)
        seen: Set[int] = set()
        stack = [iter([(top, self.stat(top))])]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                continue
            path, inode = found
            yield path, inode
            if not inode.is_directory or (descend is not None and not descend(path)):
                continue
            if inode.number in seen or len(stack) > LIMITS.erofs_depth:
                raise MalformedError(
                    "the directories of the erofs image form a loop or are too deep", where=f"{self.view.name}:{path}"
                )
            seen.add(inode.number)
            entries = self.scan(inode)
            names_left -= len(entries)
            if names_left < 0:
                raise UnsupportedError("the tree has more names than the limit", where=self.view.name)
            stack.append(self._children(path.rstrip("/"), entries))

    def read(self, inode: ErofsInode, limit: int = LIMITS.small_file) -> bytes:
        """The content of a regular file of at most ``limit`` bytes; UnsupportedError if it has more."""
        if inode.size > limit:
            raise UnsupportedError(
                f"it has {inode.size} bytes, more than the limit of {limit}",
                where=f"{self.view.name}, inode {inode.number}",
            )
        return self.file_view(inode).read(0, inode.size)

    def file_view(self, inode: ErofsInode, name: Optional[str] = None, cache_size: int = CACHE) -> ByteView:
        """Random access to the content of a regular file; ``name`` is for messages, ``cache_size`` in bytes."""
        if not inode.is_file:
            raise UnsupportedError(f"inode {inode.number} is not a regular file", where=self.view.name)
        return self._content(inode, name, cache_size)

    def readlink(self, inode: ErofsInode) -> str:
        """The target of a symbolic link."""
        if not inode.is_symlink:
            raise UnsupportedError(f"inode {inode.number} is not a symbolic link", where=self.view.name)
        if not 0 < inode.size <= _MOST_TARGET:
            raise malformed(self.view, f"the target of inode {inode.number} has {inode.size} bytes")
        target = self._content(inode).read(0, inode.size)
        if b"\0" in target:
            raise malformed(self.view, f"the target of inode {inode.number} holds a NUL")
        return target.decode("utf-8", "surrogateescape")

    def xattrs(self, inode: ErofsInode) -> Mapping[str, bytes]:
        """The extended attributes by full name."""
        if self._prefixes is None:
            count, at = self.superblock.prefixes
            holder = self._packed_view() if count and self.superblock.prefixes_packed else self.view
            self._prefixes = read_prefixes(holder, count, at)
        return read_xattrs(self.view, self.superblock, inode, self._prefixes)

    def _scan(self, inode: ErofsInode) -> Dict[bytes, ErofsEntry]:
        where = f"{self.view.name}, directory inode {inode.number}"
        if not inode.is_directory:
            raise UnsupportedError("it is not a directory", where=where, finding="no-such-path")
        if inode.size > LIMITS.erofs_directory:
            raise UnsupportedError(f"the directory has {inode.size} bytes, more than the limit", where=where)
        return parse_directory(self._content(inode).read(0, inode.size), self.superblock.block_size, where)

    def _children(self, prefix: str, entries: Mapping[bytes, ErofsEntry]) -> Iterator[Tuple[str, ErofsInode]]:
        for name in sorted(entries):
            yield f"{prefix}/{name.decode('utf-8', 'surrogateescape')}", self.named(entries[name])

    def _content(self, inode: ErofsInode, name: Optional[str] = None, cache_size: int = CACHE) -> Content:
        name = name or f"{self.view.name}, inode {inode.number}"
        if inode.layout in (Layout.COMPRESSED_FULL, Layout.COMPRESSED_COMPACT):
            return CompressedView(self.view, self.superblock, inode, name, self._packed_view, cache_size)
        return PlainView(self.view, self.superblock, inode, name)

    def _packed_view(self) -> ByteView:
        """The content of the packed inode, which holds the fragments of others, and none of its own."""
        if self._packed is None:
            if not self.superblock.packed:
                raise malformed(self.view, "a fragment, but no packed inode")
            inode = self.inode(self.superblock.packed)
            if not inode.is_file:
                raise malformed(self.view, "the packed inode is not a file")
            content = self._content(inode, cache_size=_PACKED_CACHE)
            if isinstance(content, CompressedView) and content.is_fragmented:
                raise malformed(self.view, "the packed inode holds fragments of itself")
            self._packed = content
        return self._packed
