"""Whether one squashfs holds another whole: the same tables, with more behind each of them.

Then a reference means the same inode in both, and a directory that has not moved holds what it held. Two trees can be
compared by looking only at what has moved (:func:`differences`), as far as the data region is the same, too: bytes
``[data_start, data_end)``, which whoever has both images at hand compares as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, List, Mapping, Optional, Tuple

from respin.byteview import chunks
from respin.formats.squashfs import lookup
from respin.formats.squashfs.directory import DirectoryEntry
from respin.formats.squashfs.image import SquashfsImage
from respin.formats.squashfs.inode import Kind
from respin.formats.squashfs.lookup import Fragments
from respin.formats.squashfs.metadata import Table, read_metadata_block, split_reference
from respin.formats.squashfs.root import Guard, SquashfsRoot
from respin.formats.squashfs.superblock import NO_XATTRS, SIZE
from respin.formats.squashfs.xattr import ENTRY_SIZE, HEADER_SIZE, read_xattr_table

_STEP = 1 << 20

Difference = Tuple[str, Optional[DirectoryEntry], Optional[DirectoryEntry]]


@dataclass(frozen=True)
class Extension:
    """What the smaller image's places are: its data region, and where its inode table's last block begins and ends."""

    data_start: int
    data_end: int
    last_block: int
    last_length: int

    def covers(self, reference: int) -> bool:
        """Whether an inode reference leads into what both images have."""
        block, offset = split_reference(reference)
        return block < self.last_block or (block == self.last_block and offset < self.last_length)


def read_extension(before: SquashfsImage, after: SquashfsImage) -> Optional[Extension]:
    """How ``after`` extends ``before``, or None when it doesn't. Reads the tables of both, no data.

    What the superblock says of the image as a whole (times, flags, compressor) must be the same, too.

    Raises MalformedError when one of them is damaged.
    """
    mine, theirs = before.superblock, after.superblock
    end = before.options.data_start
    alike = (
        (mine.block_size, mine.mtime, mine.flags & ~NO_XATTRS)
        == (theirs.block_size, theirs.mtime, theirs.flags & ~NO_XATTRS)
        and (mine.export_table is None) == (theirs.export_table is None)
        and before.options == after.options
        and before.view.read(SIZE, end - SIZE) == after.view.read(SIZE, end - SIZE)
        and mine.inode_table <= theirs.inode_table
        and after.ids[: len(before.ids)] == before.ids
    )
    if not alike:
        return None
    inodes = _extends(before.inode_table, after.inode_table, before, after)
    directories = _extends(before.directory_table, after.directory_table, before, after)
    if inodes is None or directories is None or not _fragments(before, after) or not _xattrs(before, after):
        return None
    return Extension(end, mine.inode_table, *inodes)


def first_other_byte(before: SquashfsImage, after: SquashfsImage, extension: Extension) -> Optional[int]:
    """The first byte of the data region of ``before`` that is another one in ``after``; None: there is none."""
    start, length = extension.data_start, extension.data_end - extension.data_start
    pairs = zip(chunks(before.view, start, length, _STEP), chunks(after.view, start, length, _STEP))
    for number, (one, other) in enumerate(pairs):
        if one != other:
            return start + number * _STEP + next(at for at, (a, b) in enumerate(zip(one, other)) if a != b)
    return None


def differences(before: SquashfsRoot, after: SquashfsRoot, extension: Extension) -> Iterator[Difference]:
    """Every path whose inode is not the same in both, with the entry in each (None: no such name), sorted by bytes.

    The root is not among them; a directory that has moved is, whether anything of it changed or only something below.
    """
    guards = Guard(before.image), Guard(after.image)
    stack = [_pairs("", before, after, extension, (before.root.number, after.root.number), guards, 1)]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        path, old, new = found
        yield found
        first, second = (None if e is None or e.kind is not Kind.DIRECTORY else e.number for e in (old, new))
        if first is not None or second is not None:
            stack.append(_pairs(path, before, after, extension, (first, second), guards, len(stack) + 1))


def _pairs(
    prefix: str,
    before: SquashfsRoot,
    after: SquashfsRoot,
    extension: Extension,
    numbers: Tuple[Optional[int], Optional[int]],
    guards: Tuple[Guard, Guard],
    depth: int,
) -> Iterator[Difference]:
    listings: List[Mapping[bytes, DirectoryEntry]] = []
    for root, number, guard in zip((before, after), numbers, guards):
        entries: Mapping[bytes, DirectoryEntry] = {} if number is None else root.scan(root.inode(number))
        if number is not None:
            guard.enter(prefix, number, depth, len(entries))
        listings.append(entries)
    mine, theirs = listings
    for name in sorted(mine.keys() | theirs.keys()):
        first, second = mine.get(name), theirs.get(name)
        if first is None or first != second or not extension.covers(first.reference):
            yield f"{prefix}/{name.decode('utf-8', 'surrogateescape')}", first, second


def _extends(mine: Table, theirs: Table, before: SquashfsImage, after: SquashfsImage) -> Optional[Tuple[int, int]]:
    """Where the last block of ``mine`` begins in it and its content's length, if ``theirs`` begins with the same."""
    if mine.start == mine.end:
        return 0, 0
    last = mine.last_block()
    if theirs.end - theirs.start <= last - mine.start:
        return None
    pairs = zip(
        chunks(before.view, mine.start, last - mine.start, _STEP),
        chunks(after.view, theirs.start, last - mine.start, _STEP),
    )
    if any(one != other for one, other in pairs):
        return None
    content = read_metadata_block(before.view, before.codec, last, mine.end).content
    other = read_metadata_block(after.view, after.codec, theirs.start + last - mine.start, theirs.end).content
    return (last - mine.start, len(content)) if other.startswith(content) else None


def _fragments(before: SquashfsImage, after: SquashfsImage) -> bool:
    if len(before.fragments) > len(after.fragments):
        return False
    entries: List[bytes] = []
    for image in (before, after):
        start, count = image.superblock.fragment_table, len(image.fragments)
        if not len(before.fragments) or start is None:
            return True
        entries.append(lookup.content(image.view, image.codec, start, count, Fragments.ENTRY_SIZE))
    return entries[1].startswith(entries[0])


def _xattrs(before: SquashfsImage, after: SquashfsImage) -> bool:
    starts = [image.superblock.xattr_table for image in (before, after)]
    if starts[0] is None:
        return True
    if starts[1] is None:
        return False
    entries: List[bytes] = []
    values: List[Table] = []
    for image, start in zip((before, after), starts):
        assert start is not None
        table = read_xattr_table(image.view, start)
        if not table.count:
            return not entries
        entries.append(lookup.content(image.view, image.codec, start + HEADER_SIZE, table.count, ENTRY_SIZE))
        values.append(Table(image.view, image.codec, table.values_start, table.id_blocks[0]))
    return entries[1].startswith(entries[0]) and _extends(values[0], values[1], before, after) is not None
