"""Directories whose records change in number: their size, known before any block number, and their bytes.

Records are added for new files, and replaced where a file of several extents (ECMA-119, 6.5.1) comes or goes.
"""

from __future__ import annotations

from typing import Container, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from respin.errors import UnsupportedError
from respin.formats.iso9660.fields import BLOCK, round_up
from respin.formats.iso9660.layout import NewFile, Source, Target
from respin.formats.iso9660.newrecord import Item, NewRecord, Part, ReplacedRecord, insert, new_records, split
from respin.formats.iso9660.parents import parent_in
from respin.formats.iso9660.patches import Edit
from respin.formats.iso9660.relocate_tree import Moves, entry_edits, node_edits
from respin.formats.iso9660.tree import Directory, Node, Tree, file_groups
from respin.safepath import show


class RebuiltDirectory(NamedTuple):
    """A directory of a tree as it will be, ``size`` bytes long."""

    tree: Tree
    old: Directory
    sequence: Tuple[Item, ...]
    size: int

    def target(self) -> Optional[Target]:
        """The extent to be replaced if the directory outgrew it.

        It grows where it is: continuation areas must stay behind the records that name them, since readers that
        go through an image in one pass (libarchive) refuse others.
        """
        if self.size == self.old.size:
            return None
        name = f"directory at block {self.old.extent}"
        return Target(name, self.old.extent, self.old.size, self.size, Source.DIRECTORY)

    def encode(self, moves: Moves, placed: Mapping[str, int], where: str) -> Tuple[bytes, List[Edit]]:
        """The directory's bytes, and edits for system use entries of its records that stand elsewhere.

        ``placed`` gives the first block of each new and replaced file by its path.
        """
        records = []
        outside: List[Edit] = []
        base = self.tree.base
        for item in self.sequence:
            if isinstance(item, NewRecord):
                records.append(item.encode(_start(placed, item.file.path, item.part, base)))
                continue
            if isinstance(item, ReplacedRecord):
                node, edits = item.node, entry_edits(item.node, moves, base, where)
                raw = bytearray(item.encode(_start(placed, item.path, item.part, base)))
            else:
                node, edits = item, node_edits(item, moves, base, where)
                raw = bytearray(item.record.raw)
            for edit in edits:
                at = edit.offset - node.record.offset
                if at >= 0 and at + len(edit.data) <= len(raw):
                    raw[at : at + len(edit.data)] = edit.data
                else:
                    outside.append(edit)
            records.append(bytes(raw))
        data = _pack(records)
        return data + bytes(self.size - len(data)), outside


def plan_directories(
    trees: Sequence[Tree], add: Sequence[NewFile], targets: Sequence[Target], where: str
) -> Dict[int, RebuiltDirectory]:
    """The directories that have to be built anew, by the block of the old one.

    Raises UnsupportedError when a tree has no directory for a new file, or another idea of a replaced one.
    """
    several = {target.start: target for target in targets if target.parts > 1 or len(split(target.new_size)) > 1}
    preferred = {target.start for target in targets}
    rebuilt: Dict[int, RebuiltDirectory] = {}
    for tree in trees:
        for extent, (directory, files) in _changing(tree, add, several, where).items():
            kept = list(_with_parts(directory, several, where))
            records = new_records(tree, directory, files, preferred, where)
            rebuilt[extent] = _rebuilt(tree, directory, insert(kept, records, tree.naming))
    return rebuilt


def _changing(
    tree: Tree, add: Sequence[NewFile], several: Container[int], where: str
) -> Dict[int, Tuple[Directory, Dict[int, NewFile]]]:
    """The directories of a tree that change, by block, with the new files that each gets."""
    found: Dict[int, Tuple[Directory, Dict[int, NewFile]]] = {}
    for number, file in enumerate(add):
        directory = parent_in(tree, file, where)
        found.setdefault(directory.extent, (directory, {}))[1][number] = file
    if several:
        for directory in tree.directories.values():
            if any(group[0].record.extent in several for group in file_groups(directory)):
                found.setdefault(directory.extent, (directory, {}))
    return found


def _rebuilt(tree: Tree, directory: Directory, sequence: Sequence[Item]) -> RebuiltDirectory:
    sizes = [item.record.raw if isinstance(item, Node) else item.encode(0) for item in sequence]
    needed = round_up(len(_pack(sizes)), BLOCK)
    return RebuiltDirectory(tree, directory, tuple(sequence), max(needed, directory.size))


def _with_parts(directory: Directory, several: Mapping[int, Target], where: str) -> Iterator[Item]:
    """The records of a directory, those of replaced files of several extents as they will be."""
    groups = {id(group[0]): group for group in file_groups(directory)}
    skip = 0
    for node in directory.nodes:
        if skip:
            skip -= 1
            continue
        group = groups.get(id(node), ())
        target = several.get(node.record.extent) if group else None
        if target is None:
            yield node
            continue
        if sum(one.record.size for one in group) != target.old_size:
            raise UnsupportedError(
                "a tree of the image has another size for a file that is to be replaced",
                where=f"{where}:{show(target.name)}",
                finding="unsupported-layout",
            )
        skip = len(group) - 1
        for number, part in enumerate(split(target.new_size)):
            yield ReplacedRecord(group[min(number, skip)], target.name, part)


def _start(placed: Mapping[str, int], path: str, part: Part, base: int) -> int:
    return placed[path] + part.offset // BLOCK - base if path in placed else 0


def _pack(records: Sequence[bytes]) -> bytes:
    """Records one behind the other, none across the end of a block (ECMA-119, 6.8.1.1)."""
    out = bytearray()
    for record in records:
        if len(out) % BLOCK + len(record) > BLOCK:
            out += bytes(-len(out) % BLOCK)
        out += record
    return bytes(out)
