"""Private temporary space that goes away however the process ends, and outputs that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Iterable, Optional, Type

from respin.errors import BuildError, UsageError

# Waits until its standard input is closed, which the kernel does when the parent dies of anything, then tidies up.
_REAPER = "import shutil,sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


class Workspace:
    """A directory (mode 0700) for temporary files; removed at the end, even when this process is killed."""

    def __init__(self, tmpdir: Optional[Path] = None) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix="respin-", dir=tmpdir))
        except OSError as error:
            raise BuildError(
                f"cannot make a temporary directory: {error.strerror}",
                where=str(tmpdir or tempfile.gettempdir()),
                remedy="name a writable directory with --tmpdir",
                finding="temporary-space",
            ) from error
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _REAPER, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def directory(self, name: str) -> Path:
        """A new empty directory of the given name in the workspace."""
        path = self.path / name
        path.mkdir(mode=0o700)
        return path

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._reaper.stdin:
            self._reaper.stdin.close()
        self._reaper.wait()

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


class Output:
    """A file that has no name until :meth:`publish`: an interrupted build leaves nothing to be mistaken for a result.

    ``fd`` is open for reading and writing; ``force`` says that an existing file is to be replaced.
    """

    def __init__(self, target: Path, *, force: bool = False) -> None:
        self.target = target
        self.force = force
        self._temporary: Optional[Path] = None
        refuse_existing(target, force=force)
        try:
            self.fd = os.open(target.parent, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise _cannot_write(target, error) from error
            self._temporary = target.parent / f".{target.name}.{os.getpid()}.part"
            self.fd = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def publish(self) -> None:
        """Give the file its name, on disk; nobody ever sees half of it."""
        try:
            os.fsync(self.fd)
            if self._temporary is None and not self.force:
                _link(self.fd, self.target)
            else:
                if self._temporary is None:
                    self._temporary = self.target.parent / f".{self.target.name}.{os.getpid()}.part"
                    _link(self.fd, self._temporary)
                if self.force:
                    os.replace(self._temporary, self.target)
                else:
                    os.link(self._temporary, self.target)
                    os.unlink(self._temporary)
                self._temporary = None
            directory = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except FileExistsError as error:
            raise _exists(self.target) from error
        except OSError as error:
            raise _cannot_write(self.target, error) from error

    def close(self) -> None:
        """Give up the descriptor, and the file if it was not published."""
        os.close(self.fd)
        if self._temporary is not None:
            self._temporary.unlink()

    def __enter__(self) -> "Output":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


def staged_file(target: Path, data: bytes, *, force: bool = False) -> Output:
    """A small file with its content on the disk and without its name so far."""
    output = Output(target, force=force)
    try:
        _write_all(output.fd, data)
    except BaseException as error:
        output.close()
        if isinstance(error, OSError):
            raise _cannot_write(target, error) from error
        raise
    return output


def write_file(target: Path, data: bytes, *, force: bool = False) -> None:
    """Write a small file whole or not at all."""
    with staged_file(target, data, force=force) as output:
        output.publish()


def refuse_existing(target: Path, *, force: bool) -> None:
    """UsageError if ``target`` exists and ``force`` was not asked for, or can't be a file."""
    if target.is_dir():
        raise UsageError("the output is a directory", where=str(target), remedy="name a file with -o")
    if not force and (target.exists() or target.is_symlink()):
        raise _exists(target)
    if not target.parent.is_dir():
        raise UsageError("the output's directory does not exist", where=str(target.parent), remedy="make it first")


def refuse_inputs(targets: Iterable[Path], inputs: Iterable[Path]) -> None:
    """UsageError if a file to be written is one of those that are read: even --force doesn't overwrite those."""
    for target in targets:
        for source in inputs:
            if target.exists() and source.exists() and os.path.samefile(target, source):
                raise UsageError(
                    "the output would overwrite an input", where=str(target), remedy="name another with -o"
                )


def _link(fd: int, target: Path) -> None:
    """Give an unnamed file a name. Without a directory descriptor CPython calls link(2), which follows no symlink."""
    descriptors = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(str(fd), target, src_dir_fd=descriptors, follow_symlinks=True)
    finally:
        os.close(descriptors)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _exists(target: Path) -> UsageError:
    return UsageError(
        "the output exists already", where=str(target), remedy="name another, or overwrite it with --force"
    )


def _cannot_write(target: Path, error: OSError) -> BuildError:
    return BuildError(
        f"cannot write the output: {error.strerror}",
        where=str(target),
        remedy="free some space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the directory",
        finding="no-space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "cannot-write",
    )
