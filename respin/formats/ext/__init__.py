"""ext2, ext3 and ext4 images: read without mounting, from any byte view."""

from __future__ import annotations

from respin.formats.ext.content import DataRange, ExtFileView
from respin.formats.ext.directory import ExtEntry
from respin.formats.ext.groups import MetadataRange
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ExtInode
from respin.formats.ext.superblock import ExtSuperblock, is_ext

__all__ = [
    "DataRange",
    "ExtEntry",
    "ExtFileView",
    "ExtImage",
    "ExtInode",
    "ExtSuperblock",
    "MetadataRange",
    "is_ext",
]
