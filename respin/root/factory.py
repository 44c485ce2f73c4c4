"""A second copy of /etc that some Nodes keep: what changed in /etc is put there as well, with all its attributes.

imgbased compares the two when it takes a Node's configuration over to the next image: a file that is in /etc alone
would look like one that an administrator made.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
from typing import Dict, Mapping

from respin.errors import PolicyError
from respin.root import chroot
from respin.root.compare import attributes
from respin.root.delta import Attributes, Change, Delta, Entry, Kind
from respin.root.mounts import Scratch
from respin.safepath import show

ETC = "/etc"
_COPIED = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK)


def counterpart(path: str, factory: str) -> str:
    """The place in ``factory`` of a path below /etc; empty for any other path."""
    return factory + path[len(ETC) :] if factory and path.startswith(f"{ETC}/") else ""


def mirrored_times(owned: Mapping[str, int], factory: str) -> Dict[str, int]:
    """``owned``, times by path, with those of the copies."""
    return {**owned, **{copy: time for path, time in owned.items() if (copy := counterpart(path, factory))}}


def mirror(scratch: Scratch, delta: Delta, factory: str) -> bool:
    """Copy what ``delta`` adds below /etc, and what it changes there and has a copy already; whether anything was.

    Nothing is done for a root without such a directory. Raises PolicyError when a symbolic link would lead elsewhere.
    """
    copied = False
    if not factory or not os.path.isdir(scratch.lower + factory):
        return copied
    for entry in delta:
        target = counterpart(entry.path, factory)
        if not target or not is_wanted(entry, os.path.lexists(scratch.lower + target)):
            continue
        _require_plain(scratch.merged, target)
        _make_parents(scratch.merged, entry.path, target)
        _copy(scratch.merged + entry.path, scratch.merged + target)
        copied = True
    return copied


def is_wanted(entry: Entry, has_copy: bool) -> bool:
    """Whether a change below /etc belongs into the copy, which the vendor's root has of that path or not."""
    if entry.kind not in _COPIED or entry.change is Change.REMOVED:
        return False
    return entry.change is Change.ADDED or has_copy


def _make_parents(root: str, path: str, target: str) -> None:
    """Directories that the copy lacks, as they are in /etc."""
    above = posixpath.dirname(path), posixpath.dirname(target)
    if os.path.lexists(root + above[1]):
        return
    _make_parents(root, *above)
    _copy(root + above[0], root + above[1])


def _copy(source: str, target: str) -> None:
    wanted = attributes(source)
    if wanted.kind is Kind.DIRECTORY:
        if not os.path.lexists(target):
            os.mkdir(target)
    else:
        if os.path.lexists(target):
            os.unlink(target)
        if wanted.kind is Kind.SYMLINK:
            os.symlink(wanted.target or "", target)
        else:
            _copy_content(source, target)
    _set(target, wanted)


def _copy_content(source: str, target: str) -> None:
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(reading, "rb") as old:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(writing, "wb") as new:
            shutil.copyfileobj(old, new)


def _set(target: str, wanted: Attributes) -> None:
    os.lchown(target, wanted.uid, wanted.gid)
    if wanted.kind is not Kind.SYMLINK:
        os.chmod(target, wanted.mode)
    for name, value in wanted.xattrs.items():
        os.setxattr(target, name, value, follow_symlinks=False)


def _require_plain(root: str, path: str) -> None:
    """No part above ``path`` may be a symbolic link, which could lead out of the root."""
    parent = posixpath.dirname(path)
    while parent != "/":
        try:
            mode = os.lstat(root + parent).st_mode
        except FileNotFoundError:
            mode = stat.S_IFDIR
        if not stat.S_ISDIR(mode) or chroot.resolve(root, parent) not in (parent, None):
            raise PolicyError(f"{show(parent)} is no directory of its own", finding="factory")
        parent = posixpath.dirname(parent)
