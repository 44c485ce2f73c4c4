"""Which inodes of an image changed bytes have an influence on, and all names of these, found without reading it all.

Whoever changed the image may say which paths changed. That is not believed: it only says where to look first. From the
bytes that differ it follows which inodes to account for, and if these paths do not account for all of them, it is not
known which names they have. It rests on the first image being consistent, as e2fsck(8) sees it:

- a block that is free in its bitmaps belongs to none of its inodes, and any other to one only (a block of attributes
  says how many it belongs to);
- an inode has as many names as its link count says, a directory has one.

Linux Documentation/filesystems/ext4: bitmaps.rst, inodes.rst, attributes.rst.
"""

from __future__ import annotations

import stat
import struct
from bisect import bisect_left
from typing import Dict, FrozenSet, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from respin.errors import RespinError
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ROOT
from respin.formats.ext.superblock import COMPAT, INCOMPAT, RO_COMPAT
from respin.node.numbering import Numbering
from respin.node.ranges import Ranges

# A value of an attribute in an inode of its own, or a block of several inodes: more to depend on than is looked at.
# Nobody knows what an unknown feature makes an inode depend on.
_NOT_HANDLED = frozenset(("ea_inode", "shared_blocks"))
_HANDLED = frozenset((*COMPAT.values(), *INCOMPAT.values(), *RO_COMPAT.values())) - _NOT_HANDLED
_ATTRIBUTES = struct.pack("<I", 0xEA020000)
_NO_PATHS: FrozenSet[str] = frozenset()


class Touched(NamedTuple):
    """``numbers`` of inodes that may differ, and where in the first image they are: for each directory on the way to
    one of them, by path, the names to follow.
    """

    numbers: FrozenSet[int]
    below: Mapping[str, FrozenSet[str]]


def touched(before: ExtImage, after: ExtImage, changed: Ranges, said: Iterable[str]) -> Optional[Touched]:
    """What ``changed``, in which alone the images differ, has an influence on; None if that is not sure.

    ``said`` are absolute paths at which something is said to differ; they may be anything.
    """
    numbering = Numbering(before)
    if before.superblock.dirty or before.superblock.features - _HANDLED or not numbering.holds_in(after):
        return None
    try:
        known = _numbers(before, said)
        numbers = set(_differing_slots(before, after, numbering.slots(changed)))
        owners = _owners(before, {*numbers, *known}, _blocks_in_use(before, changed))
        if owners is None:
            return None
        numbers |= owners
        paths = _all_names(before, numbers, known)
    except RespinError:
        return None  # whoever reads it all tells what is wrong
    return None if paths is None else Touched(frozenset(numbers), _ways(paths))


def in_use(image: ExtImage, number: int) -> bool:
    """Whether an inode is in use, so that a name may lead to it; MalformedError if there is no such inode."""
    slot = image.view.read(image.inode_location(number), 128)
    mode, links = struct.unpack_from("<H24xH", slot)
    return bool(mode and links)


def _numbers(image: ExtImage, paths: Iterable[str]) -> Dict[int, Set[str]]:
    """The inodes at ``paths`` and on the way there, each with those of its names that are met.

    Each directory is read once, whatever the order of the paths. A name is spelled as the directory has it: with
    surrogates, a path can spell the same name in several ways, and two spellings are not two names.
    """
    found: Dict[int, Set[str]] = {ROOT: {"/"}}
    level: List[Tuple[int, str, Iterable[str]]] = [(ROOT, "", set(paths))]
    while level:
        deeper: List[Tuple[int, str, Iterable[str]]] = []
        for number, at, paths in sorted(level, key=lambda one: one[0]):  # in the order in which they lie
            below: Dict[bytes, Set[str]] = {}
            for path in paths:
                name, _, rest = path.lstrip("/").partition("/")
                below.setdefault(_raw(name), set()).add(rest)
            inode = image.inode(number)
            entries = image.scan(inode) if below.keys() - {b""} and inode.is_directory else {}
            for entry, rests in ((entries[raw], rests) for raw, rests in below.items() if raw in entries):
                path = f"{at}/{entry.name}"
                found.setdefault(entry.inode, set()).add(path)
                deeper.append((entry.inode, path, rests))
        level = deeper
    return found


