"""The files of two roots, by every attribute: the delta that verification uses, and what a delta does not say."""

from __future__ import annotations

import os
import stat
from typing import Any, Dict, List, Mapping, Optional, Tuple

from respin.diff.model import Difference, Section
from respin.formats.ext.inode import ExtInode
from respin.formats.squashfs.extension import first_other_byte, read_extension
from respin.formats.squashfs.sameblocks import same_blocks
from respin.node.image import ReadableNode
from respin.node.ranges import Ranges
from respin.node.rootimage import FlatRoot, NestedRoot
from respin.node.treediff import attributes, flags, visit_differences
from respin.node.treeindex import TreeIndex
from respin.node.treepairs import delta_of, pairs_of_extension, visit_all
from respin.progress import Progress
from respin.root.delta import Delta
from respin.roottree import RootTree, TreeInode

# Facts that Attributes has no place for, by path: of the first image and of the second.
_More = Dict[str, Tuple[Optional[Mapping[str, Any]], Optional[Mapping[str, Any]]]]


def compare_roots(old: ReadableNode, new: ReadableNode, progress: Progress) -> Section:
    """Every path of the root that differs in type, attributes, content or other names of the same file."""
    visitor = _Visitor(old.root, new.root)
    first, second = old.image, new.image
    if isinstance(first, NestedRoot) and isinstance(second, NestedRoot):
        delta = _compare_nested(first, second, visitor, progress)
    elif isinstance(first, FlatRoot) and isinstance(second, FlatRoot):
        delta = _compare_flat(first, second, visitor, progress)
    else:
        with progress.step("comparing the two roots"):
            delta = visit_all(old.root, new.root, visitor.visit)
    return Section("files", visitor.differences(delta))


def _compare_nested(old: NestedRoot, new: NestedRoot, visitor: "_Visitor", progress: Progress) -> Delta:
    changed = _changed_ranges(old, new, progress)
    with progress.step("comparing the two roots"):
        if changed is None:
            return visit_all(old.tree, new.tree, visitor.visit)
        return visit_differences(old.tree, new.tree, changed, visitor.visit, TreeIndex(old.tree))


def _compare_flat(old: FlatRoot, new: FlatRoot, visitor: "_Visitor", progress: Progress) -> Delta:
    with progress.step("comparing the two roots"):
        extension = read_extension(old.squashfs, new.squashfs)
        if extension is None or first_other_byte(old.squashfs, new.squashfs, extension) is not None:
            return visit_all(old.tree, new.tree, visitor.visit)
        return delta_of(old.tree, new.tree, pairs_of_extension(old.tree, new.tree, extension), visitor.visit)


def _changed_ranges(old: NestedRoot, new: NestedRoot, progress: Progress) -> Optional[Ranges]:
    """Where the bytes of the two root images may differ; None when they have little in common."""
    mine, theirs = old.nested, new.nested
    if mine.size > theirs.size or (mine.block_size, old.squashfs.superblock.compressor) != (
        theirs.block_size,
        new.squashfs.superblock.compressor,
    ):
        return None
    same = same_blocks(new.squashfs, new.file, old.squashfs, old.file, progress)
    del same[mine.blocks_total :]  # what a grown image has more
    if 2 * sum(same) < len(same):
        return None
    return Ranges.of_blocks((number for number, alike in enumerate(same) if not alike), mine.block_size, mine.size)


class _Visitor:
    """Collects what a delta leaves out: inode flags, device numbers, parts of a second, other names of a file."""

    def __init__(self, old: RootTree[Any], new: RootTree[Any]) -> None:
        self._images = (old, new)
        self._more: _More = {}
        self._numbers: Tuple[Dict[str, int], Dict[str, int]] = ({}, {})  # of inodes with several names
        self._names: Tuple[Dict[int, List[str]], Dict[int, List[str]]] = ({}, {})
        self._expected: Tuple[Dict[int, int], Dict[int, int]] = ({}, {})

    def visit(self, path: str, was: Optional[TreeInode], now: Optional[TreeInode]) -> None:
        facts = None if was is None else _more(was), None if now is None else _more(now)
        if facts[0] != facts[1]:
            self._more[path] = facts
        for which, inode in enumerate((was, now)):
            if inode is not None and inode.nlink > 1 and not inode.is_directory:
                self._numbers[which][path] = inode.number
                self._names[which].setdefault(inode.number, []).append(path)
                self._expected[which][inode.number] = inode.nlink

    def differences(self, delta: Delta) -> Tuple[Difference, ...]:
        """The delta and what was collected, as one list sorted by path."""
        entries = {entry.path: entry for entry in delta.entries}
        links = self._links(0), self._links(1)
        found = []
        for path in sorted({*entries, *self._more, *links[0], *links[1]}):
            entry = entries.get(path)
            sides: List[Optional[Dict[str, Any]]] = []
            for which, image in enumerate(self._images):
                if entry is not None:
                    known = (entry.old, entry.new)[which]
                    facts = None if known is None else known.to_json()
                else:
                    inode = image.lookup(path)
                    facts = None if inode is None else attributes(image, inode, content=False).to_json()
                    if facts is not None:
                        facts.pop("sha256", None)
                if facts is not None:
                    more = self._more.get(path, (None, None))[which]
                    facts.update({**(more or {}), **links[which].get(path, {})})
                sides.append(facts)
            if sides[0] != sides[1]:
                found.append(Difference(path, sides[0], sides[1]))
        return tuple(found)

    def _links(self, which: int) -> Dict[str, Dict[str, Any]]:
        """For each path that was met and shares its inode: the first and the number of the names of that inode."""
        names = self._names[which]
        if any(len(names[number]) < expected for number, expected in self._expected[which].items()):
            names = self._all_names(which)
        return {
            path: {"hard_link": {"first": min(names[number]), "names": len(names[number])}}
            for path, number in self._numbers[which].items()
        }

    def _all_names(self, which: int) -> Dict[int, List[str]]:
        found: Dict[int, List[str]] = {}
        for path, inode in self._images[which].walk("/"):
            if inode.nlink > 1 and not inode.is_directory:
                found.setdefault(inode.number, []).append(path)
        return found


def _more(inode: TreeInode) -> Mapping[str, Any]:
    facts: Dict[str, Any] = {}
    if stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
        facts["device"] = [os.major(inode.rdev), os.minor(inode.rdev)]
    if isinstance(inode, ExtInode) and flags(inode):
        facts["flags"] = flags(inode)
    if isinstance(inode, ExtInode) and inode.mtime_nsec:
        facts["mtime_nsec"] = inode.mtime_nsec
    return facts
