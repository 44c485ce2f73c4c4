"""Outputs that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Type, Union

from respin.errors import BuildError, UsageError
from respin.naming import PART, hidden_name, link_unnamed, linked, uninterrupted, wait_for_lock
from respin.scratch import NO_SPACE, Reaper, lock_file
from respin.scratch import Workspace as Workspace
from respin.writing import write_all


class Output:
    """A file that has no name until :meth:`publish`: an interrupted build leaves nothing to be mistaken for a result.

    ``fd`` is open for reading and writing; ``force`` says that an existing file is to be replaced. Where the file
    system knows no files without a name, it has a hidden one (``.respin-*.part``), which is removed at the end: by the
    ``reaper`` if this process is killed, or by the next command that writes there.
    """

    def __init__(self, target: Path, *, force: bool = False, reaper: Optional[Reaper] = None) -> None:
        self.target = target
        self.force = force
        self.reaper = reaper
        self._part: Optional[Path] = None
        refuse_existing(target, force=force)
        _sweep(target.parent)
        try:
            self.fd = self._open()
        except OSError as error:
            raise cannot_write(target, error) from error
        lock_file(self.fd)

    def _open(self) -> int:
        try:
            return os.open(self.target.parent, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
        self._part = self._hidden_name()
        return os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def _hidden_name(self) -> Path:
        part = hidden_name(self.target)
        if self.reaper is not None:
            self.reaper.unlink(part)
        return part

    @contextmanager
    def writing(self) -> Iterator[None]:
        """For code that writes to :attr:`fd` and to no other file: a failure to do so names the output."""
        try:
            yield
        except OSError as error:
            raise cannot_write(self.target, error) from error

    def prepare(self) -> None:
        """Bring it all to the disk, and everything that can fail behind us."""
        with self.writing():
            os.fsync(self.fd)
            if self.force and self._part is None:
                part = self._hidden_name()
                link_unnamed(self.fd, part)
                self._part = part

    @property
    def identity(self) -> Tuple[int, int]:
        """Device and inode number."""
        status = os.fstat(self.fd)
        return status.st_dev, status.st_ino

    def publish(self) -> None:
        """Give the file its name, on disk; nobody ever sees half of it."""
        publish_all([self])

    def _name(self) -> None:
        """One system call; see :func:`publish_all`."""
        if self._part is None:
            link_unnamed(self.fd, self.target)
        elif self.force:
            os.replace(self._part, self.target)
            self._part = None
        elif not linked(self._part, self.target):
            refuse_existing(self.target, force=False)
            os.rename(self._part, self.target)  # a file system without links, such as a USB stick's
            self._part = None

    def close(self) -> None:
        """Give up the descriptor, and the file if it was not published."""
        os.close(self.fd)
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> "Output":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


def publish_all(outputs: Sequence[Output], stale: Iterable[Path] = ()) -> None:
    """Give files their names, in this order, and remove the ``stale`` ones beside them: all or none.

    What they replace comes back when one of them fails, and when this process is killed in between: the first one's
    reaper sees to that. Ctrl-C and SIGTERM wait for the few system calls that it takes, and so does another command
    that publishes in one of these directories. Only a power cut in between, or a kill of the reaper, too, leaves some
    with the new name and some without; so does any kill where the file system has no hard links.
    """
    for output in outputs:
        output.prepare()
    parent, reaper = outputs[-1].target.parent, outputs[-1].reaper
    new = {output.target: output for output in outputs}
    with ExitStack() as stack:
        directories = _locked({output.target.parent for output in outputs}, stack)
        stack.enter_context(uninterrupted())
        undo: List[Tuple[Path, Optional[Path]]] = []  # (what was named or removed, the file that was there before)
        replaced = [*stale, *(path for path, output in new.items() if output.force)]
        kept = {path: hidden_name(path) for path in replaced if os.path.lexists(path)}
        if reaper is not None:
            ours = {path: output.identity for path, output in new.items()}
            reaper.undo([(path, kept.get(path), ours.get(path)) for path in {**kept, **ours}])
            for second in kept.values():
                reaper.unlink(second)
        target = parent
        try:
            for old, second in kept.items():
                if linked(old, second):
                    undo.append((old, second))
            for target in kept:
                if target not in new:
                    target.unlink(missing_ok=True)
            for output in outputs:
                target = output.target
                output._name()
                if all(path != target for path, _ in undo):
                    undo.append((target, None))
            target = parent
            for directory in directories:
                os.fsync(directory)
        except BaseException as error:
            for path, before in undo:
                if before is None:
                    path.unlink(missing_ok=True)
                else:
                    os.replace(before, path)
                    before.unlink(missing_ok=True)  # what has two names already keeps both, by rename(2)
            if isinstance(error, FileExistsError):
                raise _exists(target) from error
            if isinstance(error, OSError):
                raise cannot_write(target, error) from error
            raise
        finally:
            if reaper is not None:
                reaper.published()
        for _, before in undo:
            if before is not None:
                before.unlink(missing_ok=True)


def _locked(paths: Iterable[Path], stack: ExitStack) -> List[int]:
    """These directories open, each once however it is spelt, and locked in an order that all commands agree on."""
    found: Dict[Tuple[int, int], int] = {}
    for path in paths:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, directory)
        status = os.fstat(directory)
        found.setdefault((status.st_dev, status.st_ino), directory)
    for _, directory in sorted(found.items()):
        wait_for_lock(directory)
    return list(found.values())


def staged_file(
    target: Path,
    data: Union[bytes, Iterable[bytes]],
    *,
    force: bool = False,
    reaper: Optional[Reaper] = None,
) -> Output:
    """A file with its content (whole, or in pieces) on the disk and without its name so far."""
    output = Output(target, force=force, reaper=reaper)
    try:
        with output.writing():
            for piece in [data] if isinstance(data, bytes) else data:
                write_all(output.fd, piece)
        output.prepare()
    except BaseException:
        output.close()
        raise
    return output


def write_file(target: Path, data: bytes, *, force: bool = False) -> None:
    """Write a small file whole or not at all."""
    with Reaper() as reaper, staged_file(target, data, force=force, reaper=reaper) as output:
        output.publish()


def refuse_existing(target: Path, *, force: bool) -> None:
    """UsageError if ``target`` exists and ``force`` was not asked for, or can't be a file."""
    if target.is_dir():
        raise UsageError("the output is a directory", where=str(target), remedy="name a file with -o")
    if not force and (target.exists() or target.is_symlink()):
        raise _exists(target)
    if not target.parent.is_dir():
        raise UsageError("the output's directory does not exist", where=str(target.parent), remedy="make it first")


