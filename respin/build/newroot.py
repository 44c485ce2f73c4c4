"""The new root image: what an installation changed, compared with the vendor's, judged, and compressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping

from respin.build.layout import NewSquashfs
from respin.formats.ext.image import ExtImage
from respin.formats.squashfs.nested import PatchedView
from respin.formats.squashfs.splice import splice_file
from respin.node.indexing import Indexing
from respin.node.rootimage import NestedRoot, RootImage
from respin.node.treediff import compare
from respin.node.treeindex import Ranges
from respin.progress import Progress
from respin.root.delta import Delta
from respin.root.install import Installed
from respin.roottree import RootTree

# Gets all that differs and the new root's tree; raises to refuse.
Judge = Callable[[Delta, RootTree[Any]], None]


@dataclass(frozen=True)
class NewRoot:
    """The root image to write, all that differs in it, and how many of its blocks were reused and compressed."""

    squashfs: NewSquashfs
    shipped: Delta
    counters: Mapping[str, int]


def new_root(image: RootImage, installed: Installed, indexing: Indexing, judge: Judge, progress: Progress) -> NewRoot:
    """The vendor's root image with what was installed."""
    assert isinstance(image, NestedRoot)
    index = indexing.wait(progress)
    with progress.step("judging the outcome"):
        after = ExtImage.open(PatchedView(image.nested, installed.changed_blocks))
        changed = Ranges.of_blocks(installed.changed_blocks, image.nested.block_size, image.nested.size)
        shipped = compare(image.tree, after, changed, index)
        judge(shipped, after)
    with progress.step("compressing the changed blocks"):
        spliced = splice_file(image.squashfs, image.inner_path, installed.changed_blocks)
    return NewRoot(
        spliced,
        shipped,
        {
            "root_blocks_total": installed.counters.blocks_total,
            "root_blocks_read": installed.counters.blocks_read,
            "root_blocks_read_for_check": installed.counters.blocks_read_for_check + indexing.blocks_read,
            "root_blocks_stored": spliced.counters.stored,
            "root_blocks_reused": spliced.counters.reused,
            "root_blocks_recompressed": spliced.counters.recompressed,
        },
    )
