"""Reading a directory as the root of somebody else's system, without ever leaving it or trusting what is in it.

Every step of a path is taken from an open directory with ``O_NOFOLLOW``; symbolic links are read and followed here,
inside the root. Nothing but regular files is opened for reading, and nothing is executed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Optional

from respin.errors import MalformedError, UsageError
from respin.root.delta import KINDS, Attributes, Kind
from respin.safepath import show

MAX_LINKS = 40
_STEP = 1 << 20
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# Not to wait for a pipe or to take a terminal, should a regular file become one between looking and opening.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class HostRoot:
    """A root directory; close it."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                f"cannot open it as a root directory: {error.strerror}",
                where=self.name,
                remedy="name the directory that is the Node's root",
            ) from error

    def close(self) -> None:
        """Give the directory back."""
        os.close(self._fd)

    def __enter__(self) -> "HostRoot":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def attributes(self, path: str, algorithm: Optional[str] = "sha256") -> Optional[Attributes]:
        """All that ``path`` is, its last part not followed; None when there is nothing.

        ``algorithm`` is that of the digest of a regular file's content, which goes where its SHA-256 belongs; None
        leaves it out.
        """
        with self._opened(path) as fd:
            if fd is None:
                return None
            status = os.fstat(fd)
            kind = KINDS[stat.S_IFMT(status.st_mode)]
            return Attributes(
                kind=kind,
                mode=stat.S_IMODE(status.st_mode),
                uid=status.st_uid,
                gid=status.st_gid,
                mtime=int(status.st_mtime),
                size=status.st_size if kind is Kind.FILE else 0,
                sha256=self._digest(fd, algorithm) if kind is Kind.FILE and algorithm else None,
                target=os.readlink("", dir_fd=fd) if kind is Kind.SYMLINK else None,
                xattrs=_xattrs(fd),
            )

    def read(self, path: str, limit: int) -> Optional[bytes]:
        """The content of a regular file, its symbolic links followed; None when there is none.

        Raises MalformedError when it has more than ``limit`` bytes.
        """
        with self._opened(self.real_path(path)) as fd:
            if fd is None or not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            with open(_reopen(fd), "rb") as stream:
                data = stream.read(limit + 1)
        if len(data) > limit:
            raise MalformedError(f"the file has more than {limit} bytes", where=f"{self.name}:{show(path)}")
        return data

    def listdir(self, path: str) -> Optional[List[str]]:
        """The names in a directory, sorted; None when ``path`` is none."""
        with self._opened(path) as fd:
            if fd is None or not stat.S_ISDIR(os.fstat(fd).st_mode):
                return None
            directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            try:
                return sorted(os.listdir(directory))
            finally:
                os.close(directory)

    def real_path(self, path: str) -> str:
        """``path`` with every symbolic link resolved inside the root; what doesn't exist is kept as it is."""
        done: List[str] = []
        todo = [part for part in reversed(path.split("/")) if part]
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                del done[-1:]
            if part in (".", ".."):
                continue
            target = self._link("/" + "/".join([*done, part]))
            if target is None:
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise MalformedError("too many symbolic links, or a loop of them", where=f"{self.name}:{show(path)}")
            if target.startswith("/"):
                done = []
            todo += [piece for piece in reversed(target.split("/")) if piece]
        return "/" + "/".join(done)

    def _link(self, path: str) -> Optional[str]:
        with self._opened(path) as fd:
            if fd is None or not stat.S_ISLNK(os.fstat(fd).st_mode):
                return None
            return os.readlink("", dir_fd=fd)

    @contextmanager
    def _opened(self, path: str) -> Iterator[Optional[int]]:
        """A descriptor (``O_PATH``) of a path in which nothing is followed; None when there is nothing there."""
        fd = os.dup(self._fd)
        try:
            for part in [part for part in path.split("/") if part]:
                if part in (".", ".."):
                    raise MalformedError("the path is not a plain one", where=f"{self.name}:{show(path)}")
                following = os.open(part, _PATH, dir_fd=fd)
                os.close(fd)
                fd = following
        except OSError as error:
            os.close(fd)
            if error.errno not in _MISSING:
                raise
            yield None
            return
        except BaseException:
            os.close(fd)
            raise
        try:
            yield fd
        finally:
            os.close(fd)

    def _digest(self, fd: int, algorithm: str) -> str:
        digest = hashlib.new(algorithm)
        with open(_reopen(fd), "rb", buffering=0) as stream:
            while piece := stream.read(_STEP):
                digest.update(piece)
        return digest.hexdigest()


def _reopen(fd: int) -> int:
    """A readable descriptor of the very file that an ``O_PATH`` descriptor of a regular file stands for."""
    # The kernel's own link: it leads to the inode, not to a name (proc(5)).
    return os.open(f"/proc/self/fd/{fd}", _READ & ~os.O_NOFOLLOW)


def _xattrs(fd: int) -> Dict[str, bytes]:
    place = f"/proc/self/fd/{fd}"
    try:
        return {name: os.getxattr(place, name) for name in os.listxattr(place)}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.ELOOP):
            return {}
        raise
