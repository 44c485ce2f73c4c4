"""What differs between the vendor's ext root and the one that was made of it, reading as little as is safe.

By what the changed bytes touch if the vendor's image allows that, else by an index of all of it. Either way the changed
image has to be consistent.
"""

from __future__ import annotations

from typing import Iterable, Optional, Set

from respin.formats.ext.image import ExtImage
from respin.node.consistency import is_even, require_consistent
from respin.node.ranges import Ranges
from respin.node.treediff import compare, compare_where_said
from respin.node.treeindex import UNKNOWN, TreeIndex
from respin.progress import Progress
from respin.root.delta import Delta


def difference(
    before: ExtImage,
    after: ExtImage,
    changed: Ranges,
    said: Iterable[str],
    progress: Progress,
    even: Optional[bool] = None,
) -> Delta:
    """All that differs; raises where the second image is not what it looks like.

    ``changed`` are the only places where the bytes differ. ``said`` are paths at which something is said to differ;
    they only spare reading. ``even`` is what :func:`respin.node.consistency.is_even` says of ``before``, if that is
    known.
    """
    with progress.step("comparing the two root trees where blocks differ"):
        even = is_even(before) if even is None else even
        found = compare_where_said(before, after, changed, said) if even else None
        if found is not None:
            require_consistent(before, after, found.numbers, found.changed)
            return found.delta
    with progress.step("reading the vendor's root"):
        index = TreeIndex(before)
    with progress.step("comparing the two root trees"):
        changed = changed.narrowed(before.view, after.view, before.superblock.block_size)
        delta = compare(before, after, changed, index)
        require_consistent(before, after, _suspects(before, after, changed, index), changed)
        return delta


def _suspects(before: ExtImage, after: ExtImage, changed: Ranges, index: TreeIndex) -> Set[int]:
    """The inodes in use in either image that are not surely the same in both."""
    same = index.same(after, changed)
    used = (number for image in (before, after) for number in image.numbers_in_use())
    return {number for number in used if number >= len(same) or same[number] == UNKNOWN}
