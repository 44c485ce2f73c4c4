"""The directory hierarchy below one volume descriptor, as it is recorded: every directory, every record, every entry.

ECMA-119 section 6.8. Names and Rock Ridge's relocation are for :mod:`respin.formats.iso9660.names`.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError
from respin.formats.iso9660.descriptors import Naming, Volume
from respin.formats.iso9660.fields import SYSTEM_AREA
from respin.formats.iso9660.records import MULTI_EXTENT, PARENT, SELF, DirectoryRecord, read_directory
from respin.formats.iso9660.susp import Area, Entry, RockRidge, interpret, read_entries, skip_length
from respin.limits import LIMITS


class Node(NamedTuple):
    """A directory record with its system use entries."""

    record: DirectoryRecord
    entries: Tuple[Entry, ...] = ()
    rock_ridge: Optional[RockRidge] = None

    @property
    def identifier(self) -> bytes:
        return self.record.identifier

    @property
    def is_special(self) -> bool:
        """Whether this is "." or "..", which name no file."""
        return self.record.is_directory and self.record.identifier in (SELF, PARENT)


class Directory(NamedTuple):
    """A directory: first block, length in bytes, its records in recorded order ("." and ".." included)."""

    extent: int
    size: int
    depth: int
    nodes: Tuple[Node, ...]


class Tree(NamedTuple):
    """One hierarchy. Several descriptors may lead to it."""

    volumes: Tuple[Volume, ...]
    directories: Mapping[int, Directory]
    """By first block, root first, in the order in which they were met."""
    areas: Tuple[Area, ...]
    skip: Optional[int]
    """Bytes before the system use entries of every record (SUSP 5.3); None when the tree doesn't use SUSP."""

    @property
    def naming(self) -> Naming:
        return self.volumes[0].naming

    @property
    def base(self) -> int:
        """The block from which recorded block numbers count."""
        return self.volumes[0].base

    @property
    def root(self) -> Directory:
        return self.directories[self.volumes[0].root_extent]

    @property
    def label(self) -> str:
        """What to call the tree in a message."""
        label = self.naming.value + (" with Rock Ridge" if self.skip is not None else "")
        return f"{label} (set at block {self.base + SYSTEM_AREA})" if self.base else label

    def nodes(self) -> Iterator[Node]:
        """Every record of every directory."""
        for directory in self.directories.values():
            yield from directory.nodes


def file_groups(directory: Directory) -> Iterator[Tuple[Node, ...]]:
    """The records of each file of a directory: several for a file of several extents (6.5.1)."""
    group: List[Node] = []
    for node in directory.nodes:
        if node.record.is_directory:
            continue
        group.append(node)
        if not node.record.flags & MULTI_EXTENT:
            yield tuple(group)
            group = []
    if group:
        yield tuple(group)


def read_tree(view: ByteView, volumes: Tuple[Volume, ...]) -> Tree:
    """Read the hierarchy to which ``volumes`` (all with the same root) lead.

    Raises MalformedError for a directory that is met twice (a loop), and beyond the limits of depth and number.
    """
    root = volumes[0]
    directories: Dict[int, Directory] = {}
    areas: Dict[Area, None] = {}
    skip = None if root.naming is Naming.JOLIET else _skip(view, root)
    queue: List[Tuple[int, int, int]] = [(root.root_extent, root.root_size, 0)]
    count = 0
    for extent, size, depth in queue:
        if extent in directories:
            raise MalformedError(
                "two directory records lead to one directory: the tree has a loop",
                where=f"{view.name}, directory at block {extent}",
            )
        if depth > LIMITS.iso_depth:
            raise MalformedError(f"directories nest deeper than {LIMITS.iso_depth}", where=view.name)
        nodes = []
        for record in read_directory(view, extent, size, root.base):
            count += 1
            if count > LIMITS.iso_records:
                raise MalformedError(f"more than {LIMITS.iso_records} directory records", where=view.name)
            node = _node(view, record, skip, areas, root.base)
            nodes.append(node)
            if record.is_directory and not node.is_special:
                queue.append((record.extent, record.size, depth + 1))
        directories[extent] = Directory(extent, size, depth, tuple(nodes))
    return Tree(volumes, directories, tuple(areas), skip)


def _skip(view: ByteView, volume: Volume) -> Optional[int]:
    first = next(read_directory(view, volume.root_extent, volume.root_size, volume.base), None)
    if first is None or first.identifier != SELF:
        raise MalformedError(
            "the root directory doesn't begin with a record of itself",
            where=f"{view.name}, directory at block {volume.root_extent}",
        )
    return skip_length(first.system_use)


def _node(view: ByteView, record: DirectoryRecord, skip: Optional[int], areas: Dict[Area, None], base: int) -> Node:
    if skip is None:
        return Node(record)
    field, offset = record.system_use, record.offset + record.system_use_start
    if field[:2] != b"SP":  # the SP entry itself is never skipped over
        field, offset = field[skip:], offset + skip
    entries, found = read_entries(view, field, offset, base)
    for area in found:
        areas[area] = None
    return Node(record, entries, interpret(entries, f"{view.name}, directory record at byte {record.offset}", base))
