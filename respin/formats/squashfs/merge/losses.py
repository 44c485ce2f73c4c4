"""Which of the vendor's inodes lose names by a change, which of them go altogether, and where the others' names are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterator, List, Mapping, Optional, Set, Tuple

from respin.formats.squashfs.directory import DirectoryEntry
from respin.formats.squashfs.inode import Inode, Kind
from respin.formats.squashfs.merge.changes import Put, Removal, Touched, contradiction, path_parts
from respin.formats.squashfs.root import SquashfsRoot


@dataclass(frozen=True)
class Losses:
    """Inode numbers that nothing uses any more, and how many names those have now that lost some but not all."""

    gone: FrozenSet[int]
    relinked: Mapping[int, int]


def find_losses(root: SquashfsRoot, top: Touched) -> Losses:
    """What ``top`` takes away. The names that are left to an inode are marked in ``top``: its number of names changes.

    Raises RespinError for changes that don't fit what the vendor has.
    """
    directories: Set[int] = set()
    lost: Dict[int, Set[str]] = {}
    for path, entry in _lost(root, top):
        if entry.kind is Kind.DIRECTORY:
            directories.add(entry.number)
        else:
            lost.setdefault(entry.number, set()).add(path)
    left: Dict[int, List[str]] = {}
    if lost:
        for directory, entries in root.directories():
            for name, entry in entries.items():
                if entry.number in lost:
                    path = _join(directory, name)
                    if path not in lost[entry.number]:
                        left.setdefault(entry.number, []).append(path)
    for number, paths in left.items():
        for path in paths:
            top.at(path_parts(path)).relink = number
    gone = directories | (lost.keys() - left.keys())
    return Losses(frozenset(gone), {number: len(paths) for number, paths in left.items()})


def _lost(root: SquashfsRoot, top: Touched) -> Iterator[Tuple[str, DirectoryEntry]]:
    todo: List[Tuple[Touched, str, Optional[Inode]]] = [(top, "/", root.root)]
    while todo:
        node, directory, inode = todo.pop()
        entries = {} if inode is None else root.scan(inode)
        for name, child in node.below.items():
            path, change, entry = _join(directory, name), child.change, entries.get(name)
            stays = entry is not None and entry.kind is Kind.DIRECTORY and not isinstance(change, Removal)
            if isinstance(change, Put):
                stays = stays and change.kind is Kind.DIRECTORY
            elif entry is None or (change is None and not stays):
                raise contradiction(path, f"the vendor has no {'directory' if change is None else 'such path'} there")
            if stays:
                assert entry is not None
                todo.append((child, path, root.inode(entry.number)))
                continue
            if entry is not None:
                yield path, entry
                if entry.kind is Kind.DIRECTORY:
                    yield from _all_below(root, path)
            if isinstance(change, Put) and change.kind is Kind.DIRECTORY:
                todo.append((child, path, None))


def _all_below(root: SquashfsRoot, top: str) -> Iterator[Tuple[str, DirectoryEntry]]:
    for directory, entries in root.directories(top):
        for name, entry in entries.items():
            yield _join(directory, name), entry


def _join(directory: str, name: bytes) -> str:
    return f"{directory.rstrip('/')}/{name.decode('utf-8', 'surrogateescape')}"
