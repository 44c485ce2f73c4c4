"""The squashfs around a nested image, byte by byte: all but changed blocks is what a splice of the vendor's makes.

How a kernel goes through tables, directories and their indexes is not for a reader of ours to say: it may find
something else there. So nothing is interpreted that could be compared.
"""

from __future__ import annotations

from typing import Iterator, Sequence, Tuple

from respin.formats.squashfs.decodable import of_file, require_decodable
from respin.formats.squashfs.image import SquashfsImage
from respin.formats.squashfs.replay import replay
from respin.formats.squashfs.sameblocks import same_blocks
from respin.node.ranges import Ranges
from respin.progress import Progress
from respin.segments import Copy, Segment
from respin.verify.differs import altered, require_same

_STEP = 1 << 20


def compare_squashfs(output: SquashfsImage, base: SquashfsImage, path: str, progress: Progress) -> Sequence[bool]:
    """Compare two root images; returns for each block of the file at ``path`` whether it is the same.

    Raises VerificationError or MalformedError for the first place where ``output`` is another than it must be.
    """
    mine, theirs = output.file(path), base.file(path)
    if mine.size < theirs.size:
        raise altered(output.view, output.superblock.inode_table, f"{path} is shorter than the vendor's")
    same = same_blocks(output, mine, base, theirs, progress)
    wanted = replay(output, base, path, same)
    if wanted.size != output.view.size:
        what = f"the root image has {output.view.size} bytes where {wanted.size} are expected"
        raise altered(output.view, min(wanted.size, output.view.size), what)
    known = Ranges(((theirs.blocks.start, theirs.blocks.end),))  # the same blocks in it are known to be the same
    offset = 0
    for segment in wanted.segments:
        for start, length in _unknown(segment, known):
            for at in range(start, start + length, _STEP):
                count = min(_STEP, start + length - at)
                require_same(output.view, offset + at, segment, at, count, base.view, "in the root image")
        offset += segment.length
    require_decodable(output, of_file(output, mine, same))
    return same


def _unknown(segment: Segment, known: Ranges) -> Iterator[Tuple[int, int]]:
    """The parts of ``segment``, as (offset in it, length), that are not copied from ``known`` places of the base."""
    if not isinstance(segment, Copy):
        yield 0, segment.length
        return
    at, end = segment.offset, segment.offset + segment.length
    for first, last in known.within(at, end):
        yield at - segment.offset, first - at
        at = last
    yield at - segment.offset, end - at
