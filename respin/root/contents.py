"""The changes of a flat root for whoever writes them: the delta, and the content of files that are new or differ."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping

from respin.byteview import FileView
from respin.errors import BuildError, PolicyError
from respin.root.delta import Attributes, Delta, Entry, Kind
from respin.safepath import show
from respin.writing import pwrite_all

_STEP = 1 << 20
_WRITABLE = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO)


@dataclass(frozen=True)
class FlatChanges:
    """What to write: ``delta`` with the facts in it, and contents by path as far as they are not the vendor's.

    Of several names of one inode only the first has the content.
    """

    delta: Delta
    contents: Mapping[str, FileView]

    @classmethod
    def from_message(cls, message: Mapping[str, Any], fd: int) -> "FlatChanges":
        """What the sandbox told; the contents lie in ``fd`` and can be read as long as that is open."""
        contents = {path: FileView(fd, path, offset, size) for path, offset, size in message["contents"]}
        return cls(Delta.from_json(message["written"]), contents)


def collect(delta: Delta, sources: Mapping[str, str], upper: str, fd: int) -> Dict[str, Any]:
    """Copy every content that the vendor's file at its path does not have to ``fd``; the message that says where.

    A file's content lies at its place in ``sources``, else in ``upper``. Raises PolicyError for kinds of files that no
    plugin may add, BuildError when a content is not the one that was judged.
    """
    contents: List[List[Any]] = []
    end = 0
    for entry in delta:
        new = entry.new
        if new is None or not _carries_content(entry, new):
            continue
        contents.append([entry.path, end, new.size])
        _copy(sources.get(entry.path, upper + entry.path), entry.path, new, fd, end)
        end += new.size
    return {"written": delta.to_json(), "contents": contents}


def _carries_content(entry: Entry, new: Attributes) -> bool:
    if new.kind not in _WRITABLE:
        raise PolicyError(f"{show(entry.path)} is a {new.kind.value}; a plugin cannot add one", finding="special-file")
    if new.kind is not Kind.FILE or entry.link_group not in (None, entry.path):
        return False
    return entry.old is None or entry.old.kind is not Kind.FILE or entry.old.sha256 != new.sha256


def _copy(source: str, path: str, new: Attributes, fd: int, position: int) -> None:
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as stream:
        for piece in iter(lambda: stream.read(_STEP), b""):
            pwrite_all(fd, piece, position + size)
            digest.update(piece)
            size += len(piece)
    if (size, digest.hexdigest()) != (new.size, new.sha256):
        raise BuildError("the file changed after it was judged", where=show(path), finding="sandbox-failed")
