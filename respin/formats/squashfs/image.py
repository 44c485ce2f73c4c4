"""A squashfs 4.0 image: its tree, attributes and files, read when asked for, without mounting.

A nested image (a handful of inodes around one big file) can be taken as a whole with :attr:`SquashfsImage.entries`;
a flat root with 100,000 inodes is listed lazily by :meth:`SquashfsImage.walk`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Set, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.squashfs import lookup
from respin.formats.squashfs.codec import make_codec
from respin.formats.squashfs.directory import DirectoryEntry, read_directory
from respin.formats.squashfs.inode import BlockList, Inode, Kind, Tail, read_block_list, read_inode
from respin.formats.squashfs.lookup import Fragments
from respin.formats.squashfs.metadata import Table, malformed, split_reference
from respin.formats.squashfs.nested import NestedView
from respin.formats.squashfs.options import Compressor, read_options
from respin.formats.squashfs.superblock import Superblock, read_superblock
from respin.formats.squashfs.xattr import Xattrs, read_xattr_table
from respin.limits import LIMITS, MiB

SMALL_TREE = 4096  # inodes; a nested image has about three


@dataclass(frozen=True)
class SquashfsEntry:
    """A path (absolute, surrogateescape) and its inode; for regular files see :class:`SquashfsFile`."""

    path: str
    inode: Inode

    @property
    def size(self) -> int:
        """The inode's size in bytes."""
        return self.inode.size


@dataclass(frozen=True)
class SquashfsFile(SquashfsEntry):
    """A regular file: its data blocks, and where the rest lies when that is in a fragment."""

    blocks: BlockList
    fragment: Optional[Tail]


