"""The difference between two roots of any kind: the paths to look at in pairs, and what differs there.

A flat root that extends another one (:mod:`respin.formats.squashfs.extension`) is looked at only where it does; any
other two roots are read in full.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from respin.formats.squashfs.extension import Extension, differences
from respin.formats.squashfs.root import SquashfsRoot
from respin.node.treediff import attributes, differ, link_groups
from respin.root.delta import Change, Delta, Entry
from respin.roottree import RootTree, TreeInode

Pair = Tuple[str, Optional[Any], Optional[Any]]
Visit = Callable[[str, Optional[Any], Optional[Any]], None]


def all_pairs(before: RootTree[Any], after: RootTree[Any]) -> Iterator[Pair]:
    """Every path of either root with the inode in each; both trees are read in full."""
    walks = before.walk("/"), after.walk("/")
    old, new = next(walks[0], None), next(walks[1], None)
    while old is not None or new is not None:
        first = _order(old)
        second = _order(new)
        path = (old if first <= second else new)[0]  # type: ignore[index]
        yield path, old[1] if old and first <= second else None, new[1] if new and second <= first else None
        if first <= second:
            old = next(walks[0], None)
        if second <= first:
            new = next(walks[1], None)


def pairs_of_extension(before: SquashfsRoot, after: SquashfsRoot, extension: Extension) -> Iterator[Pair]:
    """The paths at which ``after`` may differ from what it extends, the root first, if the data of both is the same.

    Raises MalformedError when a number stands for several inodes anywhere in ``after``: the kernel takes these for one.
    """
    for _path, _entries in after.directories():
        pass  # the reader itself compares what all of them say of one number
    yield "/", before.root, after.root
    for path, old, new in differences(before, after, extension):
        yield path, None if old is None else before.inode(old.number), None if new is None else after.inode(new.number)


def delta_of(
    before: RootTree[Any], after: RootTree[Any], pairs: Iterable[Pair], visit: Optional[Visit] = None
) -> Delta:
    """What differs at ``pairs`` as a delta; ``visit`` gets each of them, too."""
    found: Dict[str, Entry] = {}
    names: Dict[int, List[str]] = {}  # of inodes that are new or differ, by number in ``after``
    for path, was, now in pairs:
        if visit is not None:
            visit(path, was, now)
        entry = _entry(path, before, was, after, now)
        if entry is not None:
            found[path] = entry
            if now is not None and not now.is_directory:
                names.setdefault(now.number, []).append(path)
    groups = link_groups(names.values())
    return Delta(tuple(replace(found[path], link_group=groups.get(path)) for path in sorted(found)))


def visit_all(before: RootTree[Any], after: RootTree[Any], visit: Visit) -> Delta:
    """What differs between two roots that need have nothing in common; ``visit`` gets every path of either."""
    return delta_of(before, after, all_pairs(before, after), visit)


def _order(found: Optional[Tuple[str, TreeInode]]) -> Tuple[bool, List[bytes]]:
    """The order of a walk; the end comes behind everything."""
    if found is None:
        return True, []
    return False, [part.encode("utf-8", "surrogateescape") for part in found[0].split("/") if part]


def _entry(
    path: str, before: RootTree[Any], was: Optional[Any], after: RootTree[Any], now: Optional[Any]
) -> Optional[Entry]:
    if was is None:
        assert now is not None
        return Entry(path, Change.ADDED, attributes(after, now), None)
    if now is None:
        return Entry(path, Change.REMOVED, None, attributes(before, was))
    pair = differ(before, was, after, now, lambda: False)
    return None if pair is None else Entry(path, Change.CHANGED, pair[1], pair[0])