def _raw(name: str) -> bytes:
    """A name as it stands in a directory; empty, and so in none, if that cannot be."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b""


def _differing_slots(before: ExtImage, after: ExtImage, numbers: Iterable[int]) -> Iterator[int]:
    size = before.superblock.inode_size
    for number in numbers:
        at = before.inode_location(number)
        if before.view.read(at, size) != after.view.read(at, size):
            yield number


def _blocks_in_use(image: ExtImage, changed: Ranges) -> List[int]:
    """The numbers of the changed blocks, in order, that inodes of the image may depend on."""
    size = image.superblock.block_size
    metadata = Ranges((one.offset, one.offset + one.length) for one in image.metadata_ranges())
    found: List[int] = []
    for start, end in changed:
        for block in range(start // size, -(-end // size)):
            inside = image.superblock.first_data_block <= block < image.superblock.block_count
            if inside and not metadata.touch(block * size, (block + 1) * size) and image.holds_content(block):
                found.append(block)
    return found


def _owners(image: ExtImage, numbers: Iterable[int], blocks: List[int]) -> Optional[Set[int]]:
    """Those of the inodes that depend on any of ``blocks``; None if there is a block that none of them does."""
    size = image.superblock.block_size
    left, owners = set(blocks), set()
    for number in sorted(numbers) if blocks else ():
        if not in_use(image, number):
            continue
        for start, length in _depends_on(image, number):
            first = bisect_left(blocks, start // size)
            last = bisect_left(blocks, -(-(start + length) // size), first)
            if first < last:
                owners.add(number)
                left.difference_update(blocks[first:last])
    alone = all(_is_alone(image.view.read(block * size, 8)) for block in blocks)
    return owners if alone and not left else None


def _depends_on(image: ExtImage, number: int) -> Iterator[Tuple[int, int]]:
    """(byte offset, length) of all that an inode depends on outside of its slot."""
    inode = image.inode(number)
    if inode.is_file or inode.is_directory or inode.is_symlink:
        content, described = image.places(inode)
        yield from ((offset, length) for offset, length in content if offset is not None)
        yield from described
    else:
        yield from image.mapping_ranges(inode)


def _is_alone(start: bytes) -> bool:
    """Whether a block, of which this is the start, is no block of attributes that several inodes have."""
    return not start.startswith(_ATTRIBUTES) or start[4:] == b"\1\0\0\0"


def _all_names(image: ExtImage, numbers: Set[int], known: Mapping[int, Set[str]]) -> Optional[List[str]]:
    """Every path in ``image`` that leads to one of the inodes, those in use; None if one may have been missed."""
    wanted = {number for number in numbers if number == ROOT or number >= image.superblock.first_inode}
    found = {number: set(known.get(number, _NO_PATHS)) for number in wanted if in_use(image, number)}
    for number in sorted(found):
        for path in known.get(number, _NO_PATHS) if image.inode(number).is_directory else ():
            for entry in image.scan(image.inode(number)).values():
                if entry.inode in found:
                    found[entry.inode].add(f"{path.rstrip('/')}/{entry.name}")
    for number, paths in found.items():
        inode = image.inode(number)
        if len(paths) != (1 if stat.S_ISDIR(inode.mode) else inode.nlink):
            return None
    return [path for paths in found.values() for path in paths]


def _ways(paths: Iterable[str]) -> Mapping[str, FrozenSet[str]]:
    names: Dict[str, Set[str]] = {}
    for path in paths:
        while path != "/":
            above, _, name = path.rpartition("/")
            names.setdefault(above or "/", set()).add(name)
            path = above or "/"
    return {path: frozenset(found) for path, found in names.items()}
