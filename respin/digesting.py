"""The digest of a large file, made by a process of its own while this one begins with something else.

Most of what ``respin build`` does before it needs the digest of the base is Python: reading modules, judging keys. A
thread would have to wait for the interpreter lock between any two pieces; a process does not.
"""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, List, NoReturn, Optional, Tuple

from respin.digest import PIECE, crc32
from respin.unchanged import ReadLease

_TELL = 16  # pieces between two reports
_REPORT = struct.Struct("<Q")
_DONE = (1 << 64) - 1


@contextmanager
def digesting(path: Path) -> Iterator["Optional[Digesting]"]:
    """A :class:`Digesting` of the file at ``path``; None for what is no regular file or cannot be opened."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not to wait for the other end of a FIFO
    except OSError:
        yield None
        return
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            yield None
            return
        running = Digesting(fd)
        try:
            yield running
        finally:
            running.close()
    finally:
        os.close(fd)


class Digesting:
    """Reads the regular file ``fd`` from its start to its end, beside what is done next.

    To be made before there are threads: the process is a copy of this one. Whatever becomes of this one, it ends at its
    next report; :meth:`close` ends it at once. While ``lease`` holds, the digest is that of what the file still has.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.lease = ReadLease(fd)
        self.size = os.fstat(fd).st_size
        ours, theirs = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _child(fd, theirs, ours)
        os.close(theirs)
        self._pipe = os.fdopen(ours, "rb")

    def is_of(self, fd: int) -> bool:
        """Whether it reads the file that is open as ``fd``."""
        one, other = os.fstat(self._fd), os.fstat(fd)
        return (one.st_dev, one.st_ino, self.size) == (other.st_dev, other.st_ino, other.st_size)

    def result(self, advance: Callable[[int], None]) -> Optional[Tuple[str, Tuple[int, ...]]]:
        """Wait, once, for the SHA-256 in hex and the CRC-32 of each piece of :data:`PIECE` bytes.

        None if it could not be made: who reads the file will learn why. ``advance`` is told how many bytes more were
        read.
        """
        told = 0
        while True:
            report = self._pipe.read(_REPORT.size)
            if len(report) < _REPORT.size:
                return None
            (position,) = _REPORT.unpack(report)
            if position == _DONE:
                break
            advance(position - told)
            told = position
        count = -(-self.size // PIECE)
        rest = self._pipe.read(32 + 4 * count)
        if len(rest) < 32 + 4 * count:
            return None
        advance(self.size - told)
        return rest[:32].hex(), struct.unpack(f"<{count}I", rest[32:])

    def close(self) -> None:
        """End it, done or not."""
        if self._pid:
            self._pipe.close()
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def _child(fd: int, pipe: int, other: int) -> NoReturn:
    try:
        os.close(other)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # nobody is left to whom this matters
        _digest(fd, pipe)
    finally:
        os._exit(0)


def _digest(fd: int, pipe: int) -> None:
    sha256 = hashlib.sha256()
    checks: List[int] = []
    position = 0
    while piece := os.pread(fd, PIECE, position):
        sha256.update(piece)
        checks.append(crc32(piece))
        position += len(piece)
        if len(checks) % _TELL == 0:
            os.write(pipe, _REPORT.pack(position))
    answer = memoryview(_REPORT.pack(_DONE) + sha256.digest() + struct.pack(f"<{len(checks)}I", *checks))
    while answer:
        answer = answer[os.write(pipe, answer) :]
