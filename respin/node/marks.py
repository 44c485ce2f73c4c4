"""Where a respun Node shows that it is one: its release, its name-version-release, a sentence.

A classic Node acts on an upgrade only if RELEASE differs, and imgbased refuses a layer of a name-version-release that
is there. Both compare as rpm does, so what is appended makes either one higher.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, FrozenSet, Mapping

from respin.errors import UnsupportedError
from respin.node.paths import read_file
from respin.node.profile import Marks
from respin.roottree import RootTree
from respin.safepath import show

_RELEASE = re.compile(rb"^([ \t]*RELEASE=)([\"']?)([A-Za-z0-9._~^+-]+)(\2[ \t]*\r?)$", re.M)
# imgbased: name-version-release, and a "+" begins the number of a layer.
_NVR = re.compile(rb"([A-Za-z0-9._-]+-[A-Za-z0-9._]+-[A-Za-z0-9._]+)(\s*)")
# LVM's limit for names of volumes, with room for imgbased's layer.
_LONGEST_NVR = 100
Change = Callable[[bytes, str], bytes]


def with_release(data: bytes, suffix: str, where: str) -> bytes:
    """A file of assignments with ``.suffix`` behind the value of RELEASE; every other byte stays."""
    if len(_RELEASE.findall(data)) != 1:
        raise _unsupported("has not one plain RELEASE=", where)
    return _RELEASE.sub(lambda found: found[1] + found[2] + found[3] + b"." + suffix.encode("ascii") + found[4], data)


def with_nvr(data: bytes, suffix: str, where: str) -> bytes:
    """A name-version-release with ``.suffix`` behind it."""
    found = _NVR.fullmatch(data)
    if found is None:
        raise _unsupported("holds no name-version-release", where)
    whole = found[1] + b"." + suffix.encode("ascii")
    if len(whole) > _LONGEST_NVR:
        raise _unsupported(f"would hold a name of more than {_LONGEST_NVR} characters", where)
    return whole + found[2]


def with_sentence(data: bytes, sentence: str, where: str) -> bytes:
    """A text with ``(sentence)`` at the end of its first line."""
    line, newline, rest = data.partition(b"\n")
    return line.rstrip() + f" ({sentence})".encode() + newline + rest


def marked(root: RootTree[Any], marks: Marks) -> Mapping[str, str]:
    """The files of the root that carry marks, by real path: "release", "nvr" or "line".

    UnsupportedError when one that the Node compares is missing.
    """
    found: Dict[str, str] = {}
    for path, kind in _named(marks):
        for place in (path, _factory(path, marks)):
            real = root.resolve(place) if place else None
            if real is not None and real.inode.is_file:
                found.setdefault(real.path, kind)
            elif place == path and kind != "line":
                raise _unsupported("is missing, and the Node compares it", f"{root.view.name}:{path}")
    return found


def marked_paths(root: RootTree[Any], marks: Marks) -> FrozenSet[str]:
    """The paths that :func:`marked` finds."""
    return frozenset(marked(root, marks))


def root_marks(root: RootTree[Any], marks: Marks, suffix: str, sentence: str) -> Mapping[str, bytes]:
    """The new content of every file of the root that carries a mark, by real path."""
    changes: Mapping[str, Change] = {
        "release": lambda data, where: with_release(data, suffix, where),
        "nvr": lambda data, where: with_nvr(data, suffix, where),
        "line": lambda data, where: with_sentence(data, sentence, where),
    }
    found = {}
    for path, kind in marked(root, marks).items():
        found[path] = changes[kind](read_file(root, path) or b"", f"{root.view.name}:{show(path)}")
    return found


def _named(marks: Marks) -> "list[tuple[str, str]]":
    named = [(marks.version_root, "release"), (marks.nvr, "nvr"), *((path, "line") for path in marks.release_lines)]
    return [(path, kind) for path, kind in named if path]


def _factory(path: str, marks: Marks) -> str:
    """The copy of a file of /etc with which the Node compares it, if it has such copies."""
    return marks.factory + path[len("/etc") :] if marks.factory and path.startswith("/etc/") else ""


def _unsupported(what: str, where: str) -> UnsupportedError:
    return UnsupportedError(
        f"this file {what}",
        where=where,
        remedy="the Node would not notice that it was respun; its profile does not fit",
        finding="marks",
    )
