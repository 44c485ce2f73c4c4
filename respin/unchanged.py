"""Noticing that somebody writes to a file while it is read: by a lease, or by what its inode says before and after.

Looking at the inode is cheap, and no proof: times have the kernel's granularity (a few milliseconds), writes through a
memory map count when they are flushed, and the inode of a block device says nothing of writes to it. Against somebody
who can write to the file at any time nothing helps but a lease, where there is one, or a copy that they cannot change.
"""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import contextmanager
from typing import Iterator, Tuple

from respin.errors import PolicyError, UnsupportedError, VerificationError

_LOCAL = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs"))


class ReadLease:
    """The kernel's word that nobody writes to a file: a read lease (fcntl(2), F_SETLEASE) on its descriptor.

    It is only given while nobody has the file open for writing or mapped so, and breaks before anybody opens or
    truncates it, who has to wait for that as long as the descriptor is open, 45 seconds at most. Not every file system
    gives leases, and only to the file's owner. Of one that others can write to behind this kernel's back (FUSE, a
    network, the layers below an overlay) it would say nothing, so none is asked for. ``fd`` is open for reading only.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        if _file_system(fd) not in _LOCAL:
            return
        try:
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # of what may come instead of SIGIO, it is ignored by itself
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError:
            return  # then it does not hold, either

    @property
    def holds(self) -> bool:
        """Whether nobody can have written to the file since this was made."""
        try:
            return fcntl.fcntl(self._fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK
        except OSError:
            return False


def _file_system(fd: int) -> str:
    """The type of the file system that a file lies on (proc(5): fdinfo, mountinfo); empty if that is not known."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
            mount = next(line.split()[1] for line in info if line.startswith("mnt_id:"))
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            fields = next(line.split() for line in mounts if line.split(" ", 1)[0] == mount)
        return fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError, StopIteration):
        return ""


@contextmanager
def unchanged(fd: int, where: str) -> Iterator[None]:
    """Raise VerificationError if the file was written to, cut or replaced in place meanwhile.

    A refusal of what was read from such a file is told as the change that it comes from.
    """
    before = _stamp(fd)
    with changes_told(fd, where):
        yield
    if _stamp(fd) != before:
        raise _changed(where)


@contextmanager
def changes_told(fd: int, where: str) -> Iterator[None]:
    """The same for whoever proves otherwise that what came out is right: only a refusal is told as the change."""
    before = _stamp(fd)
    try:
        yield
    except (VerificationError, PolicyError, UnsupportedError) as error:
        if _stamp(fd) != before:
            raise _changed(where) from error
        raise


def _stamp(fd: int) -> Tuple[int, int, int]:
    status = os.fstat(fd)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _changed(where: str) -> VerificationError:
    return VerificationError(
        "the file changed while it was read, so nothing can be said about it",
        where=where,
        remedy="wait until whoever writes to it (a download?) is done, or work on a copy that nobody else can write to",
        finding="changed-while-read",
    )
