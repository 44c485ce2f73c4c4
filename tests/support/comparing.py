"""Parts of the comparison of two roots, for tests that want to know what one of them finds and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Optional

from respin.byteview import BytesView
from respin.formats.ext.image import ExtImage
from respin.node import treediff
from respin.node.consistency import require_consistent
from respin.node.ranges import Ranges
from respin.root.delta import Delta


def compare_where_said(before: ExtImage, after: ExtImage, changed: Ranges, said: Iterable[str]) -> Optional[Delta]:
    """The delta that :func:`respin.node.treediff.compare_where_said` finds, None if it does not."""
    found = treediff.compare_where_said(before, after, changed, said)
    return None if found is None else found.delta


def assert_consistent(old: Path, new: Path) -> None:
    """Assert that the image ``new`` is consistent if ``old`` is, of which it was made."""
    before, after = (ExtImage.open(BytesView(path.read_bytes(), str(path))) for path in (old, new))
    changed = Ranges([(0, after.view.size)]).narrowed(before.view, after.view, before.superblock.block_size)
    require_consistent(before, after, {*before.numbers_in_use(), *after.numbers_in_use()}, changed)
