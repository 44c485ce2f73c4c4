"""Root directories with new records in them: their size, known before any block number, and their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Container, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from respin.formats.iso9660.fields import BLOCK, round_up
from respin.formats.iso9660.layout import NewFile, Source, Target
from respin.formats.iso9660.newrecord import NewRecord, insert, new_records
from respin.formats.iso9660.patches import Edit
from respin.formats.iso9660.relocate_tree import Moves, node_edits
from respin.formats.iso9660.tree import Node, Tree


@dataclass(frozen=True)
class RootDirectory:
    """The root directory of a tree as it will be, ``size`` bytes long."""

    tree: Tree
    sequence: Tuple[Union[Node, NewRecord], ...]
    size: int

    def target(self) -> Optional[Target]:
        """The extent to be replaced if the directory outgrew it.

        It grows where it is: continuation areas must stay behind the records that name them, since readers that
        go through an image in one pass (libarchive) refuse others.
        """
        old = self.tree.root
        if self.size == old.size:
            return None
        return Target(f"root directory at block {old.extent}", old.extent, old.size, self.size, Source.DIRECTORY)

    def encode(self, moves: Moves, placed: Mapping[str, int], where: str) -> Tuple[bytes, List[Edit]]:
        """The directory's bytes, and edits for system use entries of its records that stand elsewhere.

        ``placed`` gives the first block of each new file by its path.
        """
        records = []
        outside: List[Edit] = []
        for item in self.sequence:
            if isinstance(item, NewRecord):
                records.append(item.encode(placed.get(item.file.path, 0)))
                continue
            raw = bytearray(item.record.raw)
            for edit in node_edits(item, moves, where):
                at = edit.offset - item.record.offset
                if at >= 0 and at + len(edit.data) <= len(raw):
                    raw[at : at + len(edit.data)] = edit.data
                else:
                    outside.append(edit)
            records.append(bytes(raw))
        data = _pack(records)
        return data + bytes(self.size - len(data)), outside


def plan_roots(
    trees: Sequence[Tree], files: Sequence[NewFile], preferred: Container[int], where: str
) -> Dict[int, RootDirectory]:
    """The new root directory of every tree, by the block of the old one; nothing when no file is added."""
    roots = {}
    if files:
        for tree in trees:
            sequence = insert(tree.root.nodes, new_records(tree, files, preferred, where), tree.naming)
            sizes = [item.encode(0) if isinstance(item, NewRecord) else item.record.raw for item in sequence]
            needed = round_up(len(_pack(sizes)), BLOCK)
            roots[tree.root.extent] = RootDirectory(tree, tuple(sequence), max(needed, tree.root.size))
    return roots


def _pack(records: Sequence[bytes]) -> bytes:
    """Records one behind the other, none across the end of a block (ECMA-119, 6.8.1.1)."""
    out = bytearray()
    for record in records:
        if len(out) % BLOCK + len(record) > BLOCK:
            out += bytes(-len(out) % BLOCK)
        out += record
    return bytes(out)
