"""SHA-256 of files and views, in one pass and with progress; CRC-32."""

from __future__ import annotations

import hashlib
import zlib
from typing import Callable, Iterable, List, Tuple, Union

from respin.byteview import ByteView, chunks
from respin.errors import UnsupportedError
from respin.limits import LIMITS
from respin.progress import SILENT, Progress

PIECE = 1 << 20
"""How many bytes a checksum of a part of an ISO covers: a place that is named is that near to what is damaged."""

_Data = Union[bytes, memoryview]

try:
    from isal import isal_zlib
except ImportError:
    _crc32: Callable[[_Data, int], int] = zlib.crc32
else:
    _crc32 = isal_zlib.crc32


def crc32(data: _Data, before: int = 0) -> int:
    """The CRC-32 of ``data`` as zlib has it (ISO 3309), by the quicker implementation that is there.

    ``before`` is the CRC-32 of what comes before it.
    """
    return _crc32(data, before)


class PieceChecks:
    """The CRC-32 of every :data:`PIECE` bytes of a stream that is fed in order, however it is cut."""

    def __init__(self) -> None:
        self._whole: List[int] = []
        self._running = self._length = 0

    def update(self, data: bytes) -> None:
        """Feed the next bytes."""
        left = memoryview(data)
        while left:
            part = left[: PIECE - self._length]
            self._running = crc32(part, self._running)
            self._length += len(part)
            left = left[len(part) :]
            if self._length == PIECE:
                self._whole.append(self._running)
                self._running = self._length = 0

    def result(self) -> Tuple[int, ...]:
        """Those of what was fed so far; the last piece may be a shorter one."""
        return (*self._whole, *([self._running] if self._length else []))


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of ``data``, 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_chunks(pieces: Iterable[bytes]) -> str:
    """The SHA-256 of the concatenation of ``pieces``."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def sha256_content(view: ByteView) -> str:
    """The SHA-256 of a file inside an image; UnsupportedError if it claims more bytes than the limit.

    Holes take no room in an image, so a few bytes may claim content that takes hours to hash.
    """
    if view.size > LIMITS.content:
        raise UnsupportedError(
            f"the file has {view.size} bytes, more than the limit of {LIMITS.content}",
            where=view.name,
            finding="too-large",
        )
    return sha256_chunks(chunks(view))


def sha256_view(view: ByteView, progress: Progress = SILENT, title: str = "") -> str:
    """The SHA-256 of all of ``view``."""
    digest = hashlib.sha256()
    with progress.step(title or f"hashing {view.name}", view.size) as step:
        for piece in chunks(view):
            digest.update(piece)
            step.advance(len(piece))
    return digest.hexdigest()
