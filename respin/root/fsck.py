"""Has e2fsck look at the changed image."""

from __future__ import annotations

from typing import Sequence

from respin import process
from respin.errors import BuildError

_TIMEOUT = 1800


def require_clean(path: str, name: str, fds: Sequence[int] = ()) -> None:
    """BuildError unless e2fsck calls the image at ``path``, which messages call ``name``, clean.

    ``fds`` are descriptors that it needs to find the image.
    """
    done = process.run(["e2fsck", "-fn", path], check=False, timeout=_TIMEOUT, pass_fds=fds)
    if done.returncode != 0:
        raise BuildError(
            f"e2fsck does not call the changed image clean: {done.explain()}",
            where=name,
            remedy="run e2fsck -fn on the vendor's image: if it complains there too, the image was damaged before",
            finding="root-not-clean",
        )
