"""The ext image unpacked into a file, for machines without FUSE: the programs that change it get the same bytes to see.

What was a block of the vendor's is known by its digest, taken while unpacking, so that in the end exactly the blocks
are found that differ. The file is as sparse as the image.
"""

from __future__ import annotations

import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator, List, Mapping, Optional, Tuple

from respin.errors import BuildError
from respin.formats.squashfs.nested import NestedView
from respin.root.store import cannot_keep
from respin.writing import pwrite_all

_THREADS = 2
_WINDOW = 64  # blocks that are unpacked at a time


class UnpackedImage:
    """An image in the file behind ``fd``; has the ways of :class:`respin.root.fuseview.ViewServer`.

    ``place`` is the directory in which the file lies, for messages. BuildError when there is no room for it,
    MalformedError when a block is damaged.
    """

    def __init__(self, view: NestedView, fd: int, place: str) -> None:
        self.path = f"/proc/self/fd/{fd}"
        self.fds = (fd,)
        self._fd = fd
        self._block_size = view.block_size
        self._vendor_size = self._size = view.size
        try:
            os.ftruncate(fd, view.size)
            self._digests = _unpack(view, fd)
        except OSError as error:
            raise cannot_keep("the root image cannot be unpacked", place, error) from error

    def set_phase(self, phase: str) -> None:
        """Nothing is read on demand, so nothing is counted."""

    def check(self) -> None:
        """Damage showed when it was unpacked."""

    def grow(self, size: int) -> str:
        """Add zeros up to ``size`` bytes; returns the path at which the image is from now on."""
        self._size = size
        os.ftruncate(self._fd, size)
        return self.path

    def report(self) -> Mapping[str, Any]:
        """Counters and the changed blocks, as of a served image; the file holds each block at its place."""
        changed = [[index, index * self._block_size, length] for index, length in self._changed()]
        stored = sum(1 for digest in self._digests if digest is not None)
        return {
            "image_size": self._size,
            "blocks_total": -(-self._size // self._block_size),
            "blocks_read": {"change": stored},
            "blocks_written": len(changed),
            "changed": changed,
        }

    def _changed(self) -> Iterator[Tuple[int, int]]:
        """Number and length of every block whose content differs from the vendor's, zeros behind that included."""
        index = 0
        while index * self._block_size < self._size:
            start = index * self._block_size
            known = self._digests[index] if index < len(self._digests) else None
            if known is None:
                skipped = self._next_data(start) // self._block_size
                if skipped > index:
                    index = min(skipped, self._next_stored(index))
                    continue
            length = min(self._block_size, self._size - start)
            content = os.pread(self._fd, length, start)
            if len(content) != length:
                raise BuildError("the unpacked root image is too short", finding="sandbox-failed")
            own = max(0, min(length, self._vendor_size - start))
            was = not any(content) if known is None else _digest(content[:own]) == known and not any(content[own:])
            if not was:
                yield index, length
            index += 1

    def _next_data(self, start: int) -> int:
        """The first byte from ``start`` on that is not in a hole of the file, or its end."""
        try:
            return os.lseek(self._fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return -(-self._size // self._block_size) * self._block_size
            return start  # a file system that knows no holes

    def _next_stored(self, index: int) -> int:
        """The first block from ``index`` on that the vendor's image stores, or the number of all."""
        for number in range(index, len(self._digests)):
            if self._digests[number] is not None:
                return number
        return -(-self._size // self._block_size)


def _unpack(view: NestedView, fd: int) -> List[Optional[bytes]]:
    """Write every block that is stored to ``fd``; the digests of all, None for those of zeros."""

    def one(index: int) -> Optional[bytes]:
        content = view.block(index)
        if not any(content):
            return None
        pwrite_all(fd, content, index * view.block_size)
        return _digest(content)

    digests: List[Optional[bytes]] = [None] * view.blocks_total
    stored = [index for index in range(view.blocks_total) if not view.is_hole(index)]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="unpack") as pool:
        for at in range(0, len(stored), _WINDOW):
            window = stored[at : at + _WINDOW]
            for index, digest in zip(window, pool.map(one, window)):
                digests[index] = digest
    return digests


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
