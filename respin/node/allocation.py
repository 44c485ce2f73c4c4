"""Do the bitmaps and counters of a changed ext image come out even with its inodes, if they do in the one before?

What the inodes took that may differ is given back, what they take now is taken; the result has to be what bitmaps,
group descriptors and superblock say, bit by bit. A kernel that writes beside the image (a live root does) allocates by
these bitmaps: a block in use that they call free is overwritten. Linux Documentation/filesystems/ext4: bitmaps.rst,
group_descr.rst, blockgroup.rst.
"""

from __future__ import annotations

import stat
import struct
from collections import Counter
from typing import Collection, Dict, Iterable, Iterator, List, Optional

from respin.formats.ext.checksums import Checksums
from respin.formats.ext.htree import INDEX_FLAG
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import BASE_SIZE, ExtInode, Slot
from respin.node.blockbits import Bits, groups_with_others, metadata_bits
from respin.node.ranges import Ranges

RESIZE = 7  # the inode whose map lists the blocks that are kept for more group descriptors
_FLAGGED = frozenset(("uninit_bg", "metadata_csum"))  # with either, descriptors count never used inodes
# i_size, i_size_high, i_obso_faddr, l_i_blocks_high
_SIZE, _SIZE_HIGH, _FRAGMENT, _SECTORS_HIGH = (4, 4), (108, 4), (112, 4), (116, 2)
_REFERENCES = 4  # h_refcount in an attribute block


