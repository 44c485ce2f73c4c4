"""Writing bytes, all of them."""

from __future__ import annotations

import os


def pwrite_all(fd: int, data: bytes, offset: int) -> None:
    """Write ``data`` at byte ``offset`` of ``fd``; pwrite(2) may take less than it is given. Raises OSError."""
    left = memoryview(data)
    while left:
        written = os.pwrite(fd, left, offset)
        left, offset = left[written:], offset + written


def write_all(fd: int, data: bytes) -> None:
    """Write ``data`` at the position of ``fd``, however many calls it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
