"""Changing blocks of one file inside a squashfs: every other compressed block is copied, the small tables follow.

The file keeps its name and place, and may get longer at its end. Changed blocks are compressed with the image's own
method and options; one that does not shrink is stored, one of zeros becomes a hole, as mksquashfs does. The result is a
list of segments over the old image.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from respin.byteview import chunks, is_zero
from respin.errors import RespinError, UnsupportedError
from respin.formats.squashfs.changes import Changes, encode_changes
from respin.formats.squashfs.image import SquashfsFile, SquashfsImage
from respin.formats.squashfs.longer import Relaid, longer_inode, relay
from respin.formats.squashfs.lookup import SIZE_MASK
from respin.formats.squashfs.relocation import Relocation, Replacement, Span, refuse_sharing
from respin.formats.squashfs.superblock import SIZE
from respin.formats.squashfs.tables import InodeTable, Pack, PlacedInode, TableWriter, read_inode_table
from respin.limits import KiB
from respin.segments import Copy, Data, Segment, Zeros, merge, total

PADDING = 4 * KiB
_INODE_HEADER = 16  # bytes in front of a file inode's ``start``


@dataclass(frozen=True)
class SpliceCounters:
    """What became of the file's blocks: ``blocks = holes + stored``, ``stored = reused + recompressed``.

    ``bytes_reused`` and ``bytes_new`` count stored (compressed) bytes. A tail end in a fragment counts as a block, and
    its fragment block's bytes with it.
    """

    blocks: int
    holes: int
    stored: int
    reused: int
    recompressed: int
    bytes_reused: int
    bytes_new: int


@dataclass(frozen=True)
class SplicedSquashfs:
    """The new image: segments over the old one, size in bytes with padding, counters.

    ``new_blocks`` has the byte offset in the new image and the stored length of every block that was compressed anew.
    """

    segments: Tuple[Segment, ...]
    size: int
    bytes_used: int
    counters: SpliceCounters
    new_blocks: Mapping[int, Tuple[int, int]]


@dataclass(frozen=True)
class _NewFile:
    """The file as it will be: byte offset of its first block, size in bytes, block list as stored."""

    start: int
    size: int
    fields: Sequence[int]

    def hole_bytes(self, block_size: int) -> int:
        """Bytes of blocks that are not stored."""
        stored = [field & SIZE_MASK for field in self.fields]
        beyond = len(stored) * block_size - self.size if stored and not stored[-1] else 0  # a last hole may be shorter
        return stored.count(0) * block_size - max(beyond, 0)


def splice_file(
    image: SquashfsImage, path: str, changed: Mapping[int, bytes], size: Optional[int] = None
) -> SplicedSquashfs:
    """The image with some blocks of the regular file at ``path`` replaced by ``changed`` (block number -> content).

    With a ``size`` (bytes) beyond its own the file gets longer; what ``changed`` does not give of the rest is zeros.
    ``changed`` may be read from two threads at once, each block once. Blocks that equal the old ones are reused.
    Raises UnsupportedError for images that are not plain nested images, MalformedError for damaged ones.
    """
    refuse_data_behind(image)
    file = image.file(path)
    size = file.size if size is None else size
    if size < file.size:
        raise RespinError(f"{path} cannot get shorter in place")
    return spliced(image, file, encode_changes(image, file, image.open_file(path), changed, size), size)


def spliced(
    image: SquashfsImage, file: SquashfsFile, changes: Changes, size: int, pack: Optional[Pack] = None
) -> SplicedSquashfs:
    """The image with ``changes``, which are encoded already, in ``file`` of now ``size`` bytes.

    ``pack`` makes the metadata blocks that change (see :class:`TableWriter`).
    """
    table = read_inode_table(image)
    placed = table.find(image, file.inode.number)
    _refuse_shared(image, table, placed, changes)

    # A file of holes only has no place of its own: what it gains goes to the end of the data region.
    origin = file.blocks.start if placed.stored else image.superblock.inode_table
    relocation = _relocate(image, file, placed, changes, origin)
    start = relocation.beginning(origin) if placed.stored or changes.blocks else file.inode.start
    fragments = {}
    if changes.fragment is not None:
        at = relocation.beginning(changes.fragment.offset)
        fragments[changes.fragment.number] = (at, changes.fragment.new.size_field)

    new = _NewFile(start, size, _fields(image, file, changes, size))
    inodes = _patch_inodes(image, table, placed, file, new, relocation)
    writer = TableWriter(image, relocation.new_end, pack)
    superblock = replace(image.superblock, inode_table=writer.inodes(table, inodes.content, inodes.positions))
    superblock = replace(superblock, root_inode=writer.reference(superblock.root_inode))
    superblock = replace(superblock, directory_table=writer.directories(table))
    if superblock.fragment_count:
        superblock = replace(superblock, fragment_table=writer.fragments(relocation.position, fragments))
    elif superblock.fragment_table is not None:
        superblock = replace(superblock, fragment_table=writer.position)
    if superblock.export_table is not None:
        superblock = replace(superblock, export_table=writer.exports())
    superblock = replace(superblock, id_table=writer.ids())
    if superblock.xattr_table is not None:
        superblock = replace(superblock, xattr_table=writer.xattrs())
    superblock = replace(superblock, bytes_used=writer.position)

    head: List[Segment] = [Data(superblock.pack()), Copy(SIZE, image.options.data_start - SIZE)]
    segments = merge([*head, *relocation.segments(), *writer.segments, Zeros(-writer.position % PADDING)])
    new_blocks = _new_blocks(new, changes)
    new_blocks.update((len(file.blocks), (at, field & SIZE_MASK)) for at, field in fragments.values())
    return SplicedSquashfs(
        tuple(segments),
        total(segments),
        superblock.bytes_used,
        _count(image, file, new, new_blocks, changes),
        new_blocks,
    )


def refuse_data_behind(image: SquashfsImage) -> None:
    """UnsupportedError when anything but zeros lies behind the image: it would be lost."""
    used = image.superblock.bytes_used
    if not all(is_zero(piece) for piece in chunks(image.view, used)):
        raise UnsupportedError(
            "there is data behind the end of the squashfs, which would be lost",
            where=f"{image.view.name}, byte {used}",
            finding="data-behind-squashfs",
        )


def _refuse_shared(image: SquashfsImage, table: InodeTable, placed: PlacedInode, changes: Changes) -> None:
    """Nothing else may use the bytes that change: neither other files (duplicates) nor fragment blocks."""
    others = [p for p in table.inodes if p is not placed]
    spans = [Span(p.data_start, p.data_end, f"inode {p.inode.number}") for p in others if p.stored]
    blocks = [(number, image.fragments[number]) for number in range(image.superblock.fragment_count)]
    spans += [Span(block.offset, block.offset + block.stored_size, f"fragment {n}") for n, block in blocks]
    if changes.blocks and placed.stored:
        refuse_sharing(Span(placed.data_start, placed.data_end, "the nested image"), spans, image.view.name)
    if changes.fragment is None:
        return
    block = image.fragments[changes.fragment.number]
    name = f"fragment {changes.fragment.number}"
    files = [Span(p.data_start, p.data_end, f"inode {p.inode.number}") for p in table.inodes if p.stored]
    rest = files + [span for span in spans if span.owner.startswith("fragment ") and span.owner != name]
    refuse_sharing(Span(block.offset, block.offset + block.stored_size, name), rest, image.view.name)
    tails = [_tail_span(image, p) for p in others if p.inode.tail and p.inode.tail.fragment == changes.fragment.number]
    refuse_sharing(_tail_span(image, placed), tails, image.view.name)


def _tail_span(image: SquashfsImage, placed: PlacedInode) -> Span:
    assert placed.inode.tail is not None
    start = placed.inode.tail.offset
    return Span(start, start + placed.inode.size % image.block_size, f"inode {placed.inode.number}")


def _relocate(
    image: SquashfsImage, file: SquashfsFile, placed: PlacedInode, changes: Changes, origin: int
) -> Relocation:
    pieces: List[Replacement] = []
    for index in sorted(changes.blocks):
        if index < len(file.blocks):
            block = file.blocks[index]
            at, stored = block.offset if placed.stored else origin, block.stored_size
        else:
            at, stored = placed.data_end if placed.stored else origin, 0
        pieces.append(Replacement(at, stored, changes.blocks[index].data))
    if changes.fragment is not None:
        fragment = changes.fragment
        pieces.append(Replacement(fragment.offset, fragment.old_size, fragment.new.data))
    return Relocation(image.options.data_start, image.superblock.inode_table, pieces)


def _patch_inodes(
    image: SquashfsImage, table: InodeTable, placed: PlacedInode, file: SquashfsFile, new: _NewFile, at: Relocation
) -> Relaid:
    """The inode table's content with the file's new block list and everybody's new place."""
    content = bytearray(table.content)
    for other in table.inodes:
        if other.stored and other is not placed:
            _put_start(image, content, other, at.position(other.data_start))
    before = _NewFile(file.blocks.start, file.size, file.blocks.sizes)
    more_sparse = new.hole_bytes(image.block_size) - before.hole_bytes(image.block_size)
    if new.size > file.size:
        record = longer_inode(table.content, placed, new.size, new.start, new.fields, more_sparse)
        return relay(table, bytes(content), placed, record)
    _put_start(image, content, placed, new.start)
    struct.pack_into(f"<{len(new.fields)}I", content, placed.behind, *new.fields)
    if placed.inode.extended and placed.inode.sparse:
        sparse = min(max(placed.inode.sparse + more_sparse, 0), file.size)
        struct.pack_into("<Q", content, placed.position + _INODE_HEADER + 16, sparse)
    return Relaid(bytes(content), None)


