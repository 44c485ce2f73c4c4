"""The one sequential pass that writes the output: copies, new bytes and patches in order, hashing on the way.

The base is hashed again while it is copied, the parts that are not copied included, so that bytes which changed between
verification and copying are noticed.
"""

from __future__ import annotations

import hashlib
import os
from typing import Callable, Iterable, Sequence

from respin.byteview import FileView
from respin.errors import VerificationError
from respin.node.base import VerifiedBase
from respin.progress import Progress
from respin.segments import Copy, Data, Segment

STEP = 1 << 20


class _RehashingReader:
    """Reads ranges of the base in ascending order and hashes the whole of it on the way."""

    def __init__(self, base: VerifiedBase) -> None:
        self._view: FileView = base.view()
        self._digest = hashlib.sha256()
        self._position = 0

    def read(self, offset: int, length: int) -> bytes:
        while self._position < offset:
            self._digest.update(self._next(min(STEP, offset - self._position)))
        if offset < self._position:  # a range that is wanted twice was hashed when it was read first
            return self._view.read(offset, length)
        data = self._next(length)
        self._digest.update(data)
        return data

    def finish(self) -> str:
        while self._position < self._view.size:
            self._digest.update(self._next(min(STEP, self._view.size - self._position)))
        return self._digest.hexdigest()

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
    reader = _RehashingReader(base)
    copied = 0
    with progress.step("writing the new ISO", size) as step, os.fdopen(fd, "wb", buffering=0, closefd=False) as out:

        def put(data: bytes) -> None:
            left = memoryview(data)
            while left:
                left = left[out.write(left) :]
            for sink in sinks:
                sink(data)
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
    if reader.finish() != base.claim.sha256:
        raise VerificationError(
            "the file changed while it was being copied",
            where=str(base.path),
            remedy="nothing was published; make sure that nobody writes to the base ISO and build again",
            finding="base-changed",
        )
    return copied
