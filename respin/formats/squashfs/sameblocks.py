"""Which blocks of a file are stored as the same bytes in two squashfs images: nothing is decompressed to find out."""

from __future__ import annotations

from typing import List, Sequence

from respin.byteview import ByteView, same_bytes
from respin.formats.squashfs.image import SquashfsFile, SquashfsImage
from respin.formats.squashfs.inode import BlockList
from respin.progress import Progress

STEP = 1 << 20


def same_blocks(
    output: SquashfsImage, entry: SquashfsFile, base: SquashfsImage, other: SquashfsFile, progress: Progress
) -> List[bool]:
    """For each block of ``entry`` in ``output`` whether ``other`` in ``base`` stores it as the same bytes."""
    same: List[bool] = []
    mine, theirs = entry.blocks, other.blocks
    common = min(len(mine), len(theirs))
    with progress.step(f"comparing the compressed blocks of {entry.path}", common) as step:
        while len(same) < common:
            first = end = len(same)
            while (
                end < common and mine.sizes[end] == theirs.sizes[end] and mine.offsets[end] - mine.offsets[first] < STEP
            ):
                end += 1
            if end == first:
                same.append(False)
            else:
                same += _same_run(output.view, mine, base.view, theirs, first, end)
            step.advance(len(same) - first)
    total = -(-entry.size // output.block_size)
    if entry.fragment is not None and len(same) == total - 1:
        new, old = output.open_file(entry.path), base.open_file(other.path)
        same.append(new.block(total - 1) == old.block(total - 1))
    return same + [False] * (total - len(same))


def _same_run(
    output: ByteView, mine: BlockList, base: ByteView, theirs: BlockList, first: int, end: int
) -> Sequence[bool]:
    """The same for blocks of equal stored sizes, which lie one behind the other in both images."""
    start, other = mine.offsets[first], theirs.offsets[first]
    length = mine[end - 1].offset + mine[end - 1].stored_size - start
    if same_bytes(output, start, base, other, length):
        return [True] * (end - first)
    new, old = output.read(start, length), base.read(other, length)
    places = [(block.offset - start, block.offset - start + block.stored_size) for block in mine[first:end]]
    return [new[at:to] == old[at:to] for at, to in places]
