"""Writes the inodes and directories that a change touches, up to the root; all others stay where they are.

A directory's listing says where its inodes are. One that is written anew lies at a new place, so the listing of the
directory that names it is written anew, and so on up. Numbers stay; new inodes take those that became free first.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Set, Tuple

from respin.formats.squashfs.image import SquashfsFile
from respin.formats.squashfs.inode import Inode, Kind
from respin.formats.squashfs.lookup import SIZE_MASK
from respin.formats.squashfs.merge.changes import Put, Removal, Request, Touched, contradiction
from respin.formats.squashfs.merge.content import ContentWriter
from respin.formats.squashfs.merge.grown import GrownTable
from respin.formats.squashfs.merge.losses import Losses
from respin.formats.squashfs.merge.owners import Ids, XattrLists
from respin.formats.squashfs.merge.records import (
    Owner,
    StoredFile,
    Target,
    directory_inode,
    file_inode,
    other_inode,
    write_listing,
)
from respin.formats.squashfs.root import SquashfsRoot
from respin.formats.squashfs.superblock import ABSENT, UNCOMPRESSED_INODES


@dataclass
class TreeCounters:
    """Inodes that were written, and how many of these are directories."""

    inodes: int = 0
    directories: int = 0


class TreeWriter:
    """Writes what ``request`` touches into tables behind the vendor's."""

    def __init__(self, root: SquashfsRoot, request: Request, losses: Losses, content: ContentWriter) -> None:
        image = root.image
        self.counters = TreeCounters()
        store = bool(image.superblock.flags & UNCOMPRESSED_INODES)
        self.inodes = GrownTable(image.codec, image.inode_table, store=store)
        self.directories = GrownTable(image.codec, image.directory_table, store=store)
        self.ids = Ids(image)
        self.xattrs = XattrLists(image)
        self._root = root
        self._request = request
        self._losses = losses
        self._content = content
        self._free = sorted(losses.gone, reverse=True)
        self._count = image.superblock.inode_count
        self._placed: Dict[int, int] = {}  # number -> reference
        self._linked: Dict[str, Target] = {}
        self._relinked: Dict[int, Target] = {}
        self._kept_content: Set[int] = set()

    def write(self) -> int:
        """Write everything; the reference of the root."""
        root = self._root.root
        return self._directory(self._request.top, "/", root, root.number, None).reference

    @property
    def inode_count(self) -> int:
        """The highest number of an inode."""
        return self._count

    def exports(self) -> Tuple[Mapping[int, bytes], bytes]:
        """The export table's entries that change, by index, and those that come behind the vendor's."""
        vendor = self._root.image.superblock.inode_count
        edits = {number - 1: struct.pack("<Q", at) for number, at in self._placed.items() if number <= vendor}
        edits.update((number - 1, struct.pack("<Q", ABSENT)) for number in self._free)
        return edits, b"".join(struct.pack("<Q", self._placed[n]) for n in range(vendor + 1, self._count + 1))

    def bytes_left(self) -> int:
        """Stored bytes of blocks whose file is gone or has other content now."""
        size = 0
        for number in self._losses.gone - self._kept_content:
            inode = self._root.inode(number)
            if inode.is_file:
                size += sum(field & SIZE_MASK for field in self._root.file(inode).blocks.sizes)
        return size

    def _directory(
        self, node: Touched, path: str, vendor: Optional[Inode], number: int, parent: Optional[int]
    ) -> Target:
        """Write a directory and what is touched in it; ``vendor`` is the vendor's directory there."""
        entries: Dict[bytes, Target] = {}
        if vendor is not None:
            known = self._root.scan(vendor)
            entries = {name: Target(entry.reference, entry.number, entry.kind) for name, entry in known.items()}
        for name in sorted(node.below):
            new = self._child(node.below[name], path, name, entries.get(name), number)
            if new is None:
                del entries[name]
            else:
                entries[name] = new
        listing = write_listing(self.directories, entries, path)
        if isinstance(node.change, Put):
            owner = self._owner(node.change, number)
        else:
            assert vendor is not None
            owner = self._same_owner(vendor)
        self.counters.directories += 1
        # The root's parent is no inode: as mksquashfs does, it gets the number behind the last one.
        above = self._count + 1 if parent is None else parent
        return self._written(directory_inode(owner, listing, above), number, Kind.DIRECTORY)

    def _child(
        self, node: Touched, directory: str, name: bytes, old: Optional[Target], parent: int
    ) -> Optional[Target]:
        """What a name stands for now; None when it is removed."""
        path = f"{directory.rstrip('/')}/{name.decode('utf-8', 'surrogateescape')}"
        change = node.change
        if node.relink is not None:
            return self._relink(node.relink)
        if isinstance(change, Removal):
            return None
        if change is None or change.kind is Kind.DIRECTORY:
            if old is not None and old.kind is Kind.DIRECTORY:
                return self._directory(node, path, self._root.inode(old.number), old.number, parent)
            return self._directory(node, path, None, self._number(), parent)
        if change.link_group is None:
            return self._put(change, 1, None if old is None else self._root.inode(old.number))
        if change.link_group not in self._linked:
            first = self._request.groups[change.link_group]
            vendor = self._root.lookup(first.path)
            self._linked[change.link_group] = self._put(first, self._request.links[change.link_group], vendor)
        return self._linked[change.link_group]

    def _put(self, put: Put, nlink: int, vendor: Optional[Inode]) -> Target:
        """Write a new inode; ``vendor`` is what the vendor has at its path."""
        number = self._number()
        owner = self._owner(put, number)
        if put.kind is Kind.FILE:
            record = file_inode(owner, self._file(put, vendor), nlink)
        else:
            target = (put.target or "").encode("utf-8", "surrogateescape") if put.kind is Kind.SYMLINK else b""
            record = other_inode(owner, put.kind, nlink, target=target, rdev=put.rdev)
        return self._written(record, number, put.kind)

    def _file(self, put: Put, vendor: Optional[Inode]) -> StoredFile:
        file = self._root.file(vendor, put.path) if vendor is not None and vendor.is_file else None
        if put.content is None:
            if vendor is None or file is None:
                raise contradiction(put.path, "it has no content, and the vendor has no regular file there")
            self._kept_content.add(vendor.number)
            return _stored(file)
        stored = self._content.add(put.content, file)
        if vendor is not None and file is not None and file.blocks.sizes and stored.start == file.blocks.start:
            self._kept_content.add(vendor.number)
        return stored

    def _relink(self, number: int) -> Target:
        """The vendor's inode with another number of names."""
        if number not in self._relinked:
            inode = self._root.inode(number)
            owner, nlink = self._same_owner(inode), self._losses.relinked[number]
            if inode.kind is Kind.FILE:
                record = file_inode(owner, _stored(self._root.file(inode)), nlink)
            else:
                record = other_inode(owner, inode.kind, nlink, target=inode.target, rdev=inode.rdev)
            self._relinked[number] = self._written(record, number, inode.kind)
        return self._relinked[number]

    def _owner(self, put: Put, number: int) -> Owner:
        uid, gid = self.ids.index(put.uid), self.ids.index(put.gid)
        return Owner(put.mode, uid, gid, put.mtime, number, self.xattrs.index(put.xattrs, put.path))

    def _same_owner(self, inode: Inode) -> Owner:
        uid, gid = self.ids.index(inode.uid), self.ids.index(inode.gid)
        return Owner(inode.mode & 0o7777, uid, gid, inode.mtime, inode.number, inode.xattr)

    def _written(self, record: bytes, number: int, kind: Kind) -> Target:
        block, offset = self.inodes.place
        self.inodes.append(record)
        self.counters.inodes += 1
        self._placed[number] = block << 16 | offset
        return Target(block << 16 | offset, number, kind)

    def _number(self) -> int:
        if self._free:
            return self._free.pop()
        self._count += 1
        return self._count


def _stored(file: SquashfsFile) -> StoredFile:
    """The vendor's content as it is."""
    sizes = array("I", file.blocks.sizes)
    return StoredFile(file.size, file.inode.start, sizes, file.fragment, file.inode.sparse)
