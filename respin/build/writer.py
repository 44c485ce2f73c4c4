"""The one sequential pass that writes the output: copies, new bytes and patches in order, hashing on the way.

The base is hashed again while it is copied, the parts that are not copied included, so that bytes which changed between
verification and copying are noticed.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from typing import Callable, Iterable, Sequence

from respin.byteview import FileView
from respin.errors import BuildError, VerificationError
from respin.fanout import FanOut
from respin.node.base import VerifiedBase
from respin.progress import Progress
from respin.segments import Copy, Data, Segment
from respin.writing import begin_writeback

STEP = 1 << 20
_AHEAD = 8 << 20  # bytes that are left to the disk at once


class _RehashingReader:
    """Reads ranges of the base in ascending order and hashes the whole of it on the way."""

    def __init__(self, base: VerifiedBase, hash_piece: Callable[[bytes], None]) -> None:
        self._view: FileView = base.view()
        self._hash = hash_piece
        self._position = 0

    def read(self, offset: int, length: int) -> bytes:
        while self._position < offset:
            self._hash(self._next(min(STEP, offset - self._position)))
        if offset < self._position:
            # Reading it again would give bytes that nobody hashes: they could have been swapped since.
            raise BuildError(f"the plan copies byte {offset} of the base after byte {self._position}")
        data = self._next(length)
        self._hash(data)
        return data

    def finish(self) -> None:
        while self._position < self._view.size:
            self._hash(self._next(min(STEP, self._view.size - self._position)))

    def _next(self, length: int) -> bytes:
        data = self._view.read(self._position, length)
        self._position += length
        return data


def write_output(
    base: VerifiedBase,
    segments: Iterable[Segment],
    size: int,
    fd: int,
    sinks: Sequence[Callable[[bytes], None]],
    progress: Progress,
) -> int:
    """Write ``segments`` to ``fd`` from its start; every sink gets every byte in order. Returns the bytes copied.

    Raises VerificationError when the base no longer has the digest that it was verified with.
    """
    digest = hashlib.sha256()
    copied = 0
    with ExitStack() as stack:
        step = stack.enter_context(progress.step("writing the new ISO", size))
        out = stack.enter_context(os.fdopen(fd, "wb", buffering=0, closefd=False))
        written, read = stack.enter_context(FanOut(sinks)), stack.enter_context(FanOut([digest.update]))
        reader = _RehashingReader(base, read.feed)

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

        for segment in segments:
            if isinstance(segment, Data):
                put(segment.data)
                continue
            for start in range(0, segment.length, STEP):
                length = min(STEP, segment.length - start)
                if isinstance(segment, Copy):
                    put(reader.read(segment.offset + start, length))
                    copied += length
                else:
                    put(bytes(length))
        reader.finish()
    if digest.hexdigest() != base.claim.sha256:
        raise VerificationError(
            "the file changed while it was being copied",
            where=str(base.path),
            remedy="nothing was published; make sure that nobody writes to the base ISO and build again",
            finding="base-changed",
        )
    return copied
