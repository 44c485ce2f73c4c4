"""What must hold before debugfs touches an image: that it can write it, and that everything fits.

debugfs finds out in the middle that there is no room, and says so at most in passing. The need is computed as an upper
bound: mapping blocks as for the worst fragmentation, one block for extended attributes without room in their inode, one
more block for each directory that gets names.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from dataclasses import dataclass

from respin.errors import BuildError, UnsupportedError
from respin.formats.ext import ExtImage
from respin.root.delta import Kind
from respin.root.entries import Plan, Target

_FAST_SYMLINK = 59  # longest target that lies in the inode
_USED_OF_INODE = 128 + 32 + 8  # fields, further fields, begin and end of the attributes


@dataclass(frozen=True)
class Need:
    """Blocks and inodes."""

    blocks: int
    inodes: int


def require_writable(image: ExtImage, name: str) -> None:
    """UnsupportedError unless the image was unmounted cleanly and has no feature that nobody here knows."""
    superblock = image.superblock
    if superblock.dirty:
        raise UnsupportedError(
            f"the root image is not clean: {'; '.join(superblock.problems)}",
            where=name,
            remedy="ask the vendor for a clean image",
            finding="dirty-root",
        )
    unknown = sorted(feature for feature in superblock.features if "compat-" in feature)
    if unknown:
        raise UnsupportedError(
            f"the root image's file system has features that are not known: {', '.join(unknown)}",
            where=name,
            remedy="it may be newer than this version of respin, which could not keep them intact",
            finding="ext-features",
        )


@dataclass(frozen=True)
class Space:
    """What is needed at most, and what there is."""

    need: Need
    room: Need

    @property
    def enough(self) -> bool:
        """Whether everything fits."""
        return self.need.blocks <= self.room.blocks and self.need.inodes <= self.room.inodes


def space_for(plan: Plan, image: ExtImage) -> Space:
    """What ``plan`` needs at most, and what the image has when the plan's removals are done."""
    superblock = image.superblock
    size = superblock.block_size
    freed = _freed(plan, image, size)
    inline = 0 if "inline_data" in superblock.features else superblock.inode_size - _USED_OF_INODE
    blocks = sum(_target_blocks(target, size, inline) for target in plan.targets) + _directory_blocks(plan, size)
    inodes = sum(1 for target in plan.targets if target.make)
    room = Need(superblock.free_blocks + freed.blocks, superblock.free_inodes + freed.inodes)
    return Space(Need(blocks, inodes), room)


def no_space(space: Space, block_size: int, name: str, why: str) -> BuildError:
    """The refusal with the numbers; ``why`` the image is not made larger."""
    lacks = [
        f"{there} free {what}, the plugins need up to {wanted}"
        for what, wanted, there in (
            (f"blocks of {block_size} bytes", space.need.blocks, space.room.blocks),
            ("inodes", space.need.inodes, space.room.inodes),
        )
        if wanted > there
    ]
    return BuildError(
        f"the root image has {' and '.join(lacks)}; {why}",
        where=name,
        remedy="leave out a plugin, or ask for a Node with a larger root image",
        finding="no-space-in-root",
    )


def _freed(plan: Plan, image: ExtImage, size: int) -> Need:
    blocks = inodes = 0
    for removal in plan.removals:
        inode = image.lookup(removal.path)
        if inode is None or (removal.kind is not Kind.DIRECTORY and inode.nlink > 1):
            continue
        inodes += 1
        blocks += inode.sectors * 512 // size
    return Need(blocks, inodes)


def _target_blocks(target: Target, size: int, inline: int) -> int:
    """``inline``: bytes for extended attributes in the inode itself."""
    blocks = 1 if _attribute_bytes(target) > max(inline, 0) else 0
    if not target.make:
        return blocks
    kind = target.attributes.kind
    if kind is Kind.DIRECTORY:
        return blocks + 1
    if kind is Kind.SYMLINK:
        long = len(os.fsencode(target.attributes.target or "")) > _FAST_SYMLINK
        return blocks + (1 if long else 0)
    if kind is Kind.FILE and target.source is not None:
        status = os.stat(target.source)
        content = min(-(-status.st_size // size), -(-status.st_blocks * 512 // size))
        return blocks + content + (content // (size // 12 - 1) + 3 if content > 4 else 0)
    return blocks


def _attribute_bytes(target: Target) -> int:
    """An entry takes 16 bytes, its name without the prefix, and its value, the last two rounded up to 4."""
    return sum(
        16 + (len(name.partition(".")[2]) + 3 & ~3) + (len(value) + 3 & ~3)
        for name, value in target.attributes.xattrs.items()
    )


def _directory_blocks(plan: Plan, size: int) -> int:
    """Names that are added, by directory: a directory entry takes 8 bytes and the name, rounded up to 4."""
    added: "Counter[str]" = Counter()
    for target in plan.targets:
        if target.make:
            for path in (target.path, *target.links):
                added[posixpath.dirname(path)] += 8 + len(os.fsencode(posixpath.basename(path))) + 3
    return sum(1 + count * 2 // size + 1 for count in added.values())
