"""A listing of a root image's files for people, as ``ls -l`` has it."""

from __future__ import annotations

import os
import stat
from datetime import datetime, timezone

from respin.rootfiles import RootFile
from respin.safepath import show


def line(file: RootFile) -> str:
    """Mode, links, owner:group, size or device, time (UTC), path, what a link points at, names of attributes."""
    size = str(file.size)
    if stat.S_ISCHR(file.mode) or stat.S_ISBLK(file.mode):
        size = f"{os.major(file.rdev)},{os.minor(file.rdev)}"
    when = datetime.fromtimestamp(file.mtime, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    name = show(file.path) + (f" -> {show(file.target)}" if file.target is not None else "")
    more = f"  [{' '.join(show(one) for one in sorted(file.xattrs))}]" if file.xattrs else ""
    owner = f"{file.uid}:{file.gid}"
    return f"{stat.filemode(file.mode)} {file.nlink:>3} {owner:<9} {size:>10} {when} {name}{more}"
