"""Tables that keep the vendor's metadata blocks, byte for byte and in place, and get more content behind them.

Only the last block of a table may hold less than 8 KiB (unsquashfs insists), so it is packed anew together with what
comes behind. Where its content begins stays the same, and so does every place in the table that was known before.
"""

from __future__ import annotations

import struct
from typing import List, Mapping, Optional, Tuple

from respin.byteview import ByteView
from respin.formats.squashfs import lookup
from respin.formats.squashfs.codec import Codec
from respin.formats.squashfs.metadata import Table, read_metadata_block
from respin.formats.squashfs.superblock import METADATA_SIZE
from respin.formats.squashfs.tables import pack_metadata
from respin.segments import Copy, Data, Segment


class GrownTable:
    """A run of metadata blocks, the vendor's ``table`` first if there is one."""

    def __init__(self, codec: Codec, table: Optional[Table], *, store: bool) -> None:
        self._codec = codec
        self._store = store
        self._kept: Tuple[Copy, ...] = ()
        self._last: Optional[Copy] = None  # the vendor's last block, until something comes behind it
        self._pending = bytearray()
        self._blocks: List[Data] = []
        self._start = 0  # of the block that _pending will be in
        if table is not None and table.end > table.start:
            self._take_over(table)

    @property
    def place(self) -> Tuple[int, int]:
        """Where the next byte will be: start of its block within the table, offset in the block's content."""
        return self._start, len(self._pending)

    def append(self, content: bytes) -> None:
        """Add content at the end."""
        if content:
            self._last = None
        self._pending += content
        while len(self._pending) >= METADATA_SIZE:
            self._pack(METADATA_SIZE)

    def finish(self) -> List[Segment]:
        """The table as segments over the vendor's image."""
        if self._last is not None:
            return [*self._kept, self._last]
        if self._pending:
            self._pack(len(self._pending))
        return [*self._kept, *self._blocks]

    def _pack(self, length: int) -> None:
        block = Data(pack_metadata(self._codec, bytes(self._pending[:length]), store=self._store))
        del self._pending[:length]
        self._blocks.append(block)
        self._start += block.length

    def _take_over(self, table: Table) -> None:
        last = table.last_block()
        block = read_metadata_block(table.view, self._codec, last, table.end)
        if len(block.content) == METADATA_SIZE:
            self._kept = (Copy(table.start, table.end - table.start),)
            self._start = table.end - table.start
        else:
            self._kept = (Copy(table.start, last - table.start),)
            self._start = last - table.start
            self._last = Copy(last, table.end - last)
            self._pending += block.content


def grown_lookup(
    view: ByteView,
    codec: Codec,
    start: Optional[int],
    count: int,
    entry_size: int,
    *,
    position: int,
    edits: Mapping[int, bytes],
    added: bytes,
    store: bool,
    header: bytes = b"",
) -> Tuple[List[Segment], int]:
    """A look-up table for byte ``position`` of the new image: segments, and where its index begins.

    ``start`` is where the vendor's index of ``count`` entries lies (None: there is none), ``edits`` replaces entries by
    number, ``added`` comes behind them. With
    ``store``, what is new is not compressed. ``header`` goes in front of the index.
    """
    blocks = [] if start is None else lookup.blocks(view, codec, start, count, entry_size)
    content = bytearray(b"".join(block.content for block in blocks))
    for number, entry in edits.items():
        content[number * entry_size : (number + 1) * entry_size] = entry
    content += added
    segments: List[Segment] = []
    offsets = []
    for number, at in enumerate(range(0, len(content), METADATA_SIZE)):
        piece = bytes(content[at : at + METADATA_SIZE])
        offsets.append(position)
        if number < len(blocks) and blocks[number].content == piece:
            segments.append(Copy(blocks[number].offset, blocks[number].stored))
        else:
            segments.append(Data(pack_metadata(codec, piece, store=store)))
        position += segments[-1].length
    segments.append(Data(header + struct.pack(f"<{len(offsets)}Q", *offsets)))
    return segments, position
