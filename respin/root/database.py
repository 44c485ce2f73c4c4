"""Which rpm database a root has. rpm writes a new, empty one beside a kind that it cannot open, and reports success.

Found by the files that rpm's backends keep in the database directory (rpm, lib/backend/).
"""

from __future__ import annotations

import os
from typing import Mapping

from respin.errors import UnsupportedError
from respin.root.chroot import resolve

_BACKENDS: Mapping[str, str] = {"rpmdb.sqlite": "sqlite", "Packages.db": "ndb", "Packages": "bdb"}


def require_sqlite(root: str, dbpath: str) -> str:
    """The real path, inside ``root``, of the sqlite database's directory; UnsupportedError for any other kind."""
    place = resolve(root, dbpath)
    present = [b for name, b in _BACKENDS.items() if place and os.path.isfile(f"{root}{place}/{name}")]
    if not present or place is None:
        raise UnsupportedError(
            "the root has no rpm database there", where=dbpath, remedy="only a Node built from RPMs can take plugins"
        )
    if present != ["sqlite"]:
        raise UnsupportedError(
            f"the root's rpm database is of the kind {' and '.join(present)}; only sqlite can be written",
            where=dbpath,
            remedy="use a Node whose rpm is 4.16 or newer",
            finding="rpmdb-backend",
        )
    return place
