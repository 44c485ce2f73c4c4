"""Noticing that somebody writes to a file while it is read, by what its inode says before and after.

Cheap, and no proof: times have the kernel's granularity (a few milliseconds), writes through a memory map count when
they are flushed, and the inode of a block device says nothing of writes to it. Against somebody who can write to the
file at any time nothing helps but a copy that they cannot write to.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator, Tuple

from respin.errors import PolicyError, UnsupportedError, VerificationError


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
