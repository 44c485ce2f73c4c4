"""The difference between two root images, found by reading both trees: every name, attribute and content.

This is the independent account of what a respin changed. It shares no code with the transaction, the overlay or
debugfs, and it is what the declared delta is held against. Slack that no name reaches (free blocks, old directory
entries) is outside of it. What stands in the same bytes in both images is read once or, where it is known to matter
to nothing that differs, not at all; of what differs, the kernel must see in the second image what is read here.
"""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Set, Tuple

from respin.digest import sha256_content
from respin.errors import MalformedError, VerificationError
from respin.formats.ext.directory import ExtEntry
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ExtInode
from respin.formats.ext.shown import NOTED_TYPES, Shown
from respin.formats.ext.walk import WalkGuard
from respin.node.contents import Contents
from respin.node.ranges import Ranges
from respin.node.sameness import ByIndex, ByTouch, NothingSame, Sameness, UnsureError
from respin.node.touched import touched
from respin.node.treeindex import TreeIndex
from respin.root.delta import KINDS, Attributes, Change, Delta, Entry, Kind
from respin.roottree import RootTree, TreeInode
from respin.safepath import show

# How an inode is stored: hashed directory, huge file, extents, attribute inode, inline data (ext4 on-disk i_flags).
_LAYOUT_FLAGS = 0x1000 | 0x40000 | 0x80000 | 0x200000 | 0x10000000

# Gets each path that is looked at, and what stands there in the first and in the second image (None: nothing).
Visit = Callable[[str, Optional[ExtInode], Optional[ExtInode]], None]

# Tells the SHA-256 of a regular file's content.
Digest = Callable[[Any], str]


def attributes(
    root: RootTree[Any], inode: TreeInode, *, content: bool = True, digest: Optional[Digest] = None
) -> Attributes:
    """All that an inode is; ``content=False`` leaves the digest of a regular file out, ``digest`` tells it."""
    kind = KINDS.get(stat.S_IFMT(inode.mode))
    if kind is None:
        raise MalformedError(f"inode {inode.number} is of no known kind (mode {inode.mode:o})", where=root.view.name)
    regular = kind is Kind.FILE
    return Attributes(
        kind=kind,
        mode=stat.S_IMODE(inode.mode),
        uid=inode.uid,
        gid=inode.gid,
        mtime=inode.mtime,
        size=inode.size if regular else 0,
        sha256=(digest or _digest_in(root))(inode) if regular and content else None,
        target=root.readlink(inode) if kind is Kind.SYMLINK else None,
        xattrs=dict(root.xattrs(inode)),
    )


def _digest_in(root: RootTree[Any]) -> Digest:
    return lambda inode: sha256_content(root.file_view(inode))


def link_groups(names: Iterable[List[str]]) -> Dict[str, str]:
    """What stands for all names of an inode that has several, by name; ``names`` are those of each inode."""
    several = ((min(paths), paths) for paths in names if len(paths) > 1)
    return {path: first for first, paths in several for path in paths}


def compare(before: ExtImage, after: ExtImage, changed: Ranges, index: Optional[TreeIndex] = None) -> Delta:
    """Every path that differs in any attribute or in content, as a delta from ``before`` to ``after``.

    ``changed`` are the only places where the bytes of the two images differ. With an ``index`` of ``before``, what
    none of them touches is not looked at in ``after``; the result is the same. Raises VerificationError where flags of
    inodes differ, which no delta can say.
    """
    return visit_differences(before, after, changed, _same_flags_in(after), index)


class Found(NamedTuple):
    """What differs, the numbers of all inodes of the first image that may, and the only places where bytes do."""

    delta: Delta
    numbers: FrozenSet[int]
    changed: Ranges


def compare_where_said(before: ExtImage, after: ExtImage, changed: Ranges, said: Iterable[str]) -> Optional[Found]:
    """As :func:`compare`, reading only what ``changed`` has an influence on; None if that needs more to be read.

    ``said`` are the paths that are said to differ. What they leave out is found all the same, or None is the answer.
    ``before`` has to be consistent, see :mod:`respin.node.touched`.
    """
    narrowed = changed.narrowed(before.view, after.view, before.superblock.block_size)
    found = touched(before, after, narrowed, said)
    if found is None:
        return None
    try:
        delta = _Comparison(before, after, narrowed, _same_flags_in(after), ByTouch(before, found)).run()
    except UnsureError:
        return None
    return Found(delta, found.numbers, narrowed)


def visit_differences(
    before: ExtImage, after: ExtImage, changed: Ranges, visit: Visit, index: Optional[TreeIndex] = None
) -> Delta:
    """As :func:`compare`, with ``visit`` to see to what a delta does not say: flags, devices, names of one inode.

    It gets at least the paths where the two images do not hold the same inode in the same bytes.
    """
    narrowed = changed.narrowed(before.view, after.view, before.superblock.block_size)
    sameness = NothingSame() if index is None else ByIndex(before, after, narrowed, index)
    return _Comparison(before, after, narrowed, visit, sameness).run()


def flags(inode: ExtInode) -> int:
    """Flags such as immutable and append-only (chattr(1)), without those that say how the inode is stored."""
    return inode.flags & ~_LAYOUT_FLAGS


def _same_flags_in(after: ExtImage) -> Visit:
    def require(path: str, was: Optional[ExtInode], now: Optional[ExtInode]) -> None:
        if now is not None and flags(now) != (0 if was is None else flags(was)):
            raise VerificationError(
                f"the flags of inode {now.number} ({now.flags:#x}) are not those of the vendor's or of a new file",
                where=f"{after.view.name}:{show(path)}",
                remedy="this is not the vendor's Node plus the declared plugins; do not use it",
                finding="inode-flags",
            )

    return require


