"""rpm's databases of the kinds ndb and bdb: read as they were written, and typed errors for damage."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path
from typing import Callable, Dict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.errors import MalformedError, RespinError, UnsupportedError
from respin.formats.rpmdb import bdb, ndb, ndbindex
from tests.support.images import damaged
from tests.support.rpmdbs import write_bdb, write_ndb, write_ndb_index, write_tree

KINDS = {
    "ndb": lambda data: ndb.read_packages(data, "db").headers,
    "bdb": lambda data: bdb.read_packages(data, "db"),
    "index": lambda data: ndbindex.read_indexes(data, "db").rows,
    "tree": lambda data: (bdb.read_index(data, "db"), bdb.BerkeleyFile(data, "db").without_slack()),
}


def made_up(count: int = 60) -> Dict[int, bytes]:
    rng = random.Random(24)
    return {number: rng.randbytes(rng.choice((1, 100, 4000, 5000, 70_000))) for number in range(1, count + 1)}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [0, 1, 60, 400])
def test_berkeley_records_are_those_that_went_in(tmp_path: Path, count: int, order: str) -> None:
    headers = made_up(count)
    data = write_bdb(tmp_path / "Packages", headers, order).read_bytes()
    assert bdb.read_packages(data, "db") == headers


@pytest.mark.parametrize("count", [0, 1, 60])
def test_ndb_records_are_those_that_went_in(tmp_path: Path, count: int) -> None:
    found = ndb.read_packages(write_ndb(tmp_path / "Packages.db", made_up(count)).read_bytes(), "db")
    assert found.headers == made_up(count)
    assert (found.next_number, found.generation) == (count + 1, count + 1)


def test_berkeley_trees_are_read_in_the_order_of_their_keys(tmp_path: Path) -> None:
    rng = random.Random(25)
    entries = {b"key %d" % rng.randrange(10**6): rng.randbytes(rng.choice((8, 80, 8000))) for _ in range(900)}
    entries[b"long" * 2000] = b"12345678"
    data = write_tree(tmp_path / "tree", entries).read_bytes()
    file = bdb.BerkeleyFile(data, "db")
    assert file.kind == "btree"
    assert list(file.items()) == sorted(entries.items())
    assert list(bdb.BerkeleyFile(file.without_slack(), "db").items()) == sorted(entries.items())
    with pytest.raises(MalformedError, match="not in a hash"):
        bdb.read_packages(data, "db")


def index_rows(count: int = 120) -> "list[tuple[bytes, int, int]]":
    rng = random.Random(26)
    keys = [b"key %d" % number for number in range(count // 2)] + [b"", b"x" * 300]
    made = {(rng.choice(keys), rng.randrange(1, 9), rng.randrange(2000)) for _ in range(count)}
    return sorted(made | {(b"large", 1 << 24, 5), (b"large", 3, 1 << 12)})


def test_a_berkeley_index_is_its_rows(tmp_path: Path) -> None:
    rows = [row for row in index_rows() if row[0]]
    entries: Dict[bytes, bytes] = {}
    for key, number, position in rows:
        entries[key] = entries.get(key, b"") + struct.pack("<II", number, position)
    data = write_tree(tmp_path / "Name", entries).read_bytes()
    assert sorted(bdb.read_index(data, "db")) == rows
    odd = write_tree(tmp_path / "odd", {b"key": b"1234567"}).read_bytes()
    with pytest.raises(MalformedError, match="7 bytes"):
        bdb.read_index(odd, "db")
    twice = write_tree(tmp_path / "twice", {b"key": b"12345678" * 2}).read_bytes()
    with pytest.raises(MalformedError, match="twice"):
        bdb.read_index(twice, "db")


def test_a_berkeley_tree_out_of_order(tmp_path: Path) -> None:
    data = write_tree(tmp_path / "tree", {b"key %04d" % n: b"12345678" for n in range(900)}).read_bytes()
    for old, new in ((b"key 0500", b"key 0700"), (b"key 0000", b"key 9999"), (b"key 0899", b"key 0000")):
        with pytest.raises(MalformedError, match="order"):
            bdb.read_index(data.replace(old, new), "db")


def test_a_berkeley_record_in_another_bucket(tmp_path: Path) -> None:
    data = write_bdb(tmp_path / "Packages", made_up(400)).read_bytes()
    place = data.index(b"\1" + struct.pack("<I", 77))
    other = data[: place + 1] + struct.pack("<I", 1077) + data[place + 5 :]
    with pytest.raises(MalformedError, match=r"bucket|count"):
        bdb.read_packages(other, "db")


def test_an_ndb_row_where_rpm_does_not_look(tmp_path: Path) -> None:
    data = bytearray(write_ndb_index(tmp_path / "Index.db", {1000: index_rows()}).read_bytes())
    places = range(4096 + 64, 4096 + 64 + 2048, 8)
    free = next(at for at in places if not any(data[at : at + 8]))
    used = next(at for at in places if any(data[at : at + 8]))
    data[free : free + 8], data[used : used + 8] = data[used : used + 8], bytes(8)
    with pytest.raises(MalformedError, match="look") as caught:
        ndbindex.read_indexes(bytes(data), "db")
    assert caught.value.finding == "rpmdb"


class TestNdbIndexes:
    """Index.db, spoiled in one place."""

    @pytest.fixture
    def data(self, tmp_path: Path) -> bytearray:
        rows = {1000: index_rows(), 1047: [(b"one", 1, 0)], 1090: []}
        return bytearray(write_ndb_index(tmp_path / "Index.db", rows, 7).read_bytes())

    def test_the_rows_are_those_that_went_in(self, data: bytearray) -> None:
        found = ndbindex.read_indexes(bytes(data), "db")
        assert {tag: sorted(rows) for tag, rows in found.rows.items()} == {
            1000: index_rows(),
            1047: [(b"one", 1, 0)],
            1090: [],
        }
        assert found.generation == 7

    def places(self, data: bytearray) -> "list[int]":
        """The bytes of the used places of the first index."""
        return [4096 + 64 + 8 * n for n in range(256) if any(data[4096 + 64 + 8 * n : 4096 + 72 + 8 * n])]

    def is_refused(self, data: bytearray, words: str) -> None:
        with pytest.raises(MalformedError, match=words):
            ndbindex.read_indexes(bytes(data), "db")

    def test_a_row_twice(self, data: bytearray) -> None:
        seen: Dict[int, int] = {}  # of a key the value at its first place, where that has no overflow
        for at in self.places(data):
            word, value = struct.unpack_from("<II", data, at)
            if word in seen and value < 1 << 31:
                struct.pack_into("<I", data, at + 4, seen[word])
                break
            if value < 1 << 31:
                seen[word] = value
        self.is_refused(data, "twice")

    @pytest.mark.parametrize("word", [0x0000_FFF0, 0xABCD_0001])
    def test_keys_that_cannot_be(self, data: bytearray, word: int) -> None:
        struct.pack_into("<I", data, self.places(data)[3], word)
        self.is_refused(data, "key")

    @pytest.mark.parametrize(
        ("offset", "value"),
        [
            *((0, b"RpmY"), (4, b"\1"), (12, bytes(4)), (12, b"\xff\xff"), (16, b"\1\0"), (32, b"Sla"), (35, b"\1")),
            *((40, b"\0\0\0\1"), (44, b"\xff\xff\xff\xff"), (52, struct.pack("<I", 1000)), (56, b"\1\0")),
            *((4096, b"RpmJ"), (4096 + 12, b"\xff\0"), (4096 + 12, b"\0\0\0\1"), (4096 + 28, b"\xff\xff\xff\xff")),
        ],
    )
    def test_what_rpm_would_not_have_written(self, data: bytearray, offset: int, value: bytes) -> None:
        data[offset : offset + len(value)] = value
        self.is_refused(data, "damaged")


@pytest.fixture(scope="module", params=list(KINDS))
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "tuple[str, bytes]":
    path = tmp_path_factory.mktemp("db") / "file"
    makers: Dict[str, Callable[[], Path]] = {
        "ndb": lambda: write_ndb(path, made_up(30)),
        "bdb": lambda: write_bdb(path, made_up(30)),
        "index": lambda: write_ndb_index(path, {1000: index_rows(), 1047: [(b"one", 1, 0)]}),
        "tree": lambda: write_tree(path, {b"key %04d" % n: b"12345678" * (1 + n * 7 % 600) for n in range(0, 900, 9)}),
    }
    return request.param, makers[request.param]().read_bytes()


def exit_code(kind: str, data: bytes) -> int:
    """0, or the exit code of the error; any other exception is a bug."""
    started = time.process_time()
    try:
        KINDS[kind](data)
    except RespinError as error:
        return error.exit_code
    finally:
        assert time.process_time() - started < 5
    return 0


@given(st.integers(0, 1 << 32))
@settings(max_examples=300, deadline=None)
def test_damage_gives_typed_errors_only(good: "tuple[str, bytes]", seed: int) -> None:
    kind, data = good
    assert exit_code(kind, damaged(data, seed, [(0, 4096), (4096, len(data)), (4096, 8192)])) in (0, 3, 7)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, b"RpmQ"),
        (4, b"\1"),
        (12, bytes(4)),
        (12, b"\xff" * 4),
        (16, b"\1\0\0\0"),
        (32, b"Slow"),
        (36, b"\2"),
        (40, b"\1\0\0\0"),
    ],
)
def test_what_rpm_would_not_have_written_in_ndb(tmp_path: Path, offset: int, value: bytes) -> None:
    data = bytearray(write_ndb(tmp_path / "Packages.db", made_up(5)).read_bytes())
    data[offset : offset + len(value)] = value
    with pytest.raises(MalformedError):
        ndb.read_packages(bytes(data), "db")


def test_ndb_records_over_each_other(tmp_path: Path) -> None:
    data = bytearray(write_ndb(tmp_path / "Packages.db", made_up(5)).read_bytes())
    data[32 + 16 + 8 : 32 + 16 + 16] = data[32 + 8 : 32 + 16]
    with pytest.raises(MalformedError, match="over another"):
        ndb.read_packages(bytes(data), "db")


def test_an_ndb_checksum(tmp_path: Path) -> None:
    data = bytearray(write_ndb(tmp_path / "Packages.db", made_up(5)).read_bytes())
    data[4096 + 16] ^= 1
    with pytest.raises(MalformedError, match="checksum"):
        ndb.read_packages(bytes(data), "db")


def test_berkeley_pages_that_form_a_loop(tmp_path: Path) -> None:
    data = bytearray(write_bdb(tmp_path / "Packages", made_up(60)).read_bytes())
    for at in range(4096, len(data), 4096):
        if data[at + 25] == 7:
            data[at + 16 : at + 20] = data[at + 8 : at + 12]  # every overflow page follows itself
    with pytest.raises(MalformedError, match="twice"):
        bdb.read_packages(bytes(data), "db")


def test_other_files_are_no_berkeley_db() -> None:
    with pytest.raises(UnsupportedError):
        bdb.BerkeleyFile(bytes(4096), "db")
    with pytest.raises(MalformedError):
        bdb.BerkeleyFile(b"", "db")
