"""Squashfs 4.0: read an image without mounting it, view a file in it block by block, splice changed blocks into it."""

from __future__ import annotations

from respin.formats.squashfs.image import SquashfsEntry, SquashfsFile, SquashfsImage
from respin.formats.squashfs.inode import Block, BlockList, Inode, Kind, Tail
from respin.formats.squashfs.nested import BlockView, NestedView, PatchedView
from respin.formats.squashfs.options import Compressor
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
    "Superblock",
    "Tail",
    "is_squashfs",
    "splice_file",
]
