"""An ext2, ext3 or ext4 image as a tree, read without mounting it.

Names are strings with surrogate escapes for what isn't UTF-8. Not for use from several threads at once.
"""

from __future__ import annotations

from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.ext.content import DataRange, ExtFileView
from respin.formats.ext.directory import ExtEntry, inline_areas, parse_directory, parse_dots
from respin.formats.ext.groups import Groups, MetadataRange
from respin.formats.ext.inode import ROOT, ExtInode, Slot
from respin.formats.ext.inodes import Inodes
from respin.formats.ext.mapping import Run
from respin.formats.ext.plain import PlainInode
from respin.formats.ext.superblock import ExtSuperblock, read_superblock
from respin.formats.ext.walk import WalkGuard
from respin.limits import LIMITS, MiB
from respin.roottree import TreeByPath

_STEP = MiB


class ExtImage(TreeByPath[ExtInode, ExtEntry]):
    """An opened image. Make one with :meth:`open`."""

    def __init__(self, view: ByteView, superblock: ExtSuperblock) -> None:
        super().__init__()
        self.view = view
        self.superblock = superblock
        self._inodes = Inodes(view, superblock)
        self.root = self.inode(ROOT)
        if not self.root.is_directory:
            raise MalformedError("the root of the ext file system is not a directory", where=view.name)

    @classmethod
    def open(cls, view: ByteView) -> "ExtImage":
        """Read the superblock and the root inode.

        Raises UnsupportedError (not ext, features that are not handled) or MalformedError. A file system that isn't
        clean opens, too: see ``superblock.dirty``.
        """
        return cls(view, read_superblock(view))

    def inode(self, number: int) -> ExtInode:
        """Inode ``number``, which must be in use."""
        inode = self._inodes.read(number)
        if not inode.nlink or not inode.mode:
            raise MalformedError(f"inode {number} has a name but is not in use", where=self.view.name)
        return inode

    def walk(self, top: str = "/", descend: Optional[Callable[[str], bool]] = None) -> Iterator[Tuple[str, ExtInode]]:
        """Every path below ``top`` and its inode, ``top`` first, then depth first in byte order of names.

        ``descend`` says of a directory's path whether to read it; without it every directory is read.
        Raises MalformedError when a directory is reached twice or the tree is deeper or larger than the limits.
        """
        guard = WalkGuard(self.superblock, self.view.name)
        stack = [iter([(top, self.stat(top).number)])]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                continue
            path, number = found
            inode = self.inode(number)
            yield path, inode
            if not inode.is_directory or (descend is not None and not descend(path)):
                continue
            guard.enter(path, number, inode.size, len(stack))
            entries = self._scan(inode)
            guard.found(len(entries))
            stack.append(_children(path.rstrip("/"), entries))

    def used_inodes(self) -> Iterator[List[ExtInode]]:
        """All inodes in use, reachable or not, in the order of the inode tables, some at a time.

        Those that :meth:`inode` would refuse are left out.
        """
        return self._inodes.used()

    def sorted_inodes(self) -> Iterator[Tuple[List[PlainInode], List[ExtInode]]]:
        """The same, with those whose content lies in one piece told from the others: (number, first byte, end)."""
        return self._inodes.sorted()

    def read(self, inode: ExtInode, limit: int = LIMITS.small_file) -> bytes:
        """The content of a regular file of at most ``limit`` bytes; UnsupportedError if it has more."""
        return self._inodes.read_content(inode, limit)

    def file_view(self, inode: ExtInode, name: Optional[str] = None) -> ExtFileView:
        """Random access to the content of a regular file; ``name`` is for messages."""
        return self._inodes.file_view(inode, name)

    def readlink(self, inode: ExtInode) -> str:
        """The target of a symbolic link."""
        return self._inodes.link_target(inode).decode("utf-8", "surrogateescape")

    def xattrs(self, inode: ExtInode) -> Mapping[str, bytes]:
        """The extended attributes by full name; POSIX ACLs as getxattr(2) gives them."""
        return self._inodes.xattrs(inode)

    def data_ranges(self, inode: ExtInode) -> Sequence[DataRange]:
        """Where the content lies in the image, in file order; an offset of None stands for zeros."""
        return self._inodes.data_ranges(inode)

    def places(self, inode: ExtInode) -> Tuple[Sequence[DataRange], Sequence[Tuple[int, int]]]:
        """:meth:`data_ranges`, and (byte offset, length) of the blocks that had to be read to know them, and of the
        attribute block: with the slot, all that an inode's content and attributes depend on unless values of
        attributes lie in other inodes (feature ea_inode).
        """
        return self._inodes.places(inode)

    def map_blocks(self, inode: ExtInode) -> Sequence[int]:
        """The byte offsets of the first blocks that :meth:`data_ranges` will read, as far as the slot tells."""
        return self._inodes.map_blocks(inode)

    def inode_table(self, group: int) -> int:
        """The byte where the inode table of a block group begins."""
        return self._inodes.groups[group].inode_table * self.superblock.block_size

    def mapping_ranges(self, inode: ExtInode) -> Sequence[Tuple[int, int]]:
        """(byte offset, length) of the blocks that describe an inode outside its slot: block map, attributes."""
        return self._inodes.mapping_ranges(inode)

    @property
    def groups(self) -> Groups:
        """The block groups."""
        return self._inodes.groups

    def allocation(self, inode: ExtInode) -> Tuple[Sequence[Run], Sequence[int]]:
        """All that an inode takes but its attribute block: runs of content, also of what is unwritten or lies beyond
        its end, and the numbers of the blocks that its map takes.
        """
        return self._inodes.allocation(inode)

    def dots(self, inode: ExtInode) -> Tuple[int, int]:
        """The inode numbers that a directory names as itself and as the directory above."""
        where = f"{self.view.name}, directory inode {inode.number}"
        if inode.is_inline:
            return inode.number, int.from_bytes(inode.block_area[:4], "little")
        block = next(iter(self._blocks(inode, where)), b"")
        return parse_dots(block, where, has_file_type="filetype" in self.superblock.features)

    def slot(self, number: int) -> Slot:
        """What the slot of inode ``number`` says of whether it is in use; MalformedError if there is none."""
        return self._inodes.slot(number)

    def numbers_in_use(self, first_group: int = 0) -> Iterator[int]:
        """The numbers of all inodes, from a block group on, with a link count, reachable or not, sound or not."""
        return self._inodes.in_use(first_group)

    def inode_location(self, number: int) -> int:
        """The byte where inode ``number`` lies; it takes ``superblock.inode_size`` bytes."""
        return self._inodes.location(number)

    def holds_content(self, block: int) -> bool:
        """Whether the bitmaps say that a block is in use; of :meth:`metadata_ranges` they may say no, too."""
        return self._inodes.groups.holds_content(block)

    def metadata_ranges(self) -> Iterator[MetadataRange]:
        """Where superblocks, group descriptors, bitmaps and inode tables lie."""
        return self._inodes.groups.ranges()

    def _scan(self, inode: ExtInode) -> Dict[bytes, ExtEntry]:
        where = f"{self.view.name}, directory inode {inode.number}"
        if not inode.is_directory:
            raise UnsupportedError("it is not a directory", where=where, finding="no-such-path")
        if inode.size > LIMITS.ext_directory:
            raise UnsupportedError(f"the directory has {inode.size} bytes, more than the limit", where=where)
        return parse_directory(
            self._inline(inode) if inode.is_inline else self._blocks(inode, where),
            inode_count=self.superblock.inode_count,
            first_inode=self.superblock.first_inode,
            has_file_type="filetype" in self.superblock.features,
            where=where,
        )

    def _inline(self, inode: ExtInode) -> Sequence[bytes]:
        content = self._inodes.read_content(inode)
        return inline_areas(content[:60], content[60:], inode.size)

    def _blocks(self, inode: ExtInode, where: str) -> Iterator[bytes]:
        size = self.superblock.block_size
        if inode.size % size:
            raise MalformedError(f"impossible ext directory: it has {inode.size} bytes", where=where)
        for offset, length in self._inodes.data_ranges(inode):
            if offset is None:
                continue  # a hole holds no names
            for at in range(offset, offset + length, _STEP):
                piece = self.view.read(at, min(_STEP, offset + length - at))
                for block in range(0, len(piece), size):
                    yield piece[block : block + size]


def _children(prefix: str, entries: Mapping[bytes, ExtEntry]) -> Iterator[Tuple[str, int]]:
    for name in sorted(entries):
        entry = entries[name]
        yield f"{prefix}/{entry.name}", entry.inode
