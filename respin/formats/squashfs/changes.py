"""Encoding the changed blocks of a file in a squashfs: compressed anew in parallel, holes found, no-ops dropped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Tuple

from respin.byteview import is_zero
from respin.errors import RespinError
from respin.formats.squashfs.codec import encode
from respin.formats.squashfs.image import SquashfsFile, SquashfsImage
from respin.formats.squashfs.lookup import STORED_BIT
from respin.formats.squashfs.nested import NestedView
from respin.formats.squashfs.superblock import UNCOMPRESSED_DATA, UNCOMPRESSED_FRAGMENTS

_THREADS = 2


@dataclass(frozen=True)
class Encoded:
    """A block as it will be stored, and its entry in the block list (0: a hole)."""

    data: bytes
    size_field: int


@dataclass(frozen=True)
class ChangedFragment:
    """A fragment block with a new tail end in it."""

    number: int
    offset: int
    old_size: int
    new: Encoded


@dataclass(frozen=True)
class Changes:
    """The data blocks that differ, by number, and the fragment block if the file's tail end differs."""

    blocks: Mapping[int, Encoded]
    fragment: Optional[ChangedFragment]


def encode_changes(
    image: SquashfsImage, file: SquashfsFile, view: NestedView, changed: Mapping[int, bytes], size: int
) -> Changes:
    """Compress what differs from ``view``, two blocks at a time; the result does not depend on the threads.

    With a ``size`` (bytes) beyond the file's own it has no tail end any more: its last block is one like any other.
    """
    store = bool(image.superblock.flags & UNCOMPRESSED_DATA)
    grown = size > view.size
    numbers = set(changed)
    if grown and view.size % view.block_size:
        numbers.add(view.blocks_total - 1)  # its last block gets longer

    def one(index: int) -> Tuple[int, Optional[bytes], Optional[Encoded]]:
        length = min(view.block_size, size - index * view.block_size)
        new = changed[index] if index in changed else view.block(index).ljust(length, b"\0")
        if index < 0 or len(new) != length:
            raise RespinError(f"block {index} of {view.name} cannot be replaced by {len(new)} bytes")
        if index < view.blocks_total and new == view.block(index):
            return index, None, None
        if index >= len(file.blocks) and not grown:
            return index, new, None
        return index, None, _encode(image, new, store=store, holes=True)

    blocks: Dict[int, Encoded] = {}
    fragment: Optional[ChangedFragment] = None
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="squashfs") as pool:
        for index, tail, encoded in pool.map(one, sorted(numbers)):
            if tail is not None:
                fragment = _change_fragment(image, file, tail)
            elif encoded is not None:
                blocks[index] = encoded
    return Changes(blocks, fragment)


def _change_fragment(image: SquashfsImage, file: SquashfsFile, tail: bytes) -> ChangedFragment:
    assert file.fragment is not None
    old = image.fragments[file.fragment.fragment]
    content = bytearray(image.fragments.content(old))
    content[file.fragment.offset : file.fragment.offset + len(tail)] = tail
    store = bool(image.superblock.flags & UNCOMPRESSED_FRAGMENTS)
    new = _encode(image, bytes(content), store=store, holes=False)
    return ChangedFragment(file.fragment.fragment, old.offset, old.stored_size, new)


def _encode(image: SquashfsImage, content: bytes, *, store: bool, holes: bool) -> Encoded:
    if holes and is_zero(content):
        return Encoded(b"", 0)
    data, compressed = encode(image.codec, content, store=store)
    return Encoded(data, len(data) | (0 if compressed else STORED_BIT))
