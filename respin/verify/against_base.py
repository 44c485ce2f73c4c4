"""The stock check: every byte outside the declared changes is the vendor's, shown with the vendor's ISO at hand.

The splice is planned again from the vendor's ISO and the sizes found in the output; what that plan says must stand at
each offset is compared with what does. Inside the root image, unchanged compressed blocks are compared byte by byte,
and of both trees everything is read that blocks which differ could have an influence on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from respin.formats import mediacheck
from respin.formats.iso9660.layout import NewFile, Place
from respin.formats.iso9660.plan import plan_splice
from respin.medium.edit import NOTHING, MediumEdit, overlaid
from respin.node.image import NodeImage
from respin.node.ranges import Ranges
from respin.node.rootdiff import difference
from respin.node.rootimage import FlatRoot, NestedRoot
from respin.progress import Progress
from respin.provenance.layout import (
    EVIDENCE,
    MEDIA_CHECK_OFFSET,
    MEDIA_CHECK_SIZE,
    RESTORE,
    SLOT,
    SLOT_SIZE,
    STATEMENT,
)
from respin.root.delta import Delta
from respin.root.growth import Growth
from respin.segments import Segment, Zeros
from respin.verify.differs import altered, require_same
from respin.verify.flat import compare_flat
from respin.verify.squashfs import compare_squashfs
from respin.verify.statement import extent
from respin.verify.superblock import require_same_hidden_files, require_same_superblock

STEP = 1 << 20


@dataclass(frozen=True)
class Comparison:
    """What the comparison with the vendor's ISO found; ``root_same`` says what of the root image is the vendor's.

    ``growth`` tells how much larger the image in it is than the vendor's, None if it is not.
    """

    delta: Delta
    bytes_compared: int
    root_same: str
    growth: Optional[Growth] = None


def new_files(sizes: Mapping[str, int]) -> Tuple[NewFile, ...]:
    """The files that a respin adds to the ISO, in the order in which they are laid out: by ``sizes``, and a slot."""
    ends = [NewFile(f"/{name}", sizes[name], Place.END) for name in (EVIDENCE, RESTORE, STATEMENT) if name in sizes]
    return (*ends, NewFile(f"/{SLOT}", SLOT_SIZE, Place.UNCHECKED))


def compare_with_base(
    output: NodeImage,
    base: NodeImage,
    progress: Progress,
    said: Iterable[str] = (),
    even: Optional[bool] = None,
    edit: MediumEdit = NOTHING,
) -> Comparison:
    """Compare a respun Node with its vendor's; VerificationError names the first byte or path that differs.

    ``edit`` is what must have changed on the medium besides the root image. ``said`` are the paths of the root that
    the statement says to differ; they only spare reading. ``even`` is what is known of the vendor's root
    (:func:`respin.node.consistency.is_even`), if anything.
    """
    compared = _compare_iso(output, base, edit, progress)
    mine, theirs = output.image, base.image
    growth: Optional[Growth] = None
    if isinstance(mine, NestedRoot) and isinstance(theirs, NestedRoot):
        said, delta = _compare_nested(mine, theirs, progress, said, even)
        if mine.inner_size != theirs.inner_size:
            growth = Growth(theirs.inner_size, mine.inner_size)
    elif isinstance(mine, FlatRoot) and isinstance(theirs, FlatRoot):
        size, delta = compare_flat(mine, theirs, progress)
        said = f"{size} bytes of data in the root image"
    else:
        raise altered(output.squashfs.view, 0, "the squashfs holds the root in another way than the vendor's")
    return Comparison(delta, compared, said, growth)


def _compare_nested(
    output: NestedRoot, base: NestedRoot, progress: Progress, said: Iterable[str], even: Optional[bool]
) -> Tuple[str, Delta]:
    same = compare_squashfs(output.squashfs, base.squashfs, output.inner_path, progress)
    require_same_superblock(output, base)
    differing = (number for number, alike in enumerate(same) if not alike)
    changed = Ranges.of_blocks(differing, base.nested.block_size, base.nested.size)
    require_same_hidden_files(output.tree, base.tree, changed)
    delta = difference(base.tree, output.tree, changed, said, progress, even)
    return f"{sum(same)} of {len(same)} blocks of the root image", delta


def _compare_iso(output: NodeImage, base: NodeImage, edit: MediumEdit, progress: Progress) -> int:
    names = [name for name in (EVIDENCE, RESTORE, STATEMENT) if f"/{name}" in output.iso.files]
    sizes = {name: extent(output.iso, name)[1] for name in names}
    replaced = output.squashfs_path
    size = output.iso.file_view(replaced).size
    plan = plan_splice(base.iso, {replaced: size, **edit.sizes}, new_files(sizes))
    view = output.iso.view
    if plan.size != view.size:
        raise altered(view, min(plan.size, view.size), f"it has {view.size} bytes where {plan.size} are expected")
    if (mediacheck.read(view) is None) != (mediacheck.read(base.iso.view) is None):
        raise altered(view, MEDIA_CHECK_OFFSET, "the media check was taken out, or put in where the vendor has none")
    # Without a media check the field is the vendor's like any other byte.
    field = [(MEDIA_CHECK_OFFSET, MEDIA_CHECK_SIZE)] if mediacheck.read(base.iso.view) is not None else []
    free = sorted([*(place for path, place in plan.files.items() if path not in edit.files), *field])
    content: Dict[str, Sequence[Segment]] = {path: [Zeros(length)] for path, (_, length) in plan.files.items()}
    content.update(edit.files)
    position = compared = 0
    with progress.step("comparing every byte with the vendor's ISO", plan.size) as step:
        for segment in overlaid(plan.segments(content), edit.patches):
            for start in range(0, segment.length, STEP):
                length = min(STEP, segment.length - start)
                for part, count in _outside(position, length, free):
                    require_same(view, part, segment, start + part - position, count, base.iso.view)
                    compared += count
                position += length
                step.advance(length)
    return compared


def _outside(start: int, length: int, free: Sequence[Tuple[int, int]]) -> List[Tuple[int, int]]:
    """The parts of a range that lie in none of the ``free`` ranges (sorted), as (offset, length)."""
    parts = []
    end = start + length
    for offset, size in free:
        if offset + size <= start or offset >= end:
            continue
        if offset > start:
            parts.append((start, offset - start))
        start = min(end, offset + size)
    if start < end:
        parts.append((start, end - start))
    return parts
