"""Views compared: what both take from one place is not read, everything else is."""

from __future__ import annotations

import random
import tempfile
from typing import List, Tuple

import pytest

from respin.byteview import BytesView, SubView, is_zero, origin, same_bytes
from respin.errors import MalformedError
from respin.provenance.restoremap import RestoredView, RestoreMap

SIZE = 5000


class Watched(BytesView):
    """Remembers what is read."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data, name)
        self.reads: List[Tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return super().read(offset, length)


def restored(out: Watched, originals: bytes, *copies: Tuple[int, int, int]) -> RestoredView:
    size = sum(length for _, _, length in copies) + len(originals)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the view keeps it
    file.write(originals)
    file.flush()
    view = RestoredView(RestoreMap(size, "", (), copies, len(originals), 0), out, file.fileno(), "stock")
    view.keep = file  # type: ignore[attr-defined]
    return view


@pytest.fixture
def out() -> Watched:
    return Watched(random.Random(1).randbytes(SIZE), "out")


def test_an_origin_gives_the_bytes_that_the_view_reads(out: Watched) -> None:
    stock = restored(out, bytes(range(100)), (0, 10, 1000), (1050, 2000, 500), (1600, 3000, 900))
    whole = stock.read(0, stock.size)
    for offset in range(0, stock.size, 7):
        view, place, count = origin(stock, offset, stock.size - offset)
        assert 0 < count <= stock.size - offset
        assert view.read(place, count) == whole[offset : offset + count]


def test_what_comes_from_one_place_is_not_read(out: Watched) -> None:
    stock = restored(out, b"", (0, 10, 1000), (1000, 3000, 900))
    assert same_bytes(SubView(out, 10, 1000, "part"), 100, SubView(stock, 50, 900, "part"), 50, 800)
    assert not out.reads
    assert same_bytes(out, 10, stock, 0, 1000)
    assert not out.reads


def test_what_comes_from_elsewhere_is_compared(out: Watched) -> None:
    data = out.read(0, SIZE)
    stock = restored(out, data[1010:1110], (0, 10, 1000), (1100, 3000, 900))
    assert same_bytes(out, 10, stock, 0, 1100)
    assert out.reads[1:] == [(1010, 100)]
    assert not same_bytes(out, 10, stock, 0, 1101)
    assert not same_bytes(out, 11, stock, 0, 10)
    assert not same_bytes(out, 10, restored(out, bytes(100), (0, 10, 1000)), 0, 1100)
    assert same_bytes(out, 0, BytesView(data, "copy"), 0, SIZE)
    for place in (0, 2500, SIZE - 1):
        other = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert not same_bytes(out, 0, BytesView(other, "copy"), 0, SIZE)


def test_a_range_that_leaves_a_view_is_refused(out: Watched) -> None:
    with pytest.raises(MalformedError):
        same_bytes(out, SIZE - 5, out, SIZE - 5, 6)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_zeros_are_told_from_anything_else(size: int) -> None:
    assert is_zero(bytes(size))
    for place in {0, size // 2, size - 1} if size else ():
        assert not is_zero(bytes(place) + b"\1" + bytes(size - place - 1))
