"""Path names inside a root: what a name really means once the root's own symbolic links are followed."""

from __future__ import annotations

import stat
from typing import Any, List, Optional

from respin.errors import MalformedError
from respin.limits import LIMITS
from respin.roottree import RootTree
from respin.safepath import show

MAX_LINKS = 40


def real_path(root: RootTree[Any], path: str) -> str:
    """``path`` with every symbolic link of the root resolved inside the root; what doesn't exist is kept as it is.

    ``/lib/modules/x`` becomes ``/usr/lib/modules/x`` on a merged-usr Node. Raises MalformedError on a loop of links.
    """
    done: List[str] = []
    todo = [part for part in reversed(path.split("/")) if part]
    links = 0
    while todo:
        part = todo.pop()
        if part == ".":
            continue
        if part == "..":
            del done[-1:]
            continue
        here = "/" + "/".join([*done, part])
        inode = root.lookup(here)
        if inode is None or not stat.S_ISLNK(inode.mode):
            done.append(part)
            continue
        links += 1
        if links > MAX_LINKS:
            raise MalformedError("too many symbolic links, or a loop of them", where=f"{root.view.name}:{show(path)}")
        target = root.readlink(inode)
        if target.startswith("/"):
            done = []
        todo += [piece for piece in reversed(target.split("/")) if piece]
    return "/" + "/".join(done)


def real_parent(root: RootTree[Any], path: str) -> str:
    """``path`` with its directory resolved and its last part kept: what a program that creates ``path`` creates."""
    directory, _, name = path.rstrip("/").rpartition("/")
    parent = real_path(root, directory or "/")
    return f"/{name}" if parent == "/" else f"{parent}/{name}"


def read_file(root: RootTree[Any], path: str) -> Optional[bytes]:
    """The content of a regular file of the root, or None when there is none at ``path``."""
    inode = root.lookup(path)
    return None if inode is None or not inode.is_file else root.read(inode, LIMITS.ext_directory)
