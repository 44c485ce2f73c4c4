"""Has e2fsck look at the changed image: at a copy of its metadata if there is one, else at the whole."""

from __future__ import annotations

import os
from typing import Iterable, Sequence, Tuple

from respin import process
from respin.errors import BuildError
from respin.writing import pwrite_all

_TIMEOUT = 1800
_STEP = 1 << 20


def metadata_is_clean(fd: int, changed: Iterable[Tuple[int, int, int]], source: int, size: int) -> bool:
    """Whether e2fsck calls the metadata behind ``fd`` clean with the changed ranges in it and ``size`` bytes.

    ``changed`` lists (byte in the image, byte in ``source``, length). No says nothing yet: the copy may lack what this
    e2fsck wants to see.
    """
    os.ftruncate(fd, size)
    for offset, position, length in changed:
        for at in range(0, length, _STEP):
            data = os.pread(source, min(_STEP, length - at), position + at)
            if not data:
                raise BuildError("the file of changed blocks is too short", finding="sandbox-failed")
            pwrite_all(fd, data, offset + at)
    return _check(f"/proc/self/fd/{fd}", (fd,)).returncode == 0


def require_clean(path: str, name: str, fds: Sequence[int] = ()) -> None:
    """BuildError unless e2fsck calls the image at ``path``, which messages call ``name``, clean.

    ``fds`` are descriptors that it needs to find the image.
    """
    done = _check(path, fds)
    if done.returncode != 0:
        raise BuildError(
            f"e2fsck does not call the changed image clean: {done.explain()}",
            where=name,
            remedy="run e2fsck -fn on the vendor's image: if it complains there too, the image was damaged before",
            finding="root-not-clean",
        )


def _check(path: str, pass_fds: Sequence[int]) -> process.Completed:
    return process.run(["e2fsck", "-fn", path], check=False, timeout=_TIMEOUT, pass_fds=pass_fds)