class SquashfsImage:
    """An opened image. Make one with :meth:`open`."""

    def __init__(self, view: ByteView, superblock: Superblock) -> None:
        self.view = view
        self.superblock = superblock
        self.options = read_options(view, superblock)
        self.codec = make_codec(self.options.options)
        self.fragments = Fragments(view, self.codec, superblock, self.options.data_start)
        self.inode_table = Table(view, self.codec, superblock.inode_table, superblock.directory_table)
        self.directory_table = Table(view, self.codec, superblock.directory_table, self._directory_table_end())
        id_bytes = lookup.content(view, self.codec, superblock.id_table, superblock.id_count, 4)
        self.ids: Tuple[int, ...] = struct.unpack(f"<{superblock.id_count}I", id_bytes)
        self._xattrs: Optional[Xattrs] = None
        self._entries: Optional[Dict[str, SquashfsEntry]] = None
        self.root = self.inode(superblock.root_inode)
        if self.root.kind is not Kind.DIRECTORY:
            raise MalformedError("the root of the squashfs is not a directory", where=view.name)

    @classmethod
    def open(cls, view: ByteView) -> "SquashfsImage":
        """Read superblock, options and id table.

        Raises UnsupportedError (not squashfs 4.0, unknown compressor), MissingToolError (the compressor's Python
        module is missing) or MalformedError.
        """
        return cls(view, read_superblock(view))

    @property
    def compressor(self) -> Compressor:
        """The compression method of all blocks."""
        return self.options.compressor

    @property
    def block_size(self) -> int:
        """Bytes in a data block."""
        return self.superblock.block_size

    @property
    def is_small(self) -> bool:
        """Whether the tree has few enough inodes for :attr:`entries`; the tree of a nested image always has."""
        return self.superblock.inode_count <= SMALL_TREE

    def inode(self, reference: int) -> Inode:
        """The inode that ``reference`` (from a directory entry or the superblock) points at."""
        cursor = self.inode_table.cursor(*split_reference(reference))
        try:
            return read_inode(cursor, self.ids, self.block_size, self.superblock.inode_count, "")
        except MalformedError as error:  # the place takes longer to say than the inode to read
            error.where = error.where or self._at(reference)
            raise

    def scan(self, inode: Inode) -> List[DirectoryEntry]:
        """The entries of a directory."""
        if inode.listing is None:
            raise UnsupportedError(f"inode {inode.number} is not a directory", where=self.view.name)
        if not inode.listing.size:
            return []
        cursor = self.directory_table.cursor(inode.listing.block, inode.listing.offset)
        return read_directory(cursor, inode.listing.size, f"{self.view.name}, inode {inode.number}")

    def lookup(self, path: str) -> Optional[SquashfsEntry]:
        """The entry at ``path`` ("/LiveOS/ext3fs.img" or the same without the slash); follows no symbolic links."""
        parts = [part for part in path.split("/") if part]
        if self._entries is not None:
            return self._entries.get("/" + "/".join(parts))
        reference, inode = self.superblock.root_inode, self.root
        for part in parts:
            name = part.encode("utf-8", "surrogateescape")
            if inode.kind is not Kind.DIRECTORY:
                return None
            found = [entry for entry in self.scan(inode) if entry.name == name]
            if not found:
                return None
            reference = found[0].reference
            inode = self.inode(reference)
        return self.entry_at("/" + "/".join(parts), reference, inode)

    def stat(self, path: str) -> Inode:
        """The inode at ``path``; UnsupportedError (finding ``no-such-path``) when there is none."""
        return self._need(path).inode

    def file(self, path: str) -> SquashfsFile:
        """The regular file at ``path``."""
        entry = self._need(path)
        if not isinstance(entry, SquashfsFile):
            raise UnsupportedError(f"{entry.path} is not a regular file", where=self.view.name, finding="no-such-path")
        return entry

    def listdir(self, path: str) -> List[str]:
        """The names in the directory at ``path``, sorted by their bytes."""
        names = sorted(entry.name for entry in self.scan(self.stat(path)))
        return [name.decode("utf-8", "surrogateescape") for name in names]

    def readlink(self, path: str) -> str:
        """The target of the symbolic link at ``path``."""
        inode = self.stat(path)
        if inode.kind is not Kind.SYMLINK:
            raise UnsupportedError(f"{path} is not a symbolic link", where=self.view.name, finding="no-such-path")
        return inode.target.decode("utf-8", "surrogateescape")

    def xattrs(self, inode: Inode) -> Mapping[str, bytes]:
        """The extended attributes of an inode, by full name."""
        return {} if inode.xattr is None else self.xattr_list(inode.xattr)

    def xattr_list(self, number: int) -> Mapping[str, bytes]:
        """A list of extended attributes by the number that inodes have for it."""
        if self._xattrs is None:
            if self.superblock.xattr_table is None:
                raise MalformedError("an inode has extended attributes, the image has no table", where=self.view.name)
            self._xattrs = Xattrs(self.view, self.codec, self.superblock.xattr_table)
        return self._xattrs[number]

    def open_file(self, path: str, *, cache_size: int = 64 * MiB) -> NestedView:
        """Random access to the regular file at ``path``; keeps at most ``cache_size`` bytes of blocks in memory."""
        return self.open_entry(self.file(path), cache_size=cache_size)

    def open_entry(self, entry: SquashfsFile, *, cache_size: int = 64 * MiB, name: Optional[str] = None) -> NestedView:
        """The same for a file at hand; ``name`` is for messages."""
        fragment = self.fragments[entry.fragment.fragment] if entry.fragment else None
        return NestedView(
            self.view,
            self.codec,
            self.block_size,
            name or f"{self.view.name}:{entry.path}",
            size=entry.size,
            blocks=entry.blocks,
            tail=(fragment, entry.fragment.offset) if fragment and entry.fragment else None,
            fragments=self.fragments,
            cache_size=cache_size,
        )

    def read_file(self, path: str, limit: int = LIMITS.small_file) -> bytes:
        """The content of a regular file of at most ``limit`` bytes."""
        view = self.open_file(path, cache_size=self.block_size)
        if view.size > limit:
            raise UnsupportedError(f"the file has {view.size} bytes, more than the limit of {limit}", where=view.name)
        return view.read(0, view.size)

    def walk(self) -> Iterator[Tuple[str, Inode]]:
        """Every path and its inode, the root first, then depth first in byte order of names.

        Raises MalformedError for a directory that is reached twice, and for trees with more names than the limits
        allow.
        """
        for path, _reference, inode in self._walk():
            yield path, inode

    @property
    def entries(self) -> Mapping[str, SquashfsEntry]:
        """The whole tree by absolute path, "/" included. UnsupportedError when it isn't small (see ``is_small``)."""
        if self._entries is None:
            if not self.is_small:
                raise UnsupportedError(
                    f"the squashfs holds {self.superblock.inode_count} files and directories: a flat root, "
                    "not a nested image",
                    where=self.view.name,
                    finding="flat-squashfs",
                )
            entries: Dict[str, SquashfsEntry] = {}
            blocks = 0
            for path, reference, inode in self._walk():
                blocks += inode.block_count
                if len(entries) > 4 * SMALL_TREE or blocks * 4 > LIMITS.squashfs_table // 8:
                    raise UnsupportedError("the squashfs's tree is larger than the limit", where=self.view.name)
                entries[path] = self.entry_at(path, reference, inode)
            self._entries = entries
        return self._entries

    def _walk(self) -> Iterator[Tuple[str, int, Inode]]:
        # Names can outnumber inodes (hard links), but not without bound.
        names_left = min(8 * self.superblock.inode_count + 65536, LIMITS.squashfs_inodes)
        seen: Set[int] = set()
        stack = [iter([("/", self.superblock.root_inode, Kind.DIRECTORY)])]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                continue
            path, reference, kind = found
            inode = self.inode(reference)
            if inode.kind is not kind:
                raise MalformedError("a directory entry and its inode differ in type", where=f"{self.view.name}:{path}")
            yield path, reference, inode
            if kind is not Kind.DIRECTORY:
                continue
            if reference in seen or len(stack) > LIMITS.squashfs_depth:
                raise MalformedError(
                    "the squashfs's directories form a loop or are too deep", where=f"{self.view.name}:{path}"
                )
            seen.add(reference)
            entries = self.scan(inode)
            names_left -= len(entries)
            if names_left < 0:
                raise UnsupportedError("the squashfs's tree is larger than the limit", where=self.view.name)
            stack.append(_children(path.rstrip("/"), entries))

    def entry_at(self, path: str, reference: int, inode: Inode) -> SquashfsEntry:
        """What stands at ``reference``, which is where ``inode`` was read, with the block list of a regular file."""
        if inode.kind is not Kind.FILE:
            return SquashfsEntry(path, inode)
        cursor = self.inode_table.cursor(*split_reference(reference))
        read_inode(cursor, self.ids, self.block_size, self.superblock.inode_count, self._at(reference))
        where = f"{self.view.name}:{path}"
        blocks = read_block_list(cursor, inode, self.block_size, self.superblock.inode_table, where)
        if len(blocks) and blocks.end > blocks.start and blocks.start < self.options.data_start:
            raise MalformedError("a file's data starts before the data region", where=where)
        return SquashfsFile(path, inode, blocks, inode.tail)

    def _need(self, path: str) -> SquashfsEntry:
        entry = self.lookup(path)
        if entry is None:
            raise UnsupportedError(f"there is no {path} in the squashfs", where=self.view.name, finding="no-such-path")
        return entry

    def _directory_table_end(self) -> int:
        """The directory table ends where the next table's first metadata block begins."""
        superblock = self.superblock
        begins = list(lookup.index(self.view, superblock.id_table, superblock.id_count, 4))
        if superblock.fragment_count and superblock.fragment_table is not None:
            begins += lookup.index(self.view, superblock.fragment_table, superblock.fragment_count, 16)
        if superblock.export_table is not None:
            begins += lookup.index(self.view, superblock.export_table, superblock.inode_count, 8)
        if superblock.xattr_table is not None:
            begins.append(read_xattr_table(self.view, superblock.xattr_table).values_start)
        end = min(begins)
        if end < superblock.directory_table:
            raise malformed(self.view, superblock.directory_table, "another table begins inside the directory table")
        return end

    def _at(self, reference: int) -> str:
        offset, within = split_reference(reference)
        return f"{self.view.name}, byte {self.superblock.inode_table + offset}, byte {within} of the metadata block"


def _children(prefix: str, entries: List[DirectoryEntry]) -> Iterator[Tuple[str, int, Kind]]:
    for entry in sorted(entries):
        yield f"{prefix}/{entry.name.decode('utf-8', 'surrogateescape')}", entry.reference, entry.kind
