"""The one sequential pass that writes the output: copies, new bytes and patches in order, hashing on the way.

That the base is still what was verified, the kernel says, if it gave a lease on the file. Else the base is hashed again
while it is copied, the parts that are not copied included.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from typing import Callable, Iterable, List, Sequence, Union

from respin.byteview import FileView
from respin.errors import BuildError, VerificationError
from respin.fanout import FanOut
from respin.node.base import VerifiedBase
from respin.progress import Progress
from respin.segments import Copy, Data, Segment, batches
from respin.unchanged import ReadLease
from respin.writing import begin_writeback

STEP = 1 << 20
_AHEAD = 8 << 20  # bytes that are left to the disk at once


class _Reader:
    """Reads the base, on which there is a lease."""

    def __init__(self, base: VerifiedBase, lease: ReadLease) -> None:
        self._base, self._lease = base, lease
        self._view = base.view()

    def content(self, segment: Segment) -> bytes:
        """The bytes of ``segment``."""
        if isinstance(segment, Copy):
            return self._view.read(segment.offset, segment.length)
        return segment.data if isinstance(segment, Data) else bytes(segment.length)

    def finish(self) -> None:
        """To be called when all is read."""
        if not self._lease.holds:
            raise _changed(self._base, "somebody opened the file for writing while it was being copied")


class _RehashingReader:
    """Reads ranges of the base in ascending order and hashes the whole of it on the way.

    Short pieces are hashed together: handing each of thousands to another thread takes longer than hashing it.
    """

    def __init__(self, base: VerifiedBase, stack: ExitStack) -> None:
        self._base = base
        self._view: FileView = base.view()
        self._digest = hashlib.sha256()
        self._hasher = stack.enter_context(FanOut([self._digest.update]))
        self._position = 0
        self._waiting: List[bytes] = []
        self._hashed = 0

    def content(self, segment: Segment) -> bytes:
        """The bytes of ``segment``."""
        if isinstance(segment, Copy):
            return self._read(segment.offset, segment.length)
        return segment.data if isinstance(segment, Data) else bytes(segment.length)

    def finish(self) -> None:
        """Hash what nobody asked for, to the end, and compare."""
        self._skip(self._view.size)
        self._hash_waiting()
        self._hasher.close()
        if self._digest.hexdigest() != self._base.claim.sha256:
            raise _changed(self._base, "the file changed while it was being copied")

    def _read(self, offset: int, length: int) -> bytes:
        self._skip(offset)
        if offset < self._position:
            # Reading it again would give bytes that nobody hashes: they could have been swapped since.
            raise BuildError(f"the plan copies byte {offset} of the base after byte {self._position}")
        return self._next(length)

    def _skip(self, offset: int) -> None:
        while self._position < offset:
            self._next(min(STEP, offset - self._position))

    def _next(self, length: int) -> bytes:
        data = self._view.read(self._position, length)
        self._position += length
        self._waiting.append(data)
        if self._position - self._hashed >= STEP:
            self._hash_waiting()
        return data

    def _hash_waiting(self) -> None:
        self._hasher.feed(b"".join(self._waiting))
        self._waiting, self._hashed = [], self._position


def write_output(
    base: VerifiedBase,
    segments: Iterable[Segment],
    size: int,
    fd: int,
    sinks: Sequence[Callable[[bytes], None]],
    progress: Progress,
) -> int:
    """Write ``segments`` to ``fd`` from its start; every sink gets every byte in order. Returns the bytes copied.

    Raises VerificationError when the base may no longer be what was verified.
    """
    copied = 0
    with ExitStack() as stack:
        step = stack.enter_context(progress.step("writing the new ISO", size))
        out = stack.enter_context(os.fdopen(fd, "wb", buffering=0, closefd=False))
        written = stack.enter_context(FanOut(sinks))
        lease = base.lease
        reader: Union[_Reader, _RehashingReader]
        reader = _RehashingReader(base, stack) if lease is None or not lease.holds else _Reader(base, lease)
        position = begun = 0

        def put(data: bytes) -> None:
            nonlocal position, begun
            left = memoryview(data)
            while left:
                left = left[out.write(left) :]
            written.feed(data)
            position += len(data)
            if position - begun >= _AHEAD:
                begin_writeback(fd, begun, position - begun)
                begun = position
            step.advance(len(data))

        for batch in batches(segments, STEP):
            put(b"".join(map(reader.content, batch)))
            copied += sum(segment.length for segment in batch if isinstance(segment, Copy))
        reader.finish()
    return copied


def _changed(base: VerifiedBase, what: str) -> VerificationError:
    return VerificationError(
        what,
        where=str(base.path),
        remedy="nothing was published; make sure that nobody writes to the base ISO and build again",
        finding="base-changed",
    )
