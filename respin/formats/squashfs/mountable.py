"""Would the kernel mount an image: do its look-up tables end where the next thing begins?

``squashfs_fill_super`` of Linux (fs/squashfs/super.c) goes from the end of the image to its front, and each of its
tables has to fill the room before what it read last.
"""

from __future__ import annotations

from typing import Tuple

from respin.formats.squashfs import lookup
from respin.formats.squashfs.image import SquashfsImage
from respin.formats.squashfs.lookup import Fragments
from respin.formats.squashfs.metadata import malformed
from respin.formats.squashfs.superblock import METADATA_SIZE
from respin.formats.squashfs.xattr import HEADER_SIZE, read_xattr_table

_ID_SIZE, _EXPORT_SIZE = 4, 8
_HEADER = 2  # bytes of a metadata block besides its content


def require_mountable(image: SquashfsImage) -> None:
    """Raise MalformedError for tables with which the kernel refuses to mount the image."""
    superblock = image.superblock
    end = superblock.bytes_used
    if superblock.xattr_table is not None:
        table = read_xattr_table(image.view, superblock.xattr_table)
        start = superblock.xattr_table + HEADER_SIZE
        _require(image, start, table.id_blocks, end, exactly=True)
        end = table.values_start if table.count else superblock.xattr_table
    for place, count, size, exactly in (
        (superblock.id_table, superblock.id_count, _ID_SIZE, True),
        (superblock.export_table, superblock.inode_count, _EXPORT_SIZE, True),
        (superblock.fragment_table, superblock.fragment_count, Fragments.ENTRY_SIZE, False),
    ):
        if place is None or not count:
            continue
        blocks = lookup.index(image.view, place, count, size)
        _require(image, place, blocks, end, exactly=exactly)
        end = blocks[0]
    if superblock.directory_table > end:
        raise malformed(image.view, superblock.directory_table, "the directory table begins in another table")


def _require(image: SquashfsImage, start: int, blocks: Tuple[int, ...], end: int, *, exactly: bool) -> None:
    """``blocks``, whose index begins at ``start``, are one behind the other and end there, the index at ``end``."""
    stop = start + 8 * len(blocks)
    if stop > end or (exactly and stop != end):
        raise malformed(image.view, start, f"the index of a table ends at byte {stop} and what follows begins at {end}")
    for one, following in zip(blocks, (*blocks[1:], start)):
        if not 0 < following - one <= METADATA_SIZE + _HEADER:
            raise malformed(image.view, one, "the blocks of a table do not follow each other")