def refuse_inputs(targets: Iterable[Optional[Path]], inputs: Iterable[Optional[Path]]) -> None:
    """UsageError if a file to be written is one of those that are read, or lies in a directory that is.

    Even --force doesn't overwrite those. None stands for what was not given.
    """
    sources = [source for source in inputs if source is not None and source.exists()]
    for target in targets:
        if target is None or not target.exists():
            continue
        for source in sources:
            # The trust store or a GnuPG home: what is in it is read, too.
            there = target.resolve().parents if source.is_dir() else (target,)
            if any(os.path.samefile(one, source) for one in there):
                raise UsageError(
                    "the output would overwrite an input", where=str(target), remedy="name another file for the output"
                )


def refuse_same(targets: Iterable[Optional[Path]]) -> None:
    """UsageError if two files to be written are one; None stands for what was not asked for."""
    found = [Path(os.path.realpath(target)) for target in targets if target is not None]
    for target in found:
        if found.count(target) > 1:
            raise UsageError("two of the outputs would be the same file", where=str(target), remedy="name another")


def _exists(target: Path) -> UsageError:
    return UsageError(
        "the output exists already", where=str(target), remedy="name another, or overwrite it with --force"
    )


def cannot_write(target: Path, error: OSError) -> BuildError:
    """What to say when an output can't be written."""
    full = error.errno in NO_SPACE
    return BuildError(
        f"cannot write the output: {error.strerror}",
        where=str(target),
        remedy="free some space there" if full else "check the directory",
        finding="no-space" if full else "cannot-write",
    )


def _sweep(directory: Path) -> None:
    """Remove what killed commands left in ``directory``: files that nobody holds a lock on."""
    place = -1
    try:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not lock_file(place):
            return  # somebody publishes there right now
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if PART.fullmatch(entry.name)]
        for name in names:
            fd = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if lock_file(fd):
                    (directory / name).unlink(missing_ok=True)
            finally:
                os.close(fd)
    except OSError:
        pass  # somebody else's, or gone meanwhile; nothing depends on it
    finally:
        if place >= 0:
            os.close(place)
