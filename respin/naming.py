"""The system calls by which files get names, and what has to hold while they do."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List

PART = re.compile(r"\.respin-[0-9a-f]{16}\.part")
_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2  # <fcntl.h>, <linux/fs.h>
_NOT_KNOWN = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
_TO_THE_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def hidden_name(target: Path) -> Path:
    """A new name for a file that is not finished, or is to be kept for a moment, beside ``target``."""
    return target.parent / f".respin-{secrets.token_hex(8)}.part"


def linked(source: Path, target: Path) -> bool:
    """Give a file a second name; False when that cannot be done. FileExistsError if the name is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def link_unnamed(fd: int, target: Path) -> None:
    """Give an unnamed file a name. Without a directory descriptor CPython calls link(2), which follows no symlink."""
    descriptors = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(str(fd), target, src_dir_fd=descriptors, follow_symlinks=True)
    finally:
        os.close(descriptors)


def move_unless_there(source: Path, target: Path) -> None:
    """Give a directory another name; FileExistsError if the name is taken, also by an empty directory."""
    try:
        _renameat2(source, target, _NOREPLACE)
    except OSError as error:
        if error.errno not in _NOT_KNOWN:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        os.rename(source, target)


def exchange(first: Path, second: Path) -> bool:
    """Let two names change places in one moment; False where the kernel or the file system cannot."""
    try:
        _renameat2(first, second, _EXCHANGE)
    except OSError as error:
        if error.errno not in _NOT_KNOWN:
            raise
        return False
    return True


def _renameat2(source: Path, target: Path, flags: int) -> None:
    """renameat2(2), which Python has not."""
    call = getattr(_LIBC, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(target))
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def wait_for_lock(directory: int) -> None:
    """Publish in a directory alone."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals that would interrupt wait until the end. Only the main thread gets to see them in Python."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: List[int] = []
    before = {number: signal.getsignal(number) for number in _TO_THE_END}
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
        for one in came:
            signal.raise_signal(one)
