"""Fanning out a stream: every sink gets all of it in order, failures are heard of, no thread stays."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respin.fanout import FanOut
from respin.safepath import first_match, may_match_below, parents

PIECES = [bytes([number % 251]) * (number * 37 % 4099) for number in range(200)]


def threads() -> List[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "fan-out"]


def test_every_sink_gets_every_piece_in_order() -> None:
    slow: List[bytes] = []
    digest = hashlib.sha256()

    def slowly(piece: bytes) -> None:
        time.sleep(0.0005)
        slow.append(piece)

    with FanOut([slowly, digest.update]) as out:
        for piece in PIECES:
            out.feed(piece)
    assert slow == PIECES
    assert digest.hexdigest() == hashlib.sha256(b"".join(PIECES)).hexdigest()
    assert threads() == []


def test_what_a_sink_raises_is_raised_where_it_is_fed() -> None:
    def failing(piece: bytes) -> None:
        raise OSError("no")

    def feed(times: int) -> None:
        with FanOut([len, failing]) as out:
            for _ in range(times):
                out.feed(b"piece")

    for times in (1, 1000):
        with pytest.raises(OSError, match="no"):
            feed(times)
    assert threads() == []


def test_a_failure_of_the_feeder_leaves_no_thread() -> None:
    def fail() -> None:
        with FanOut([len, len]) as out:
            out.feed(b"piece")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert threads() == []


PARTS = st.sampled_from(("a", "b", "ab", "*", "a*", "?"))
PATTERNS = st.tuples(st.lists(PARTS, min_size=1, max_size=4), st.booleans()).map(
    lambda found: "/" + "/".join(found[0]) + ("/**" if found[1] else "")
)
PATHS = st.lists(st.sampled_from(("a", "b", "ab", "aab")), min_size=1, max_size=5).map(
    lambda parts: "/" + "/".join(parts)
)


@given(path=PATHS, patterns=st.lists(PATTERNS, max_size=3))
def test_no_directory_above_a_match_is_left_out(path: str, patterns: List[str]) -> None:
    if first_match(path, patterns):
        assert all(may_match_below(directory, patterns) for directory in parents(path))


@given(path=PATHS, patterns=st.lists(PATTERNS, max_size=5))
def test_the_first_pattern_that_covers_a_path_is_found(path: str, patterns: List[str]) -> None:
    """As regular expressions say it, one by one."""
    covering = [pattern for pattern in patterns if re.fullmatch(as_expression(pattern), path, re.DOTALL)]
    assert first_match(path, patterns) == (covering[0] if covering else None)


def as_expression(pattern: str) -> str:
    body, below = (pattern[:-3], "(?:/.*)?") if pattern.endswith("/**") else (pattern, "")
    return re.escape(body).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") + below


def test_directories_that_cannot_hold_a_match_are_left_out() -> None:
    patterns = ["/usr/lib/x/**", "/etc/*.d/unit"]
    assert [d for d in ("/", "/usr", "/usr/lib", "/usr/lib/x/y", "/etc/a.d") if not may_match_below(d, patterns)] == []
    assert not any(may_match_below(d, patterns) for d in ("/usr/share", "/var", "/etc/a.d/unit", "/etc/a"))