class Allocation:
    """Compares ``before`` and ``after``, in which only inodes with these ``numbers`` may differ, and in ``changed``."""

    def __init__(self, before: ExtImage, after: ExtImage, numbers: Collection[int], changed: Ranges) -> None:
        self._before, self._after, self._changed = before, after, changed
        self._numbers = sorted(number for number in numbers if number != RESIZE)
        self._checksums = Checksums(after.view, after.superblock)
        self._flagged = not _FLAGGED.isdisjoint(after.superblock.features)
        self._grown = after.superblock.block_count != before.superblock.block_count
        self._given, self._taken = Bits(before), Bits(after)
        self._with_others = groups_with_others(after)
        self._by_group: Dict[int, List[int]] = {}
        for number in self._numbers:
            self._by_group.setdefault((number - 1) // after.superblock.inodes_per_group, []).append(number)

    def problem(self) -> Optional[str]:
        """What does not come out even; None if all does."""
        return self._blocks() or self._groups() or self._totals()

    def _blocks(self) -> Optional[str]:
        """Find out what is given back and taken."""
        references: List["Counter[int]"] = [Counter(), Counter()]
        for which, (image, bits) in enumerate(((self._before, self._given), (self._after, self._taken))):
            for inode in self._in_use(image):
                count = self._take(image, inode, bits)
                if which and count is None:
                    return f"a block of inode {inode.number} belongs to something else, too"
                if inode.xattr_block:
                    references[which][inode.xattr_block] += 1
                if which:
                    problem = self._judge(inode, count or 0)
                    if problem is not None:
                        return f"inode {inode.number} {problem}"
        return self._shared(*references)

    def _in_use(self, image: ExtImage) -> Iterator[ExtInode]:
        most = image.superblock.inode_count
        return (image.inode(number) for number in self._numbers if number <= most and image.slot(number).links)

    @staticmethod
    def _take(image: ExtImage, inode: ExtInode, bits: Bits) -> Optional[int]:
        """Add the blocks of an inode but its attributes; how many, None if one was there already."""
        runs, nodes = image.allocation(inode)
        places = ((run.physical if run.physical is not None else run.reserved or 0, run.count) for run in runs)
        count = 0
        alone = True
        for first, length in (*places, *((node, 1) for node in nodes)):
            alone = bits.add(first, length) and alone
            count += length
        return count if alone else None

    def _judge(self, inode: ExtInode, count: int) -> Optional[str]:
        superblock = self._after.superblock
        size = superblock.block_size
        sectors = (count + bool(inode.xattr_block)) * (size // 512)
        if sectors != inode.sectors and "ea_inode" not in superblock.features:
            return f"counts {inode.sectors} sectors instead of {sectors}"
        written = [run for run in self._after.allocation(inode)[0] if run.physical is not None]
        end = written[-1].logical + written[-1].count if written else 0
        blocks = -(-inode.size // size)
        if end > blocks or (inode.is_directory and not inode.is_inline and end != blocks):
            return f"has {end} blocks and {inode.size} bytes"
        raw = self._after.view.read(self._after.inode_location(inode.number), BASE_SIZE)
        unused = [_FRAGMENT]
        if "huge_file" not in superblock.features:
            unused.append(_SECTORS_HIGH)
        if not inode.is_file and not (inode.is_directory and "large_dir" in superblock.features):
            unused.append(_SIZE_HIGH)
        if not (inode.is_file or inode.is_directory or inode.is_symlink):
            unused.append(_SIZE)
        if any(any(raw[at : at + length]) for at, length in unused):
            return "has something where nothing is to be"
        if inode.flags & INDEX_FLAG and not inode.is_directory:
            return "has an index and is no directory"
        return "was deleted and is in use" if self._after.slot(inode.number).deleted else None

    def _shared(self, old: "Counter[int]", new: "Counter[int]") -> Optional[str]:
        """Attribute blocks: several inodes may have the same, and it says how many do."""
        for block in sorted({*old, *new}):
            others = max(0, self._references(self._before, block) - old[block]) if old[block] else 0
            if old[block] and not others:
                self._given.add(block, 1)
            if new[block] and not others and not self._taken.add(block, 1):
                return f"the attribute block {block} belongs to something else, too"
            if (new[block] or others) and self._references(self._after, block) != others + new[block]:
                return f"the attribute block {block} does not count {others + new[block]} inodes"
        return None

    @staticmethod
    def _references(image: ExtImage, block: int) -> int:
        size = image.superblock.block_size
        return int(struct.unpack("<I", image.view.read(block * size + _REFERENCES, 4))[0])

    def _groups(self) -> Optional[str]:
        old, _ = metadata_bits(self._before)
        new, problem = metadata_bits(self._after)
        for part in self._after.metadata_ranges() if not self._grown else ():
            if part.kind == "reserved-descriptors" and self._changed.touch(part.offset, part.offset + part.length):
                return "what is kept for more group descriptors differs"
        for group in range(self._after.superblock.group_count) if problem is None else ():
            numbers = self._by_group.get(group, ())
            if numbers or self._is_touched(group):
                problem = (
                    self._descriptor(group)
                    or self._block_bits(group, old[group], new[group])
                    or self._inode_bits(group, numbers)
                )
                if problem is not None:
                    return f"block group {group}: {problem}"
        return problem

    def _is_touched(self, group: int) -> bool:
        if not self._is_old(group) or self._given[group] or self._taken[group]:
            return True
        mine, size = self._after.groups[group], self._after.superblock.block_size
        places = (mine.block_bitmap * size, mine.inode_bitmap * size)
        other = mine.raw != self._before.groups[group].raw
        return other or any(self._changed.touch(at, at + size) for at in places)

    def _is_old(self, group: int) -> bool:
        return group < self._before.superblock.group_count

    def _descriptor(self, group: int) -> Optional[str]:
        found = self._after.groups[group]
        if self._is_old(group) and not self._grown:
            old = self._before.groups[group]
            places = [(one.block_bitmap, one.inode_bitmap, one.inode_table) for one in (old, found)]
            if places[0] != places[1]:
                return "its bitmaps or its inode table lie elsewhere"
        return None if self._checksums.descriptor(group, found.raw) else "the checksum of its descriptor is wrong"

    def _block_bits(self, group: int, old: int, new: int) -> Optional[str]:
        """Bitmap and count of blocks; ``old`` and ``new`` are those of metadata."""
        held = 0
        if self._is_old(group):
            blocks = len(self._before.groups.blocks_in(group))
            held = _number(self._before.groups.block_bitmap(group)) & (1 << blocks) - 1 & ~old
        if self._given[group] & ~held:
            return "the vendor's bitmap calls blocks free that inodes have"
        held &= ~self._given[group]
        if held & self._taken[group]:
            return "blocks that were somebody else's belong to a changed inode"
        held |= self._taken[group]
        if held & new:
            return "metadata lies where content does"
        found, groups = self._after.groups[group], self._after.groups
        blocks = len(groups.blocks_in(group))
        if found.no_block_bitmap:
            if held or group in self._with_others:
                return "it holds content, or metadata of other groups, and its block bitmap was never written"
        else:
            problem = self._bitmap(groups.block_bitmap(group), held | new, blocks)
            if problem is not None:
                return f"the block bitmap {problem}"
            if not self._checksums.block_bitmap(found.raw, groups.block_bitmap(group)):
                return "the checksum of the block bitmap is wrong"
        free = blocks - _ones(held | new)
        return None if found.free_blocks == free else f"it counts {found.free_blocks} free blocks instead of {free}"

    def _inode_bits(self, group: int, numbers: Iterable[int]) -> Optional[str]:
        """Bitmap and counts of inodes, of which those with these ``numbers`` may differ."""
        before, after = self._before, self._after
        count = after.superblock.inodes_per_group
        found = after.groups[group]
        held = _number(before.groups.inode_bitmap(group)) & (1 << count) - 1 if self._is_old(group) else 0
        directories = before.groups[group].directories if self._is_old(group) else 0
        for number in numbers:
            bit = 1 << (number - 1) % count
            was, now = (self._slot(image, number) for image in (before, after))
            directories += _is_directory(now) - _is_directory(was)
            if number >= after.superblock.first_inode:
                held = held | bit if now.links else held & ~bit
                if not now.links and now.mode and not now.deleted:
                    return f"inode {number} is not in use and was never deleted"
        if found.no_inode_bitmap:
            if held:
                return "inodes of it are in use, and its inode bitmap was never written"
        else:
            problem = self._bitmap(after.groups.inode_bitmap(group), held, count)
            if problem is not None:
                return f"the inode bitmap {problem}"
            if not self._checksums.inode_bitmap(found.raw, after.groups.inode_bitmap(group)):
                return "the checksum of the inode bitmap is wrong"
        if self._flagged and held.bit_length() > count - found.unused_inodes:
            return "inodes are in use of which it says that they never were"
        free = count - _ones(held)
        if found.free_inodes != free:
            return f"it counts {found.free_inodes} free inodes instead of {free}"
        if found.directories != directories:
            return f"it counts {found.directories} directories instead of {directories}"
        return None

    @staticmethod
    def _slot(image: ExtImage, number: int) -> Slot:
        return image.slot(number) if number <= image.superblock.inode_count else Slot(0, 0, 0)

    def _bitmap(self, bitmap: bytes, held: int, count: int) -> Optional[str]:
        """Compare a bitmap, of which ``count`` bits mean something, with what is held; the others have to be set."""
        found, mask = _number(bitmap), (1 << count) - 1
        if found & mask != held:
            wrong = (found & mask) ^ held
            bit = (wrong & -wrong).bit_length() - 1
            return f"says that number {bit} is {'in use' if found >> bit & 1 else 'free'}"
        return None if found >> count == (1 << 8 * len(bitmap) - count) - 1 else "is not filled up"

    def _totals(self) -> Optional[str]:
        superblock = self._after.superblock
        groups = [self._after.groups[group] for group in range(superblock.group_count)]
        for kind, counted, found in (
            ("blocks", sum(group.free_blocks for group in groups), superblock.free_blocks),
            ("inodes", sum(group.free_inodes for group in groups), superblock.free_inodes),
        ):
            if counted != found:
                return f"the superblock counts {found} free {kind}, its groups {counted}"
        return None if self._checksums.superblock() else "the checksum of the superblock is wrong"


def _number(bitmap: bytes) -> int:
    return int.from_bytes(bitmap, "little")


def _ones(bits: int) -> int:
    return bin(bits).count("1")


def _is_directory(slot: Slot) -> bool:
    return bool(slot.links) and stat.S_ISDIR(slot.mode)
