"""Writing bytes, all of them."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None)
_SYNC_FILE_RANGE_WRITE = 2


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


def begin_writeback(fd: int, offset: int, length: int) -> None:
    """Have the kernel begin to bring a range that was written to the disk, beside whatever comes next.

    Nothing is waited for and nothing promised: fsync(2) later has less to do. Where the C library does not know the
    call, or the file system has no use for it, nothing happens.
    """
    call = getattr(_libc, "sync_file_range", None)
    if call is not None:
        call(ctypes.c_int(fd), ctypes.c_int64(offset), ctypes.c_int64(length), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))
