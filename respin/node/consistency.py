"""Is a changed ext image consistent, if the one that it was made of is?

e2fsck(8) answers that by reading the metadata of all of it. Here only the inodes that may differ are looked at, in both
images: names against link counts, blocks and inodes against bitmaps, counters and checksums. What is the same in both
was consistent before.
"""

from __future__ import annotations

import stat
from typing import Collection, Optional, Set

from respin.errors import MalformedError, RespinError
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ROOT
from respin.formats.ext.superblock import COMPAT, INCOMPAT, RO_COMPAT
from respin.node.allocation import RESIZE, Allocation
from respin.node.blockbits import metadata_bits
from respin.node.linkcounts import LinkCounts
from respin.node.ranges import Ranges
from respin.node.unreached import unreached

FINDING = "not-consistent"
# Accounts of who has how much, values of attributes in inodes of their own: more books than are looked at here.
_OTHER_BOOKS = frozenset(("quota", "project", "ea_inode", "shared_blocks"))
_KNOWN = frozenset((*COMPAT.values(), *INCOMPAT.values(), *RO_COMPAT.values())) - _OTHER_BOOKS


def require_consistent(before: ExtImage, after: ExtImage, numbers: Collection[int], changed: Ranges) -> None:
    """Raise MalformedError unless ``after`` is consistent, if ``before`` is.

    ``numbers`` are those of all inodes of ``before`` that may differ, ``changed`` exactly the blocks in which bytes do.
    """
    grown = after.superblock.block_count > before.superblock.block_count
    more = after.numbers_in_use(before.superblock.group_count) if grown else ()
    suspects = {*numbers, *more}
    problem = (
        _reserved(before, after, suspects, grown)
        or LinkCounts(before, after, suspects).problem()
        or Allocation(before, after, suspects, changed).problem()
        or unreached(before, after, suspects, changed)
    )
    if problem is not None:
        raise MalformedError(
            f"the file system is not consistent: {problem}",
            where=after.view.name,
            remedy="run e2fsck -fn on the vendor's image: it has to be clean itself; if it is, do not use this one",
            finding=FINDING,
        )


def is_all(image: ExtImage) -> bool:
    """Whether what :func:`require_consistent` looks at is all that has to be consistent in such an image."""
    return image.superblock.features <= _KNOWN


def is_even(image: ExtImage) -> bool:
    """Whether an image's inodes take as many blocks and are as many as its group descriptors say, by their tables only.

    An image whose bitmaps were lost, or are older than its inodes, does not come out even. Sure is a yes only of
    what is counted: which blocks they are is not compared.
    """
    try:
        return _is_even(image)
    except RespinError:
        return False


def _is_even(image: ExtImage) -> bool:
    superblock, groups = image.superblock, image.groups
    size, first = superblock.block_size, superblock.first_inode
    if superblock.dirty or not is_all(image):
        return False
    metadata, problem = metadata_bits(image)
    blocks = sum(bin(bits).count("1") for bits in metadata.groups.values()) + ("mmp" in superblock.features)
    inodes, directories = first - 1, 0
    attributes: Set[int] = set()
    for plain, others in image.sorted_inodes():
        inodes += sum(number >= first for number, _, _ in plain)
        blocks += sum(-(-(end - start) // size) for _, start, end in plain if start % size == 0)
        for inode in others:
            inodes += inode.number >= first
            directories += stat.S_ISDIR(inode.mode)
            if inode.number == RESIZE:
                blocks += sum(not metadata.holds(block) for block in image.allocation(inode)[1])
                continue
            blocks += inode.sectors * 512 // size - bool(inode.xattr_block)
            if inode.xattr_block:
                attributes.add(inode.xattr_block)
    found = [groups[group] for group in range(superblock.group_count)]
    held = superblock.block_count - superblock.first_data_block - sum(group.free_blocks for group in found)
    return problem is None and (blocks + len(attributes), inodes, directories) == (
        held,
        superblock.inode_count - sum(group.free_inodes for group in found),
        sum(group.directories for group in found),
    )


def _reserved(before: ExtImage, after: ExtImage, numbers: Set[int], grown: bool) -> Optional[str]:
    """Inodes that no name leads to: nothing writes to them, but growing to the one that keeps room for it."""
    size = before.superblock.inode_size
    for number in sorted(numbers):
        if number < before.superblock.first_inode and number != ROOT and not (grown and number == RESIZE):
            slots = [image.view.read(image.inode_location(number), size) for image in (before, after)]
            if slots[0] != slots[1]:
                return f"inode {number}, which belongs to the file system itself, differs"
    return None