def _fields(image: SquashfsImage, file: SquashfsFile, changes: Changes, size: int) -> Sequence[int]:
    """The new block list; of a file that got longer it has the tail end, too."""
    fields = list(file.blocks.sizes)
    if size > file.size:
        fields += bytes(-(-size // image.block_size) - len(fields))
    for index, new in changes.blocks.items():
        fields[index] = new.size_field
    return fields


def _put_start(image: SquashfsImage, content: bytearray, placed: PlacedInode, start: int) -> None:
    if placed.inode.extended:
        struct.pack_into("<Q", content, placed.position + _INODE_HEADER, start)
    elif start < 1 << 32:
        struct.pack_into("<I", content, placed.position + _INODE_HEADER, start)
    else:
        raise UnsupportedError(
            f"the data of inode {placed.inode.number} would begin behind 4 GiB, which its inode cannot say",
            where=image.view.name,
        )


def _new_blocks(new: _NewFile, changes: Changes) -> Dict[int, Tuple[int, int]]:
    placed: Dict[int, Tuple[int, int]] = {}
    at = new.start
    for index, field in enumerate(new.fields):
        if index in changes.blocks and field & SIZE_MASK:
            placed[index] = (at, field & SIZE_MASK)
        at += field & SIZE_MASK
    return placed


def _count(
    image: SquashfsImage,
    file: SquashfsFile,
    new: _NewFile,
    new_blocks: Mapping[int, Tuple[int, int]],
    changes: Changes,
) -> SpliceCounters:
    blocks, holes = len(new.fields), sum(1 for field in new.fields if not field & SIZE_MASK)
    bytes_reused = sum(field & SIZE_MASK for index, field in enumerate(new.fields) if index not in changes.blocks)
    if file.fragment is not None and new.size == file.size:
        blocks += 1
        if changes.fragment is None:
            bytes_reused += image.fragments[file.fragment.fragment].stored_size
    stored, recompressed = blocks - holes, len(new_blocks)
    bytes_new = sum(size for _offset, size in new_blocks.values())
    return SpliceCounters(blocks, holes, stored, stored - recompressed, recompressed, bytes_reused, bytes_new)
