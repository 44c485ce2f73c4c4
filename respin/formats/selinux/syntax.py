"""The regular expressions of file contexts as trees: the part of PCRE (pcre2pattern(3)) that is regular.

Literals, ``.``, classes, groups, alternation, greedy and lazy quantifiers. What is left out either means something
other than a set of strings (back references, assertions, possessive quantifiers) or occurs in no policy; it is refused.
Expressions are matched byte by byte, as libselinux has PCRE do it. A set of bytes is an integer with bit N for byte N.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Optional, Tuple, Union

from respin.errors import UnsupportedError
from respin.limits import LIMITS
from respin.safepath import show

ANY = (1 << 256) - 1
_MOST_REPEATS = 1000
_DEEPEST = 50


@dataclass(frozen=True)
class Bytes:
    """One byte out of a set."""

    mask: int


@dataclass(frozen=True)
class Sequence:
    """One after another; an empty one is the empty string."""

    parts: Tuple["Node", ...]


@dataclass(frozen=True)
class Choice:
    """One of several."""

    options: Tuple["Node", ...]


@dataclass(frozen=True)
class Repeat:
    """From ``least`` to ``most`` times; without an upper bound if that is None."""

    node: "Node"
    least: int
    most: Optional[int]


Node = Union[Bytes, Sequence, Choice, Repeat]


def _of(*spans: Tuple[str, str]) -> int:
    mask = 0
    for first, last in spans:
        for byte in range(ord(first), ord(last) + 1):
            mask |= 1 << byte
    return mask


_DIGIT, _LOWER, _UPPER = _of(("0", "9")), _of(("a", "z")), _of(("A", "Z"))
_ALPHA, _SPACE = _LOWER | _UPPER, _of(("\t", "\r"), (" ", " "))
_WORD, _GRAPH = _ALPHA | _DIGIT | _of(("_", "_")), _of(("!", "~"))
_NAMED: Mapping[bytes, int] = {
    b"alnum": _ALPHA | _DIGIT,
    b"alpha": _ALPHA,
    b"blank": _of(("\t", "\t"), (" ", " ")),
    b"digit": _DIGIT,
    b"graph": _GRAPH,
    b"lower": _LOWER,
    b"print": _GRAPH | _of((" ", " ")),
    b"punct": _GRAPH & ~(_ALPHA | _DIGIT),
    b"space": _SPACE,
    b"upper": _UPPER,
    b"word": _WORD,
    b"xdigit": _DIGIT | _of(("a", "f"), ("A", "F")),
}
_ESCAPED_SETS: Mapping[int, int] = {
    ord("d"): _DIGIT,
    ord("D"): ANY & ~_DIGIT,
    ord("w"): _WORD,
    ord("W"): ANY & ~_WORD,
    ord("s"): _SPACE,
    ord("S"): ANY & ~_SPACE,
}


def parse(text: bytes) -> Node:
    """The tree of an expression that is matched as libselinux does: between ``^`` and ``$``, put around it as text.

    So of alternatives outside any group only the first is held to the beginning and only the last to the end.
    Raises UnsupportedError (finding ``selinux-pattern``).
    """
    if len(text) > LIMITS.selinux_pattern:
        raise _refused(text[:80] + b"...", "is too long")
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> Node:
        if self._peek() == b"^":
            self._at += 1
        options = self._options(0)
        if self._at < len(self._text):
            raise self._bad("has a parenthesis too many")
        if len(options) == 1:
            return options[0]
        anything = Repeat(Bytes(ANY), 0, None)
        first, *middle, last = options
        inner = (Sequence((anything, option, anything)) for option in middle)
        return Choice((Sequence((first, anything)), *inner, Sequence((anything, last))))

    def _options(self, depth: int) -> List[Node]:
        if depth > _DEEPEST:
            raise self._bad("nests its groups too deeply")
        found: List[Node] = []
        parts: List[Node] = []
        while self._at < len(self._text) and self._peek() != b")":
            if self._peek() == b"|":
                self._at += 1
                found.append(Sequence(tuple(parts)))
                parts = []
            elif self._text[self._at :] == b"$" and not depth:
                self._at += 1
            else:
                parts.append(self._quantified(self._item(depth)))
        return [*found, Sequence(tuple(parts))]

    def _item(self, depth: int) -> Node:
        byte = self._take()
        if byte == b"(":
            return self._group(depth)
        if byte == b"[":
            return Bytes(self._class())
        if byte == b".":
            return Bytes(ANY)
        if byte == b"\\":
            return Bytes(self._escape())
        if byte in (b"*", b"+", b"?") or (byte == b"{" and self._counts(self._at - 1) is not None):
            raise self._bad("repeats nothing")
        if byte in (b"^", b"$"):
            raise self._bad("has an anchor in its middle")
        return Bytes(1 << byte[0])

    def _group(self, depth: int) -> Node:
        if self._peek() == b"*":
            raise self._bad("has a verb")
        if self._peek() == b"?":
            if self._text[self._at : self._at + 2] != b"?:":
                raise self._bad("has a group of a special kind")
            self._at += 2
        options = self._options(depth + 1)
        if self._take() != b")":
            raise self._bad("has a parenthesis that is never closed")
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _quantified(self, node: Node) -> Node:
        byte = self._peek()
        bounds: Tuple[int, Optional[int]]
        if byte in (b"*", b"+", b"?"):
            self._at += 1
            bounds = {b"*": (0, None), b"+": (1, None), b"?": (0, 1)}[byte]
        else:
            counts = self._counts(self._at) if byte == b"{" else None
            if counts is None:
                return node
            self._at, bounds = counts[0], counts[1:]
        if self._peek() == b"?":  # lazy: the same strings
            self._at += 1
        if self._peek() in (b"*", b"+", b"?") or self._counts(self._at) is not None:
            raise self._bad("has a quantifier behind a quantifier")
        least, most = bounds
        if max(least, most or 0) > _MOST_REPEATS or (most is not None and most < least):
            raise self._bad("repeats something too often")
        return Repeat(node, least, most)

    def _counts(self, at: int) -> Optional[Tuple[int, int, Optional[int]]]:
        """Where ``{N}``, ``{N,}`` or ``{N,M}`` at ``at`` ends, and its bounds; None for a plain brace."""
        end = self._text.find(b"}", at)
        if self._text[at : at + 1] != b"{" or end < 0:
            return None
        first, comma, second = self._text[at + 1 : end].partition(b",")
        if not first.isdigit() or not (second.isdigit() or not second):
            return None
        least = int(first)
        return end + 1, least, (int(second) if second else None) if comma else least

    def _class(self) -> int:
        negated = self._peek() == b"^"
        self._at += negated
        mask, first = 0, True
        while first or self._peek() != b"]":
            first = False
            low = self._member()
            if self._peek() == b"-" and self._text[self._at + 1 : self._at + 2] not in (b"]", b""):
                self._at += 1
                high = self._member()
                ends = low.bit_length() - 1, high.bit_length() - 1
                if low != 1 << ends[0] or high != 1 << ends[1] or ends[0] > ends[1]:
                    raise self._bad("has a range of bytes that is none")
                low = ((1 << ends[1] + 1) - 1) & ~((1 << ends[0]) - 1)
            mask |= low
        self._at += 1
        return ANY & ~mask if negated else mask

    def _member(self) -> int:
        byte = self._take()
        if byte == b"\\":
            return self._escape()
        if byte == b"[" and self._peek() in (b":", b".", b"="):
            end = self._text.find(self._peek() + b"]", self._at + 1)
            if end > 0:
                name = self._text[self._at + 1 : end]
                if self._peek() != b":" or name not in _NAMED:
                    raise self._bad("names a class of bytes that is not known")
                self._at = end + 2
                return _NAMED[name]
        return 1 << byte[0]

    def _escape(self) -> int:
        byte = self._take()[0]
        if byte in _ESCAPED_SETS:
            return _ESCAPED_SETS[byte]
        if chr(byte).isalnum():
            raise self._bad(f"has the escape \\{chr(byte)}")
        return 1 << byte

    def _peek(self) -> bytes:
        return self._text[self._at : self._at + 1]

    def _take(self) -> bytes:
        byte = self._peek()
        if not byte:
            raise self._bad("ends too early")
        self._at += 1
        return byte

    def _bad(self, what: str) -> UnsupportedError:
        return _refused(self._text, what)


def _refused(text: bytes, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"the pattern {show(text.decode('utf-8', 'surrogateescape'))} of the Node's file contexts {what}",
        remedy="the labels of new files cannot be computed on this Node; report the pattern",
        finding="selinux-pattern",
    )