class _Comparison:
    """A walk through both trees at once."""

    def __init__(self, before: ExtImage, after: ExtImage, changed: Ranges, visit: Visit, sameness: Sameness) -> None:
        self._before = before
        self._after = after
        self._changed = changed
        self._look = visit
        self._sameness = sameness
        self._guards = [WalkGuard(image.superblock, image.view.name) for image in (before, after)]
        self._shown = Shown(after)
        self._judged: Set[Tuple[int, bool]] = set()
        self._contents = Contents(before), Contents(after)
        self._found: Dict[str, Entry] = {}
        self._names: Dict[int, List[str]] = {}  # of inodes that are new or differ, by number in ``after``

    def run(self) -> Delta:
        self._visit("/", self._before.root.number, self._after.root.number, 1)
        groups = link_groups(self._names.values())
        entries = ((path, self._found[path]) for path in sorted(self._found))
        return Delta(tuple(replace(entry, link_group=groups.get(path)) for path, entry in entries))

    def _visit(self, path: str, old: Optional[int], new: Optional[int], depth: int) -> None:
        if old is not None and old == new and self._sameness.is_same(old):
            for below, number, deeper in self._sameness.below(path, old, depth, self._enter):
                self._require_type(number, None)
                self._visit(below, number, number, deeper)
            return
        if new is not None and new != old:
            self._sameness.require_new(new)
        was = None if old is None else self._before.inode(old)
        now = None if new is None else self._after.inode(new)
        theirs = self._names_in(1, path, now, depth)  # first: there are limits to it
        if now is not None:
            self._contents[1].admit(now)
            one = (now.number, old != new or not self._same_slot(now.number))
            if one not in self._judged:  # not for each of its names
                self._judged.add(one)
                self._shown.require(now, slot=one[1])
        entry = self._entry(path, was, now)
        if entry is not None:
            self._found[path] = entry
            if now is not None and not now.is_directory:
                self._names.setdefault(now.number, []).append(path)
        mine = self._names_in(0, path, was, depth)
        for name in sorted({*mine, *theirs}):
            first, second = mine.get(name), theirs.get(name)
            if second is not None:
                if first is None or first[1:] != second[1:]:
                    self._require_type(second.inode, second.file_type)
                elif not self._sameness.is_same(second.inode):
                    self._require_type(second.inode, None)
            self._visit(
                f"{path.rstrip('/')}/{name.decode('utf-8', 'surrogateescape')}",
                None if first is None else first.inode,
                None if second is None else second.inode,
                depth + 1,
            )

    def _require_type(self, number: int, noted: Optional[int]) -> None:
        """Hold the type that is noted with a name against that of the inode; None: what the first image notes, too."""
        if noted is None:
            kinds = [stat.S_IFMT(image.inode(number).mode) for image in (self._before, self._after)]
            if kinds[0] == kinds[1]:
                return
            noted = NOTED_TYPES.get(kinds[0], 0)
        self._shown.require_type(number, noted)

    def _same_slot(self, number: int) -> bool:
        places = ((image, image.inode_location(number)) for image in (self._before, self._after))
        one, other = (image.view.read(place, image.superblock.inode_size) for image, place in places)
        return one == other

    def _enter(self, path: str, number: int, size: int, depth: int, names: int) -> None:
        for guard in self._guards:
            guard.enter(path, number, size, depth)
            guard.found(names)

    def _names_in(self, which: int, path: str, inode: Optional[ExtInode], depth: int) -> Mapping[bytes, ExtEntry]:
        if inode is None or not inode.is_directory:
            return {}
        self._guards[which].enter(path, inode.number, inode.size, depth)
        entries = (self._before, self._after)[which].scan(inode)
        self._guards[which].found(len(entries))
        return entries

    def _entry(self, path: str, was: Optional[ExtInode], now: Optional[ExtInode]) -> Optional[Entry]:
        self._look(path, was, now)
        if was is None:
            assert now is not None
            return Entry(path, Change.ADDED, attributes(self._after, now, digest=self._contents[1].digest), None)
        if now is None:
            return Entry(path, Change.REMOVED, None, attributes(self._before, was, digest=self._contents[0].digest))
        pair = differ(
            self._before,
            was,
            self._after,
            now,
            lambda: _same_place(self._before, was, self._after, now, self._changed),
            (self._contents[0].digest, self._contents[1].digest),
        )
        return None if pair is None else Entry(path, Change.CHANGED, pair[1], pair[0])


def differ(
    before: RootTree[Any],
    old: TreeInode,
    after: RootTree[Any],
    new: TreeInode,
    same_place: Callable[[], bool],
    digests: Tuple[Optional[Digest], Optional[Digest]] = (None, None),
) -> Optional[Tuple[Attributes, Attributes]]:
    """The attributes of two inodes if they differ in anything, else None.

    ``same_place`` tells whether the content of two regular files is the same bytes anyway, and need not be read.
    """
    light = attributes(before, old, content=False), attributes(after, new, content=False)
    device = stat.S_ISCHR(old.mode) or stat.S_ISBLK(old.mode)
    alike = light[0] == light[1] and (not device or old.rdev == new.rdev)
    if not stat.S_ISREG(old.mode) and not stat.S_ISREG(new.mode):
        return None if alike else light
    if alike and same_place():
        return None
    full = attributes(before, old, digest=digests[0]), attributes(after, new, digest=digests[1])
    return None if full[0] == full[1] else full


def _same_place(before: ExtImage, old: ExtInode, after: ExtImage, new: ExtInode, changed: Ranges) -> bool:
    ranges = before.data_ranges(old)
    if ranges != after.data_ranges(new) or old.is_inline or new.is_inline:
        return False
    return not any(offset is not None and changed.touch(offset, offset + length) for offset, length in ranges)
