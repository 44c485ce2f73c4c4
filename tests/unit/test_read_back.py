"""Reading back what was written: the plain digest of what is there, and all of it as it was meant."""

from __future__ import annotations

import hashlib
import threading
import time
import zlib
from typing import Dict, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respin.byteview import BytesView, same_bytes
from respin.digest import PIECE, PieceChecks
from respin.errors import BuildError
from respin.segments import Copy, Data, Segment, SegmentsView, Zeros, replaced
from respin.verify.reading import ReadBack, renewed

SIZE = (2 << 20) + 5000
MEANT = (bytes(range(251)) * (SIZE // 251 + 1))[:SIZE]


def checks_of(data: bytes, *cuts: int) -> Tuple[int, ...]:
    checks = PieceChecks()
    for start, end in zip((0, *cuts), (*cuts, len(data))):
        checks.update(data[start:end])
    return checks.result()


def read_back(there: bytes) -> str:
    with ReadBack(BytesView(there, "out.iso"), len(MEANT), checks_of(MEANT)) as reading:
        return reading.result()


def test_the_digest_is_that_of_what_is_there() -> None:
    assert read_back(MEANT) == hashlib.sha256(MEANT).hexdigest()


@pytest.mark.parametrize("place", [0, 1_048_575, 1_048_576, SIZE - 1])
def test_any_other_byte_is_refused(place: int) -> None:
    there = bytearray(MEANT)
    there[place] ^= 1
    with pytest.raises(BuildError) as caught:
        read_back(bytes(there))
    assert (caught.value.finding, caught.value.where) == ("read-back-differs", "out.iso")


@pytest.mark.parametrize("there", [MEANT[:-1], MEANT + b"x"], ids=["too early", "too late"])
def test_so_is_another_end(there: bytes) -> None:
    with pytest.raises(BuildError) as caught:
        read_back(there)
    assert caught.value.finding == "read-back-differs"


@given(st.lists(st.integers(0, SIZE), max_size=6))
def test_however_a_stream_is_cut_its_pieces_have_the_same_checksums(cuts: List[int]) -> None:
    whole = [zlib.crc32(MEANT[at : at + PIECE]) for at in range(0, SIZE, PIECE)]
    assert checks_of(MEANT, *sorted(cuts)) == tuple(whole)


@given(st.integers(0, SIZE - 1), st.binary(min_size=1, max_size=5000))
def test_what_is_written_later_is_expected_too(offset: int, data: bytes) -> None:
    later = {offset: data[: SIZE - offset]}
    meant = MEANT[:offset] + later[offset] + MEANT[offset + len(later[offset]) :]
    assert renewed(checks_of(MEANT), BytesView(meant, "meant"), later) == checks_of(meant)


def test_who_leaves_early_does_not_wait_for_the_rest() -> None:
    reads: List[int] = []

    class Slow(BytesView):
        def read(self, offset: int, length: int) -> bytes:
            reads.append(offset)
            began.set()
            time.sleep(0.05)
            return super().read(offset, length)

    began, meant = threading.Event(), bytes(200 << 20)
    with ReadBack(Slow(meant, "out.iso"), len(meant), [0] * 200):
        began.wait()
    assert len(reads) < 20


BASE = BytesView(bytes(range(256)), "base")
SEGMENTS = st.lists(
    st.one_of(
        st.builds(Copy, st.integers(0, 200), st.integers(0, 50)),
        st.builds(Data, st.binary(max_size=30)),
        st.builds(Zeros, st.integers(0, 30)),
    ),
    max_size=8,
)


@given(SEGMENTS, st.data())
def test_bytes_that_are_known_later_replace_what_was_planned(segments: List[Segment], data: st.DataObject) -> None:
    plan = SegmentsView(segments, BASE, "plan")
    expected = bytearray(plan.read(0, plan.size))
    pieces: Dict[int, bytes] = {}
    at = 0
    while at < plan.size and data.draw(st.booleans()):
        at = data.draw(st.integers(at, plan.size - 1))
        pieces[at] = data.draw(st.binary(min_size=1, max_size=plan.size - at))
        expected[at : at + len(pieces[at])] = pieces[at]
        at += len(pieces[at])
    found = SegmentsView(list(replaced(segments, pieces)), BASE, "meant")
    assert found.read(0, found.size) == expected


def test_what_is_copied_comes_from_the_base() -> None:
    view = SegmentsView([Data(b"new"), Copy(10, 20), Zeros(5)], BASE, "meant")
    assert view.origin(3, 100) == (BASE, 10, 20)
    assert view.origin(20, 2) == (BASE, 27, 2)
    assert view.origin(1, 9) == (view, 1, 2)
    assert same_bytes(view, 3, BASE, 10, 20)
    assert not same_bytes(view, 2, BASE, 9, 21)
