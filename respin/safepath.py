"""Paths from untrusted input: member names of bundles, file names of RPMs, names in file systems."""

from __future__ import annotations

import functools
import posixpath
import re
import unicodedata
from typing import Dict, Iterable, List, Optional, Pattern, Tuple

from respin.errors import MalformedError


def relative(name: str, *, where: str) -> str:
    """``name`` if it is a plain relative path: no ``..``, no ``.``, no empty part, nothing a terminal would interpret.

    Raises MalformedError otherwise. The path is returned unchanged: normalising would accept two names for one thing.
    """
    if not name or name.startswith("/") or len(name) > 4096:
        raise _bad(name, where)
    if any(part in ("", ".", "..") or len(part.encode("utf-8", "surrogateescape")) > 255 for part in name.split("/")):
        raise _bad(name, where)
    if not printable(name):
        raise _bad(name, where)
    return name


def absolute(path: str, *, where: str) -> str:
    """``path`` if it is a canonical absolute path ("/" or as :func:`relative` behind one slash)."""
    if path != "/":
        if not path.startswith("/"):
            raise _bad(path, where)
        relative(path[1:], where=where)
    return path


def printable(text: str) -> bool:
    """Whether ``text`` holds no control, format, surrogate or line-separating character."""
    # What str.isprintable() takes has none of these; it refuses more: other spaces, characters without a meaning.
    return text.isprintable() or not any(unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in text)


def show(text: str) -> str:
    """``text`` made safe for a message: whatever a terminal would interpret is escaped."""
    return "".join(c if printable(c) else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def parents(path: str) -> Iterable[str]:
    """Every directory above an absolute ``path``, nearest first, ending with "/"."""
    while path != "/":
        path = posixpath.dirname(path)
        yield path


def first_match(path: str, patterns: Iterable[str]) -> Optional[str]:
    """The first of ``patterns`` that covers ``path``.

    A pattern is a path in which ``*`` and ``?`` match within one part; ``/**`` at the end covers the directory itself
    and everything below it.
    """
    return _compile(tuple(patterns)).first(path)


def may_match_below(directory: str, patterns: Iterable[str]) -> bool:
    """Whether one of ``patterns`` could cover a path below the absolute path ``directory``."""
    return _compile(tuple(patterns)).lead_on_from(directory)


@functools.lru_cache(maxsize=64)
def _compile(patterns: Tuple[str, ...]) -> "_Matcher":
    return _Matcher(patterns)


class _Matcher:
    """Patterns as a tree of their parts: hundreds of them in one regular expression take longer to compile than all
    that is matched with it."""

    def __init__(self, patterns: Tuple[str, ...]) -> None:
        self._patterns = patterns
        self._root = _Part()
        for number, pattern in enumerate(patterns):
            tree = pattern.endswith("/**")
            last = self._root
            for part in (pattern[:-3] if tree else pattern).split("/"):
                last = last.add(part)
            (last.trees if tree else last.ends).append(number)

    def first(self, path: str) -> Optional[str]:
        """The first pattern that covers ``path``."""
        found: List[int] = []
        reached = [self._root]
        for part in path.split("/"):
            reached = [further for one in reached for further in one.matching(part)]
            found += [number for one in reached for number in one.trees]
        found += [number for one in reached for number in one.ends]
        return self._patterns[min(found)] if found else None

    def lead_on_from(self, directory: str) -> bool:
        """Whether a pattern could cover something below ``directory``."""
        reached = [self._root]
        for part in directory.rstrip("/").split("/"):
            reached = [further for one in reached for further in one.matching(part)]
            if any(one.trees for one in reached):
                return True
        return any(one.leads_on for one in reached)


class _Part:
    """One part of some patterns: what may follow it, the patterns that end with it, those that cover all below it."""

    def __init__(self) -> None:
        self.ends: List[int] = []
        self.trees: List[int] = []
        self._plain: Dict[str, "_Part"] = {}
        self._others: Dict[str, Tuple["Pattern[str]", "_Part"]] = {}

    @property
    def leads_on(self) -> bool:
        """Whether anything may follow."""
        return bool(self._plain or self._others)

    def add(self, part: str) -> "_Part":
        """What follows as ``part`` of a pattern."""
        if "*" not in part and "?" not in part:
            return self._plain.setdefault(part, _Part())
        if part not in self._others:
            pieces = re.split(r"([*?])", part)
            expression = "".join({"*": ".*", "?": "."}.get(piece, re.escape(piece)) for piece in pieces)
            self._others[part] = (re.compile(expression, re.DOTALL), _Part())
        return self._others[part][1]

    def matching(self, part: str) -> "List[_Part]":
        """What follows if it is the ``part`` of a path."""
        found = [further for expression, further in self._others.values() if expression.fullmatch(part)]
        return [*found, self._plain[part]] if part in self._plain else found


def _bad(name: str, where: str) -> MalformedError:
    return MalformedError(
        f"the path {show(name)!r} is not acceptable: it must be plain, without '.', '..', empty or unprintable parts",
        where=where,
        finding="bad-path",
    )
