"""Which rpm database a root has. rpm writes a new, empty one beside a kind that it cannot open, and reports success.

Found by the files that rpm's backends keep in the database directory (rpm, lib/backend/).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Mapping

from respin.errors import UnsupportedError
from respin.root.chroot import resolve

_BACKENDS: Mapping[str, str] = {"rpmdb.sqlite": "sqlite", "Packages.db": "ndb", "Packages": "bdb"}


@dataclass(frozen=True)
class Database:
    """A root's rpm database: its directory (a real path inside the root), its kind, the name of its main file."""

    path: str
    backend: str
    file: str


def find(root: str, dbpath: str) -> Database:
    """The one database that ``root`` has in the directory ``dbpath``; UnsupportedError for none or several."""
    place = resolve(root, dbpath)
    present = [
        Database(place, backend, name)
        for name, backend in _BACKENDS.items()
        if place is not None and os.path.isfile(f"{root}{place}/{name}")
    ]
    if not present:
        raise UnsupportedError(
            "the root has no rpm database there", where=dbpath, remedy="only a Node built from RPMs can take plugins"
        )
    if len(present) > 1:
        raise UnsupportedError(
            f"the root has rpm databases of the kinds {' and '.join(one.backend for one in present)} there",
            where=dbpath,
            remedy="nobody can tell which of them counts",
            finding="rpmdb-backend",
        )
    return present[0]
