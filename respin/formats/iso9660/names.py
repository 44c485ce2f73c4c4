"""From recorded trees to paths: Rock Ridge names and relocated directories, Joliet names, plain identifiers."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from respin.errors import MalformedError
from respin.formats.iso9660.descriptors import Naming
from respin.formats.iso9660.fields import BLOCK, blocks_for
from respin.formats.iso9660.records import ASSOCIATED, MULTI_EXTENT, DirectoryRecord
from respin.formats.iso9660.tree import Directory, Node, Tree
from respin.limits import LIMITS
from respin.safepath import show


class Extent(NamedTuple):
    """A contiguous part of a file: first block and length in bytes."""

    lba: int
    size: int

    @property
    def blocks(self) -> int:
        return blocks_for(self.size)


class IsoFile(NamedTuple):
    """A regular file: absolute path, its extents in order (none for an empty file), where its records stand."""

    path: str
    extents: Tuple[Extent, ...]
    mode: Optional[int]
    """POSIX st_mode from Rock Ridge."""
    records: Tuple[DirectoryRecord, ...]
    compressed: bool
    """By zisofs."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        return sum(extent.size for extent in self.extents)

    @property
    def lba(self) -> Optional[int]:
        """First block; None for an empty file."""
        return self.extents[0].lba if self.extents else None

    @property
    def contiguous(self) -> bool:
        """Whether the extents follow each other without a gap."""
        pairs = zip(self.extents, self.extents[1:])
        return all(a.size % BLOCK == 0 and a.lba + a.blocks == b.lba for a, b in pairs)


class Listing(NamedTuple):
    """What a tree holds, by absolute path."""

    files: Mapping[str, IsoFile]
    directories: Mapping[str, Directory]
    symlinks: Mapping[str, str]
    others: Tuple[str, ...]
    """Devices, sockets and pipes."""


def node_name(tree: Tree, node: Node, where: str) -> str:
    """The name of a record in the terms of its tree; MalformedError for a name that is none."""
    identifier = node.record.identifier
    if node.rock_ridge is not None and node.rock_ridge.name is not None:
        name = node.rock_ridge.name.decode("utf-8", "surrogateescape")
    elif tree.naming is Naming.JOLIET:
        if len(identifier) % 2:
            raise MalformedError("a Joliet identifier has an odd number of bytes", where=where)
        name = _plain(identifier.decode("utf-16-be", "surrogatepass"))
    else:
        name = _plain(identifier.decode("latin-1"))
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise MalformedError(f"the name {show(name)!r} cannot be a file's name", where=where)
    return name


def list_tree(tree: Tree, image: str) -> Listing:
    """Every path of ``tree``; relocated directories appear where they belong, not where they are recorded.

    Raises MalformedError for bad or doubled names and for directories that are reached twice.
    """
    files: Dict[str, IsoFile] = {}
    directories: Dict[str, Directory] = {"/": tree.root}
    symlinks: Dict[str, str] = {}
    others: List[str] = []
    seen = {tree.root.extent}
    queue: List[Tuple[str, Directory, int]] = [("", tree.root, 0)]
    for prefix, directory, depth in queue:
        where = f"{image}, directory {show(prefix) or '/'} at block {directory.extent}"
        if depth > LIMITS.iso_depth:
            raise MalformedError(f"directories nest deeper than {LIMITS.iso_depth}", where=image)
        for path, group in _named(tree, directory, prefix, where):
            first = group[0]
            rock = first.rock_ridge
            if path in files or path in directories or path in symlinks:
                raise MalformedError(f"two records have the name {show(path)}", where=where)
            if first.record.is_directory or (rock is not None and rock.child is not None):
                extent = rock.child if rock is not None and rock.child is not None else first.record.extent
                child = tree.directories.get(extent)
                if child is None or extent in seen:
                    raise MalformedError(f"{show(path)} leads to no directory, or to one that has a place", where=where)
                seen.add(extent)
                directories[path] = child
                queue.append((path, child, depth + 1))
            elif rock is not None and rock.target is not None:
                symlinks[path] = rock.target.decode("utf-8", "surrogateescape")
            elif rock is not None and rock.mode is not None and rock.mode & 0o170000 not in (0o100000, 0):
                others.append(path)
            else:
                files[path] = _file(path, group)
    return Listing(files, directories, symlinks, tuple(others))


def _named(tree: Tree, directory: Directory, prefix: str, where: str) -> List[Tuple[str, List[Node]]]:
    """The files of a directory: path and records (several for a file of several extents, 6.5.1)."""
    found: List[Tuple[str, List[Node]]] = []
    continues = False
    for node in directory.nodes:
        if node.is_special or node.record.flags & ASSOCIATED:
            continue
        if node.rock_ridge is not None and node.rock_ridge.relocated and node.record.is_directory:
            continue
        path = f"{prefix}/{node_name(tree, node, where)}"
        if continues and found[-1][1][0].record.identifier != node.record.identifier:
            raise MalformedError(f"an extent of {show(found[-1][0])} is missing", where=where)
        if continues:
            found[-1][1].append(node)
        else:
            found.append((path, [node]))
        continues = bool(node.record.flags & MULTI_EXTENT)
    if continues:
        raise MalformedError(f"the last extent of {show(found[-1][0])} is missing", where=where)
    return found


def _file(path: str, group: List[Node]) -> IsoFile:
    rock = group[0].rock_ridge
    return IsoFile(
        path=path,
        extents=tuple(Extent(node.record.extent, node.record.size) for node in group if node.record.size),
        mode=rock.mode if rock is not None else None,
        records=tuple(node.record for node in group),
        compressed=rock is not None and rock.compressed,
    )


def _plain(identifier: str) -> str:
    """An identifier without version 1 and without the dot that ends a name that has no extension (7.5.1)."""
    name = identifier[:-2] if identifier.endswith(";1") else identifier
    return name[:-1] if name.endswith(".") and name.strip(".") else name
