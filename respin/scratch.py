"""Private temporary space that goes away however the process ends.

Three nets, one below the other: whoever made it removes it; a *reaper*, a process in a session of its own, does when
its maker was killed; and what is left when both were killed at once (a whole container, the machine) is removed by the
next command that makes such a directory in the same place. It can tell by a lock that the dead no longer hold.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import List, Mapping, Optional, Sequence, Tuple, Type

from respin.errors import BuildError

_NAME = re.compile(r"respin-[0-9a-f]{16}")
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Reads its orders until its standard input is closed, which the kernel does when the parent dies of anything. A parent
# that ends by itself says so; one that was killed may have left a program that starts again what was just ended.
_REAPER = """
import json, os, shutil, subprocess, sys, time  # all now: at the end somebody waits
lines = [json.loads(line) for line in sys.stdin]
killed = not (lines and lines[-1] == "end")
def status(path):
    try:
        found = os.lstat(path)
        return [found.st_dev, found.st_ino]
    except OSError:
        return None
def undo(path, kept, ours):
    now = status(path)
    if kept is None or status(kept) is None:
        if now is not None and now == ours and kept is None:
            os.unlink(path)
    elif now is None or now == ours:
        os.replace(kept, path)
    else:
        os.unlink(kept)
unfinished = []
for order in lines if killed else []:
    if order == "published":
        unfinished = []
    elif isinstance(order, dict) and "undo" in order:
        unfinished = order["undo"]
for one in unfinished:
    try:
        undo(*one)
    except OSError:
        pass
for order in lines if killed else []:
    if isinstance(order, dict) and "unlink" in order:
        try:
            os.unlink(order["unlink"])
        except OSError:
            pass
for again in range(1 + killed):
    for order in lines:
        if isinstance(order, dict) and "run" in order:
            time.sleep(again)
            null = subprocess.DEVNULL
            subprocess.run(order["run"], env=order["env"], stdin=null, stdout=null, stderr=null)
for order in lines:
    if isinstance(order, dict) and "remove" in order:
        shutil.rmtree(order["remove"], ignore_errors=True)
        for again in range(100 * killed):  # programs that it had started may still write there
            if status(order["remove"]) is None:
                break
            time.sleep(0.1)
            shutil.rmtree(order["remove"], ignore_errors=True)
"""


class Reaper:
    """A process that does what it was told as soon as this one ends or says :meth:`close`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _REAPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def remove(self, path: Path) -> None:
        """Remove a directory with all that is in it, when everything was run."""
        self._order({"remove": str(path)})

    def run(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Run a program; whatever it says is lost."""
        self._order({"run": list(argv), "env": dict(env)})

    def unlink(self, path: Path) -> None:
        """Remove a file, if this process is killed."""
        self._order({"unlink": str(path.absolute())})

    def undo(self, names: Sequence[Tuple[Path, Optional[Path], Optional[Tuple[int, int]]]]) -> None:
        """Take back the giving of names if this process is killed before it says :meth:`published`.

        For each name: a second name of the file that it had before, if there was one, and device and inode number of
        the one that it gets, if it gets one. A name that somebody else has given meanwhile stays as it is.
        """
        self._order(
            {"undo": [(str(path.absolute()), kept and str(kept.absolute()), ours) for path, kept, ours in names]}
        )

    def published(self) -> None:
        """There is nothing to take back any more."""
        self._order("published")

    def end(self) -> None:
        """Have it all done now, while this process goes on."""
        if self._process.stdin and not self._process.stdin.closed:
            try:
                self._order("end")
            finally:
                self._process.stdin.close()

    def close(self) -> None:
        """Have it all done now, and wait for it."""
        try:
            self.end()
        finally:
            self._process.wait()

    def dismiss(self) -> None:
        """Let nothing be done."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()

    def _order(self, order: object) -> None:
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), json.dumps(order).encode("ascii") + b"\n")
        except BrokenPipeError:
            pass  # somebody killed it; the other nets hold

    def __enter__(self) -> "Reaper":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


class Workspace:
    """A directory (mode 0700) for temporary files; removed at the end, even when this process is killed.

    ``reaper`` removes it, and takes further orders. A full disk that is met within its context is told as what it is:
    a BuildError that names the directory.
    """

    def __init__(self, tmpdir: Optional[Path] = None) -> None:
        place = Path(tmpdir or _default()).absolute()
        _sweep(place)
        self.path = place / f"respin-{secrets.token_hex(8)}"
        self._lock = -1
        self.reaper = Reaper()
        try:
            # Told first: there is no moment at which the directory is there and nobody would remove it.
            self.reaper.remove(self.path)
            self._make()
        except OSError as error:
            self.reaper.dismiss()
            raise BuildError(
                f"cannot make a temporary directory: {error.strerror}",
                where=str(place),
                remedy="name a writable directory with --tmpdir",
                finding="temporary-space",
            ) from error

    def _make(self) -> None:
        while self._lock < 0:
            self.path.mkdir(mode=0o700)
            self._lock = _locked(self.path, wait=True)  # a sweep may have found it before it was locked

    def directory(self, name: str) -> Path:
        """A new empty directory of the given name in the workspace."""
        path = self.path / name
        path.mkdir(mode=0o700)
        return path

    def close(self) -> None:
        """Remove everything."""
        self.reaper.close()
        shutil.rmtree(self.path, ignore_errors=True)  # in case somebody killed the reaper
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()
        # Outputs name themselves (respin.workspace), so what has no name is one of the files that lie here
        inside = isinstance(error, OSError) and str(error.filename or self.path).startswith(str(self.path))
        if isinstance(error, OSError) and inside and error.errno in NO_SPACE:
            raise temporary_space_full(self.path.parent, error) from error


def temporary_space_full(place: Path, error: OSError) -> BuildError:
    """What to say when a temporary file below ``place`` has no room."""
    return BuildError(
        f"there is no room for temporary files: {error.strerror}",
        where=str(place),
        remedy="free some space there, or name another directory with --tmpdir",
        finding="no-space",
    )


def lock_file(fd: int) -> bool:
    """Hold a lock on an open file or directory as long as ``fd`` is open: the sign of a living owner.

    False when somebody else holds it, or when the file system has no such locks.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _default() -> str:
    try:
        return tempfile.gettempdir()
    except OSError as error:
        raise BuildError(
            "there is no directory for temporary files that can be written to",
            where="$TMPDIR, /tmp, /var/tmp",
            remedy="name a writable directory with --tmpdir",
            finding="temporary-space",
        ) from error


def _sweep(place: Path) -> None:
    """Remove the directories of commands that were killed together with their reapers."""
    try:
        with os.scandir(place) as entries:
            names: List[str] = [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
    except OSError:
        return
    for name in names:
        path = place / name
        try:
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            lock = _locked(path, wait=False)
        except OSError:
            continue
        if lock >= 0:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _locked(path: Path, *, wait: bool) -> int:
    """A descriptor that holds the lock on the directory at ``path``; -1 if others have it or it is gone meanwhile."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if wait and error.errno != errno.EINTR:
                return fd  # a file system without locks: nobody sweeps there either
            raise
        if os.fstat(fd).st_ino != os.stat(path, follow_symlinks=False).st_ino:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except OSError:
        os.close(fd)
        return -1
    except BaseException:
        os.close(fd)
        raise
    return fd
