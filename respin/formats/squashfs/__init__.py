"""Squashfs 4.0, read and changed without mounting it.

A nested image: a file viewed block by block, and changed blocks spliced into it. A flat root: the tree, what one image
holds of another (:mod:`.extension`), and changes to the tree (:mod:`.merge`).
"""

from __future__ import annotations

from respin.formats.squashfs.image import SquashfsEntry, SquashfsFile, SquashfsImage
from respin.formats.squashfs.inode import Block, BlockList, Inode, Kind, Tail
from respin.formats.squashfs.nested import BlockView, NestedView, PatchedView
from respin.formats.squashfs.options import Compressor
from respin.formats.squashfs.root import SquashfsRoot
from respin.formats.squashfs.splice import SpliceCounters, SplicedSquashfs, splice_file
from respin.formats.squashfs.superblock import Superblock, is_squashfs

__all__ = [
    "Block",
    "BlockList",
    "BlockView",
    "Compressor",
    "Inode",
    "Kind",
    "NestedView",
    "PatchedView",
    "SpliceCounters",
    "SplicedSquashfs",
    "SquashfsEntry",
    "SquashfsFile",
    "SquashfsImage",
    "SquashfsRoot",
    "Superblock",
    "Tail",
    "is_squashfs",
    "splice_file",
]
