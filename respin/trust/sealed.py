"""A private copy of a file that nobody can change any more: what is verified is what is installed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from respin.byteview import ByteView, FileView, chunks
from respin.errors import MalformedError, UsageError

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

Source = Union[int, Path, ByteView]


@dataclass(frozen=True)
class Sealed:
    """An anonymous, sealed file in memory: ``fd``, its size in bytes and its SHA-256 in hex."""

    fd: int
    size: int
    sha256: str

    def view(self, name: str) -> FileView:
        """The content for parsers; ``name`` is for messages."""
        return FileView(self.fd, name)

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.fd)


def seal(source: Source, *, where: str, limit: int) -> Sealed:
    """Copy ``source`` (an open file, a path or a view) once, hashing on the way, and seal the copy.

    Raises UsageError for what is no regular file, MalformedError for one larger than ``limit`` bytes.
    """
    if isinstance(source, Path):
        opened = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return seal(opened, where=where, limit=limit)
        finally:
            os.close(opened)
    if isinstance(source, int):
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise UsageError("it is not a regular file", where=where, remedy="name a file")
        source = FileView(source, where)
    if source.size > limit:
        raise MalformedError(f"{source.size} bytes are more than the {limit} that are allowed", where=where)
    digest = hashlib.sha256()
    copy = os.memfd_create("respin-sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for chunk in chunks(source):
            digest.update(chunk)
            left = memoryview(chunk)
            while left:
                left = left[os.write(copy, left) :]
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(copy)
        raise
    return Sealed(copy, source.size, digest.hexdigest())
