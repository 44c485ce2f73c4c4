"""Blocks that somebody else compressed: would the kernel's decoders take them as ours did?

What one of them refuses is read as an error on the Node, so that files which every reader sees could not be opened.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Iterable, Iterator, Sequence, Tuple

from respin.formats.squashfs.corrupt import CorruptBlock
from respin.formats.squashfs.extension import Extension, differences
from respin.formats.squashfs.image import SquashfsFile, SquashfsImage
from respin.formats.squashfs.inode import Kind
from respin.formats.squashfs.metadata import malformed
from respin.formats.squashfs.root import SquashfsRoot
from respin.formats.squashfs.superblock import METADATA_SIZE

Place = Tuple[int, int, int]
"""Byte offset of a compressed block in the image, its stored length, the most that it may hold."""


def require_decodable(image: SquashfsImage, places: Iterable[Place]) -> None:
    """Raise MalformedError for the first block that the kernel would not decompress."""
    for offset, stored, limit in places:
        try:
            image.codec.check(image.view.read(offset, stored), limit)
        except CorruptBlock as error:
            raise malformed(image.view, offset, f"the kernel would not read a compressed block: {error}") from error


def of_file(image: SquashfsImage, file: SquashfsFile, known: Sequence[bool] = (), start: int = 0) -> Iterator[Place]:
    """The compressed blocks of a file from byte ``start`` of the image on, but for those that are ``known``."""
    size = image.block_size
    count = len(file.blocks)
    for number in (number for number, is_known in zip_longest(range(count), known[:count]) if not is_known):
        block = file.blocks[number]
        if block.stored_size and block.is_compressed and block.offset >= start:
            yield block.offset, block.stored_size, size
    if file.fragment is not None:
        fragment = image.fragments[file.fragment.fragment]
        if fragment.is_compressed and fragment.offset >= start:
            yield fragment.offset, fragment.stored_size, size


def of_extension(before: SquashfsRoot, after: SquashfsRoot, extension: Extension) -> Iterator[Place]:
    """The compressed blocks by which one flat root extends another: of its tables, of files that are new."""
    image = after.image
    for table in (image.inode_table, image.directory_table):
        for block in table.blocks():
            header = int.from_bytes(image.view.read(block.offset, 2), "little")
            if not header & 0x8000:
                yield block.offset + 2, block.stored - 2, METADATA_SIZE
    for _path, _old, new in differences(before, after, extension):
        if new is not None and new.kind is Kind.FILE:
            yield from of_file(image, after.file(after.inode(new.number)), start=extension.data_end)
