"""Changing a flat squashfs: the vendor's data and tables stay as they are, what is new or touched comes behind them.

Everything the vendor's image holds is in the new one at the same place within its table, with the last metadata block
of each table packed anew. So one reference means the same in both, and what a change does not touch is neither read
nor written; content that nothing names any more stays, too. The result is a list of segments over the old image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterable, List, Mapping, Optional, Tuple

from respin.errors import UnsupportedError
from respin.formats.squashfs.image import SquashfsImage
from respin.formats.squashfs.lookup import Fragments
from respin.formats.squashfs.merge.changes import Change, read_changes
from respin.formats.squashfs.merge.content import ContentWriter
from respin.formats.squashfs.merge.grown import grown_lookup
from respin.formats.squashfs.merge.losses import Losses, find_losses
from respin.formats.squashfs.merge.tree import TreeWriter
from respin.formats.squashfs.root import SquashfsRoot
from respin.formats.squashfs.splice import PADDING, refuse_data_behind
from respin.formats.squashfs.superblock import NO_XATTRS, SIZE, UNCOMPRESSED_FRAGMENTS, UNCOMPRESSED_INODES
from respin.limits import LIMITS
from respin.segments import Copy, Data, Segment, Zeros, merge, total


@dataclass(frozen=True)
class MergeCounters:
    """What was written. ``blocks = holes + kept + copied + compressed`` counts the blocks of the ``files`` written.

    A kept block stays where the vendor has it; a copied one is the vendor's as it is stored, at another place.
    ``fragments`` are new fragment blocks. ``bytes_copied`` and ``bytes_new`` count stored bytes, ``bytes_left`` those
    of the vendor's blocks whose file is gone or has other content: they stay in the image.
    ``inodes`` were written, ``directories`` of them; ``inodes_gone`` of the vendor's nothing names any more.
    """

    files: int
    blocks: int
    holes: int
    kept: int
    copied: int
    compressed: int
    fragments: int
    bytes_copied: int
    bytes_new: int
    bytes_left: int
    inodes: int
    directories: int
    inodes_gone: int


@dataclass(frozen=True)
class MergedSquashfs:
    """The new image: segments over the old one, size in bytes with padding, counters.

    ``vendor_end`` is the byte up to which the new image is the old one but for the superblock; from there to
    ``data_end`` lies new data, and behind that the tables.
    """

    segments: Tuple[Segment, ...]
    size: int
    bytes_used: int
    vendor_end: int
    data_end: int
    counters: MergeCounters


def merge_changes(image: SquashfsImage, changes: Iterable[Change]) -> MergedSquashfs:
    """The image with ``changes`` made. The same changes in any order give the same bytes.

    Directories on the way keep the vendor's attributes and times. Contents are read once, in the order of paths.
    Raises UnsupportedError for what squashfs cannot hold (more than 65,535 owners, times after 2106), RespinError for
    changes that contradict each other or the vendor's tree, MalformedError for a damaged image.
    """
    refuse_data_behind(image)
    superblock = image.superblock
    request = read_changes(changes)
    root = SquashfsRoot(image)
    losses = find_losses(root, request.top)
    with ContentWriter(image) as content:
        tree = TreeWriter(root, request, losses, content)
        root_inode = tree.write()
        data, fragments = content.finish()
    if tree.inode_count > LIMITS.squashfs_inodes:
        raise UnsupportedError(f"{tree.inode_count} inodes are more than the limit", where=image.view.name)

    data_end = superblock.inode_table + total(data)
    tables = _Tables(image, data_end)
    inode_table = tables.add(tree.inodes.finish())
    directory_table = tables.add(tree.directories.finish())
    fragment_table, export_table = superblock.fragment_table, superblock.export_table
    if content.fragment_count:
        vendor = superblock.fragment_table if superblock.fragment_count else None
        fragment_table = tables.lookup(
            vendor, superblock.fragment_count, Fragments.ENTRY_SIZE, added=fragments, stored=UNCOMPRESSED_FRAGMENTS
        )
    elif fragment_table is not None:
        fragment_table = tables.position
    if export_table is not None:
        edits, added = tree.exports()
        export_table = tables.lookup(
            export_table, superblock.inode_count, 8, edits=edits, added=added, stored=UNCOMPRESSED_INODES
        )
    id_table = tables.place(tree.ids.write(tables.position))
    lists, xattr_table = tree.xattrs.write(tables.position)
    tables.add(lists)

    new = replace(
        superblock,
        inode_count=tree.inode_count,
        fragment_count=content.fragment_count,
        flags=superblock.flags & ~NO_XATTRS if xattr_table is not None else superblock.flags,
        id_count=tree.ids.count,
        root_inode=root_inode,
        bytes_used=tables.position,
        id_table=id_table,
        xattr_table=xattr_table,
        inode_table=inode_table,
        directory_table=directory_table,
        fragment_table=fragment_table,
        export_table=export_table,
    )
    head: List[Segment] = [Data(new.pack()), Copy(SIZE, superblock.inode_table - SIZE)]
    segments = merge([*head, *data, *tables.segments, Zeros(-tables.position % PADDING)])
    return MergedSquashfs(
        segments=tuple(segments),
        size=total(segments),
        bytes_used=tables.position,
        vendor_end=superblock.inode_table,
        data_end=data_end,
        counters=_count(content, tree, losses),
    )


class _Tables:
    """The tables one behind the other; ``position`` is the byte where the next one begins."""

    def __init__(self, image: SquashfsImage, position: int) -> None:
        self.segments: List[Segment] = []
        self.position = position
        self._image = image

    def add(self, segments: List[Segment]) -> int:
        """Add a table; where it begins."""
        start = self.position
        self.segments += segments
        self.position += total(segments)
        return start

    def place(self, table: Tuple[List[Segment], int]) -> int:
        """Add a table that is found by an index; where that begins."""
        self.add(table[0])
        return table[1]

    def lookup(
        self,
        start: Optional[int],
        count: int,
        size: int,
        *,
        edits: Optional[Mapping[int, bytes]] = None,
        added: bytes,
        stored: int,
    ) -> int:
        """Add a look-up table; where its index begins. The superblock's flag ``stored`` says not to compress it."""
        image = self._image
        return self.place(
            grown_lookup(
                *(image.view, image.codec, start, count, size),
                position=self.position,
                edits=edits or {},
                added=added,
                store=bool(image.superblock.flags & stored),
            )
        )


def _count(content: ContentWriter, tree: TreeWriter, losses: Losses) -> MergeCounters:
    blocks = content.counters
    return MergeCounters(
        files=blocks.files,
        blocks=blocks.blocks,
        holes=blocks.holes,
        kept=blocks.kept,
        copied=blocks.copied,
        compressed=blocks.compressed,
        fragments=blocks.fragments,
        bytes_copied=blocks.bytes_copied,
        bytes_new=blocks.bytes_new,
        bytes_left=tree.bytes_left(),
        inodes=tree.counters.inodes,
        directories=tree.counters.directories,
        inodes_gone=len(losses.gone),
    )
