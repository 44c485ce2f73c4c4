"""Matching whole strings against a regular expression in time that is bounded whatever the expression is.

A position automaton (V. Glushkov, 1961): one state for each byte that the expression names. All states that are
possible after a byte are followed at once, so nothing is ever tried again, as PCRE and Python's ``re`` would.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple

from respin.errors import UnsupportedError
from respin.formats.selinux.syntax import Bytes, Choice, Node, Repeat, Sequence, parse
from respin.limits import LIMITS


class _Part(NamedTuple):
    """Whether a part of an expression matches the empty string, and where it begins and ends (sets of positions)."""

    empty: bool
    first: int
    last: int


_NOTHING = _Part(True, 0, 0)
_NOWHERE = -1


class Steps:
    """How much work is left before matching is given up; one step is some tenths of a microsecond."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, count: int) -> None:
        """Take ``count`` steps; UnsupportedError when there are none left."""
        self.left -= count
        if self.left < 0:
            raise _too_long()


class Pattern:
    """A compiled expression. Raises UnsupportedError for one outside the subset of :mod:`.syntax`, or too large."""

    def __init__(self, text: bytes) -> None:
        tree = parse(text)
        self._masks: List[int] = []
        self._follow: List[int] = []
        self._parts = 0
        self._whole = self._add(tree)
        self._suffix = _suffix(tree)
        # Sets of positions that were met so far, numbered: whether the expression may end there, where it may go on,
        # and the number that each byte leads to.
        self._sets = [(self._whole.empty, self._whole.first)]
        self._numbers = {self._sets[0]: 0}
        self._moves: List[Dict[int, int]] = [{}]

    def matches(self, data: bytes, steps: Steps) -> bool:
        """Whether the expression matches all of ``data``, or all but a newline at its end (PCRE's ``$``)."""
        if self._matches(data, steps):
            return True
        return data.endswith(b"\n") and self._matches(data[:-1], steps)

    def _matches(self, data: bytes, steps: Steps) -> bool:
        if not data.endswith(self._suffix):
            return False
        steps.take(len(data))
        number = 0
        for byte in data:
            following = self._moves[number].get(byte)
            if following is None:
                following = self._move(number, byte, steps)
            if following == _NOWHERE:
                return False
            number = following
        return self._sets[number][0]

    def _move(self, number: int, byte: int, steps: Steps) -> int:
        """Work out where ``byte`` leads to, and remember it."""
        reach, following, ends, count = self._sets[number][1], 0, False, 0
        for position in _positions(reach):
            count += 1
            if self._masks[position] >> byte & 1:
                following |= self._follow[position]
                ends = ends or bool(self._whole.last >> position & 1)
        steps.take(count)
        if not following and not ends:
            found = _NOWHERE
        else:
            found = self._numbers.setdefault((ends, following), len(self._sets))
            if found == len(self._sets):
                if found >= LIMITS.selinux_states:
                    raise _too_long()
                self._sets.append((ends, following))
                self._moves.append({})
        self._moves[number][byte] = found
        return found

    def _add(self, node: Node) -> _Part:
        self._parts += 1
        if self._parts > LIMITS.selinux_states:
            raise UnsupportedError(
                "a pattern of the Node's file contexts is too large",
                remedy="the labels of new files cannot be computed on this Node",
                finding="selinux-pattern",
            )
        if isinstance(node, Bytes):
            return self._position(node.mask)
        if isinstance(node, Sequence):
            whole = _NOTHING
            for part in node.parts:
                whole = self._join(whole, self._add(part))
            return whole
        if isinstance(node, Choice):
            options = [self._add(option) for option in node.options]
            whole = _Part(any(one.empty for one in options), 0, 0)
            for one in options:
                whole = _Part(whole.empty, whole.first | one.first, whole.last | one.last)
            return whole
        return self._repeated(node)

    def _repeated(self, node: Repeat) -> _Part:
        whole = _NOTHING
        copies = node.least if node.most is None else node.most
        for number in range(copies):
            part = self._add(node.node)
            whole = self._join(whole, part if number < node.least else part._replace(empty=True))
        if node.most is None:
            more = self._add(node.node)
            self._connect(more.last, more.first)
            whole = self._join(whole, more._replace(empty=True))
        return whole

    def _position(self, mask: int) -> _Part:
        place = 1 << len(self._masks)
        self._masks.append(mask)
        self._follow.append(0)
        return _Part(False, place, place)

    def _join(self, one: _Part, other: _Part) -> _Part:
        self._connect(one.last, other.first)
        return _Part(
            one.empty and other.empty,
            one.first | (other.first if one.empty else 0),
            other.last | (one.last if other.empty else 0),
        )

    def _connect(self, ends: int, beginnings: int) -> None:
        for position in _positions(ends):
            self._follow[position] |= beginnings


def _positions(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _too_long() -> UnsupportedError:
    return UnsupportedError(
        "looking up a label in the Node's file contexts takes too long",
        remedy="the path, or a pattern of the policy, is beyond what any real Node has",
        finding="selinux-pattern",
    )


def _suffix(node: Node) -> bytes:
    """Bytes that everything which the expression matches ends in: a quick way to see that it does not match."""
    found: List[int] = []
    for part in reversed(node.parts if isinstance(node, Sequence) else ()):
        if not isinstance(part, Bytes) or part.mask & (part.mask - 1) or not part.mask:
            break
        found.append(part.mask.bit_length() - 1)
    return bytes(reversed(found))
