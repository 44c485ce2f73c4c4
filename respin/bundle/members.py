"""The members of a bundle, copied once to a private place and hashed on the way.

Everything after this point reads the private copies: what was hashed is what is verified and installed, whatever
happens to the file it came from.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Iterable, List, Optional, Tuple, Type

from respin.byteview import ByteView, FileView
from respin.errors import MalformedError


@dataclass(frozen=True)
class Member:
    """One file of a bundle: its name in the bundle, length, SHA-256 (hex) and private content."""

    name: str
    size: int
    sha256: str
    view: ByteView
    fd: int

    def read(self) -> bytes:
        """The whole content; for the small members."""
        return self.view.read(0, self.size)


class Store:
    """Owns private copies: files without a name below ``tmpdir``, gone when the store is closed."""

    def __init__(self, tmpdir: Optional[Path]) -> None:
        self._tmpdir = tmpdir
        self._files: List[IO[bytes]] = []

    def add(self, name: str, content: Iterable[bytes], *, size: int, where: str) -> Member:
        """Copy a member of exactly ``size`` bytes; raises MalformedError when ``content`` is longer or shorter."""
        file = tempfile.TemporaryFile(dir=self._tmpdir, buffering=0)  # noqa: SIM115 - closed by close()
        self._files.append(file)
        digest = hashlib.sha256()
        copied = 0
        for piece in content:
            copied += len(piece)
            if copied > size:
                break
            digest.update(piece)
            _write(file.fileno(), piece)
        if copied != size:
            raise MalformedError(
                f"{name} has {'more' if copied > size else 'less'} than the {size} bytes that were announced",
                where=where,
                finding="truncated",
            )
        view = FileView(file.fileno(), f"{where}: {name}", 0, size)
        return Member(name, size, digest.hexdigest(), view, file.fileno())

    def close(self) -> None:
        """Give up every copy."""
        while self._files:
            self._files.pop().close()


@dataclass(frozen=True)
class Bundle:
    """A bundle as it was read: canonical, and not yet believed.

    ``sha256`` is that of the canonical packing, also when the bundle came as a directory. Close it when done.
    """

    path: Path
    sha256: str
    size: int
    members: Tuple[Member, ...]
    store: Store

    def member(self, name: str) -> Optional[Member]:
        """The member called ``name``."""
        return next((member for member in self.members if member.name == name), None)

    def close(self) -> None:
        """Give up the private copies."""
        self.store.close()

    def __enter__(self) -> "Bundle":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
