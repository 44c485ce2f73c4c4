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
    return not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text)


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
    return _leading(tuple(patterns)).fullmatch(directory.rstrip("/")) is not None


@functools.lru_cache(maxsize=64)
def _leading(patterns: Tuple[str, ...]) -> "Pattern[str]":
    """Matches the directories that lead to a path of ``patterns``, without a slash at the end."""
    leads = {_lead(pattern): None for pattern in patterns}
    return re.compile("|".join(leads) if leads else "(?!)", re.DOTALL)


def _lead(pattern: str) -> str:
    tree = pattern.endswith("/**")
    parts = [part for part in (pattern[:-3] if tree else pattern).split("/") if part]
    lead = "(?:/.*)?" if tree else ""
    for part in reversed(parts if tree else parts[:-1]):
        lead = f"(?:/{_expression(part)}{lead})?"
    return lead


@functools.lru_cache(maxsize=64)
def _compile(patterns: Tuple[str, ...]) -> "_Matcher":
    return _Matcher(patterns)


class _Matcher:
    """Patterns without ``*`` and ``?``, as most are, are looked up; the others make one regular expression."""

    def __init__(self, patterns: Tuple[str, ...]) -> None:
        self._patterns = patterns
        self._exact: Dict[str, int] = {}
        self._trees: Dict[str, int] = {}
        self._others: List[int] = []
        for number, pattern in enumerate(patterns):
            tree = pattern.endswith("/**")
            body = pattern[:-3] if tree else pattern
            if "*" in body or "?" in body:
                self._others.append(number)
            else:
                (self._trees if tree else self._exact).setdefault(body, number)
        expressions = [_expression(patterns[number]) for number in self._others]
        self._any_other = re.compile("|".join(expressions) if expressions else "(?!)", re.DOTALL)

    def first(self, path: str) -> Optional[str]:
        """The first pattern that covers ``path``."""
        ends = [end for end, character in enumerate(path) if character == "/"] + [len(path)]
        found = [self._trees[path[:end]] for end in ends if path[:end] in self._trees]
        if path in self._exact:
            found.append(self._exact[path])
        if self._any_other.fullmatch(path):
            expressions = ((number, _expression(self._patterns[number])) for number in self._others)
            found.append(next(number for number, one in expressions if re.fullmatch(one, path, re.DOTALL)))
        return self._patterns[min(found)] if found else None


def _expression(pattern: str) -> str:
    tree = pattern.endswith("/**")
    body = pattern[:-3] if tree else pattern
    parts = re.split(r"([*?])", body)
    inner = "".join({"*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part)) for part in parts)
    return inner + ("(?:/.*)?" if tree else "")


def _bad(name: str, where: str) -> MalformedError:
    return MalformedError(
        f"the path {show(name)!r} is not acceptable: it must be plain, without '.', '..', empty or unprintable parts",
        where=where,
        finding="bad-path",
    )
