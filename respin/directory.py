"""A directory of outputs that appears whole or not at all.

It is made beside its place, in a directory that goes away however the process ends, and gets its name in one system
call. What is there already is replaced only if it was made this way and nothing was put into it since.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Dict, Iterable, Iterator, Optional, Set, Type

from respin.errors import BuildError, UsageError
from respin.limits import LIMITS
from respin.naming import exchange, move_unless_there, uninterrupted
from respin.safepath import relative, show
from respin.scratch import Workspace
from respin.workspace import cannot_write
from respin.writing import write_all

SUMS = "SHA256SUMS"


class OutputDirectory:
    """A directory with no name until :meth:`publish`. A context manager: leaving it removes what was not published.

    ``when`` is the time of everything in it, in seconds since 1970. :data:`SUMS` lists the SHA-256 of every file, as
    ``sha256sum -c`` reads it.
    """

    def __init__(self, target: Path, when: int, *, force: bool = False) -> None:
        self.target = target
        self.force = force
        self.sums: Dict[str, str] = {}
        self._when = when
        refuse_existing_directory(target, force=force)
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise cannot_write(target, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        self._workspace = _beside(target)
        self._path = self._workspace.path / "new"
        try:
            with self._writing():
                self._path.mkdir(mode=0o755)
        except BaseException:
            self._workspace.close()
            raise

    def write(self, name: str, pieces: Iterable[bytes]) -> int:
        """Write a file, its directories made as needed, and return its size; ``name`` is a plain relative path."""
        path = self._path / relative(name, where=str(self.target))
        digest, size = hashlib.sha256(), 0
        with self._writing():
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                with self._writing():
                    write_all(fd, piece)
            with self._writing():
                os.fsync(fd)
        finally:
            os.close(fd)
        self.sums[name] = digest.hexdigest()
        return size

    def publish(self) -> None:
        """Bring it all to the disk and give the directory its name."""
        listed = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.sums.items()))
        self.write(SUMS, [listed.encode("utf-8")])
        with self._writing():
            for directory, _, names in os.walk(self._path, topdown=False):
                for name in names:
                    os.utime(os.path.join(directory, name), (self._when, self._when))
                os.utime(directory, (self._when, self._when))
                _sync(Path(directory))
            with uninterrupted():
                self._name()
                _sync(self.target.parent)

    def _name(self) -> None:
        if self.force and os.path.lexists(self.target):
            refuse_existing_directory(self.target, force=True)
            if not exchange(self._path, self.target):
                raise BuildError(
                    "this file system cannot replace a directory in one step",
                    where=str(self.target),
                    remedy="remove it first, or name another",
                    finding="cannot-write",
                )
            return
        try:
            move_unless_there(self._path, self.target)
        except FileExistsError as error:
            raise _exists(self.target) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self.target, error) from error

    def __enter__(self) -> OutputDirectory:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._workspace.close()


def _beside(target: Path) -> Workspace:
    try:
        return Workspace(target.parent)
    except BuildError as error:
        if isinstance(error.__cause__, OSError):
            raise cannot_write(target, error.__cause__) from error
        raise


def refuse_existing_directory(target: Path, *, force: bool) -> None:
    """UsageError if ``target`` exists, unless ``force`` says to replace it and all in it was made by respin."""
    if not target.parent.is_dir():
        raise UsageError("the output's directory does not exist", where=str(target.parent), remedy="make it first")
    if not os.path.lexists(target):
        return
    if not force:
        raise _exists(target)
    if target.is_symlink() or not target.is_dir():
        raise UsageError("the output is no directory", where=str(target), remedy="name a directory with -o")
    listed = _listed(target)
    for directory, folders, names in os.walk(target):
        links = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        for name in sorted(links + names):
            path = os.path.relpath(os.path.join(directory, name), target)
            if path not in listed:
                raise UsageError(
                    f"the directory holds {show(path)}, which its {SUMS} does not name: --force would lose it",
                    where=str(target),
                    remedy="name a directory of its own with -o, or move away what respin did not write",
                    finding="foreign-file",
                )


def _listed(target: Path) -> Set[str]:
    """The files that :data:`SUMS` in a directory names, and itself; nothing when there is none."""
    try:
        with (target / SUMS).open("rb") as file:
            text = file.read(LIMITS.checksum_file).decode("utf-8", "surrogateescape")
    except OSError:
        return set()
    return {SUMS, *(line[66:] for line in text.splitlines() if line[64:66] == "  ")}


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _exists(target: Path) -> UsageError:
    return UsageError("the output exists already", where=str(target), remedy="name another, or replace it with --force")
