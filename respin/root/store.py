"""The copy-on-write image: the vendor's bytes read through a view, changed blocks kept aside in a file.

Blocks are the squashfs data blocks of the file that holds the image, so what was written aside is exactly what has to
be compressed again. Changed blocks live in a descriptor of the caller, not in memory.
"""

from __future__ import annotations

import os
from typing import Dict, Mapping, Set, Tuple

from respin.byteview import ByteView, check_range
from respin.errors import BuildError
from respin.scratch import NO_SPACE
from respin.writing import pwrite_all


def cannot_keep(what: str, place: str, error: OSError) -> BuildError:
    """What to say when blocks cannot be written to the caller's temporary file in the directory ``place``."""
    return BuildError(
        f"{what}: {error.strerror}",
        where=place,
        remedy="free some space there, or name another directory with --tmpdir",
        finding="no-space" if error.errno in NO_SPACE else "cannot-write",
    )


class CopyOnWrite:
    """``base`` with writes kept in ``fd``. A ByteView that can be written to.

    ``blocks_read`` tells by phase which blocks of ``base`` were needed: set ``phase`` as the work goes on.
    """

    def __init__(self, base: ByteView, block_size: int, fd: int) -> None:
        self._base = base
        self._fd = fd
        self._slots: Dict[int, int] = {}
        self._size = base.size
        self.block_size = block_size
        self.phase = "change"
        self.blocks_read: Dict[str, Set[int]] = {}

    @property
    def size(self) -> int:
        return self._size

    @property
    def blocks_total(self) -> int:
        """How many blocks there are."""
        return -(-self._size // self.block_size)

    @property
    def name(self) -> str:
        return self._base.name

    @property
    def blocks_written(self) -> int:
        """How many blocks were written to, whether or not they differ now."""
        return len(self._slots)

    def grow(self, size: int) -> None:
        """Add zeros at the end, up to ``size`` bytes."""
        last = self.blocks_total - 1
        before = self._length(last)
        self._size = max(size, self._size)
        if last in self._slots and self._length(last) > before:
            zeros = bytes(self._length(last) - before)
            pwrite_all(self._fd, zeros, self._slots[last] * self.block_size + before)

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, as last written."""
        check_range(self, offset, length)
        pieces = []
        for index, start, count in self._split(offset, length):
            slot = self._slots.get(index)
            if slot is None:
                pieces.append(self._original(index, start, count))
            else:
                pieces.append(self._pread(slot * self.block_size + start, count))
        return b"".join(pieces)

    def write(self, offset: int, data: bytes) -> None:
        """Overwrite from ``offset`` on; nothing is written behind the end."""
        check_range(self, offset, len(data))
        done = 0
        for index, start, count in self._split(offset, len(data)):
            slot = self._slots.get(index)
            if slot is None:
                slot = len(self._slots)
                if count < self._length(index):
                    pwrite_all(self._fd, self._original(index, 0, self._length(index)), slot * self.block_size)
                self._slots[index] = slot
            pwrite_all(self._fd, data[done : done + count], slot * self.block_size + start)
            done += count

    def changed(self) -> Mapping[int, Tuple[int, int]]:
        """Block index -> (offset in ``fd``, length) of every block whose content differs from the base."""
        found = {}
        for index in sorted(self._slots):
            position, length = self._slots[index] * self.block_size, self._length(index)
            if self._pread(position, length) != self._original(index, 0, length):
                found[index] = (position, length)
        return found

    def _length(self, index: int) -> int:
        return min(self.block_size, self.size - index * self.block_size)

    def _split(self, offset: int, length: int) -> "list[tuple[int, int, int]]":
        parts, end = [], offset + length
        while offset < end:
            index, start = divmod(offset, self.block_size)
            count = min(self.block_size - start, end - offset)
            parts.append((index, start, count))
            offset += count
        return parts

    def _original(self, index: int, start: int, count: int) -> bytes:
        offset = index * self.block_size + start
        there = min(count, max(0, self._base.size - offset))
        if not there:
            return bytes(count)
        self.blocks_read.setdefault(self.phase, set()).add(index)
        return self._base.read(offset, there).ljust(count, b"\0")

    def _pread(self, position: int, count: int) -> bytes:
        data = os.pread(self._fd, count, position)
        if len(data) != count:
            raise BuildError("the file of changed blocks is too short", finding="sandbox-failed")
        return data
