"""Random access to a range of bytes, whatever they come from, with bounds checked in one place.

Parsers take a :class:`ByteView`, so the same code reads a file, an extent of an ISO and a file that lies compressed
inside a squashfs inside that ISO.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, Protocol, Tuple

from respin.errors import BuildError, MalformedError

_ZEROS = bytes(1 << 20)


class ByteView(Protocol):
    """``size`` bytes that can be read at any offset."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def name(self) -> str:
        """What to call these bytes in a message."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; raises MalformedError when the range leaves the view."""


class FileView:
    """A byte range of an open file. The descriptor stays the caller's; reads never move its position."""

    def __init__(self, fd: int, name: str, offset: int = 0, size: int = -1) -> None:
        self._fd = fd
        self._name = name
        self.offset = offset
        self._size = file_size(fd) - offset if size < 0 else size

    @property
    def size(self) -> int:
        return self._size

    @property
    def name(self) -> str:
        return self._name

    def read(self, offset: int, length: int) -> bytes:
        return read_pieces(self, offset, length, self._piece)

    def _piece(self, offset: int, length: int) -> bytes:
        position = self.offset + offset
        try:
            piece = os.pread(self._fd, length, position)
        except OSError as error:
            raise BuildError(
                f"byte {position} cannot be read: {error.strerror}",
                where=self._name,
                remedy="look at the kernel's log: the medium or the file system is damaged, or was taken away",
                finding="cannot-read",
            ) from error
        if not piece:
            raise MalformedError(
                f"the file ends at byte {position} where {length} more bytes were expected",
                where=self._name,
                remedy="the file is truncated, or was shortened while it was read; fetch it again",
                finding="truncated",
            )
        return piece


def file_size(fd: int) -> int:
    """The length in bytes of an open file or block device."""
    # For a block device st_size is 0. Nothing here relies on the descriptor's position.
    status = os.fstat(fd)
    return os.lseek(fd, 0, os.SEEK_END) if stat.S_ISBLK(status.st_mode) else status.st_size


def open_stream(path: Path) -> BinaryIO:
    """Open a file to read it from the start. A FIFO is not waited for: without a writer it is just empty."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


class SubView:
    """A window of another view."""

    def __init__(self, parent: ByteView, offset: int, size: int, name: str) -> None:
        check_range(parent, offset, size)
        self._parent = parent
        self._name = name
        self.offset = offset
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    @property
    def name(self) -> str:
        return self._name

    def read(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        return self._parent.read(self.offset + offset, length)

    def origin(self, offset: int, length: int) -> Tuple[ByteView, int, int]:
        """See :func:`origin`."""
        return origin(self._parent, self.offset + offset, length)


class BytesView:
    """A view of bytes in memory."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name

    @property
    def size(self) -> int:
        return len(self._data)

    @property
    def name(self) -> str:
        return self._name

    def read(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        return self._data[offset : offset + length]


def check_range(view: ByteView, offset: int, length: int) -> None:
    """Raise MalformedError unless ``[offset, offset + length)`` lies inside ``view``."""
    if offset < 0 or length < 0 or offset + length > view.size:
        raise MalformedError(
            f"bytes {offset}..{offset + length} are wanted but there are only {view.size}",
            where=view.name,
            remedy="the file is truncated or damaged; fetch it again and compare its checksum",
            finding="truncated",
        )


def read_pieces(view: ByteView, offset: int, length: int, piece: Callable[[int, int], bytes]) -> bytes:
    """Read ``view`` where its bytes lie in pieces: ``piece`` gives one to ``length`` of them from an offset inside."""
    check_range(view, offset, length)
    pieces = []
    while length:
        found = piece(offset, length)
        pieces.append(found)
        offset += len(found)
        length -= len(found)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def origin(view: ByteView, offset: int, length: int) -> Tuple[ByteView, int, int]:
    """Where bytes of ``view`` from ``offset`` on come from: a view, a place in it, how many of ``length`` lie there."""
    find = getattr(view, "origin", None)
    return (view, offset, length) if find is None else find(offset, length)


def same_bytes(one: ByteView, offset: int, other: ByteView, place: int, length: int) -> bool:
    """Whether ``length`` bytes of two views are the same. What both take from one place is not read to find out."""
    check_range(one, offset, length)
    check_range(other, place, length)
    while length:
        first, second = origin(one, offset, length), origin(other, place, length)
        count = min(first[2], second[2])
        if (first[0] is not second[0] or first[1] != second[1]) and one.read(offset, count) != other.read(place, count):
            return False
        offset, place, length = offset + count, place + count, length - count
    return True


def is_zero(data: bytes) -> bool:
    """Whether there are only zeros in ``data``."""
    # Comparing is far quicker than counting, and most data differ at their first bytes.
    return _ZEROS.startswith(data) if len(data) <= len(_ZEROS) else data.count(0) == len(data)


def chunks(view: ByteView, offset: int = 0, length: int = -1, step: int = 1 << 20) -> Iterator[bytes]:
    """The bytes of ``view`` from ``offset`` on, ``length`` of them (-1: to the end), in pieces of at most ``step``."""
    end = view.size if length < 0 else offset + length
    while offset < end:
        piece = view.read(offset, min(step, end - offset))
        yield piece
        offset += len(piece)
