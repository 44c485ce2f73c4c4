"""rpm's databases of the kinds ndb and bdb: read as they were written, and typed errors for damage."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path
from typing import Dict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.errors import MalformedError, RespinError, UnsupportedError
from respin.formats.rpmdb import bdb, ndb
from tests.support.images import damaged
from tests.support.rpmdbs import write_bdb, write_ndb

KINDS = {
    "ndb": lambda data: ndb.read_packages(data, "db").headers,
    "bdb": lambda data: bdb.read_packages(data, "db").headers,
}


def made_up(count: int = 60) -> Dict[int, bytes]:
    rng = random.Random(24)
    return {number: rng.randbytes(rng.choice((1, 100, 4000, 5000, 70_000))) for number in range(1, count + 1)}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [0, 1, 60, 400])
def test_berkeley_records_are_those_that_went_in(tmp_path: Path, count: int, order: str) -> None:
    headers = made_up(count)
    data = write_bdb(tmp_path / "Packages", headers, order).read_bytes()
    assert bdb.read_packages(data, "db") == (headers, count)


@pytest.mark.parametrize("count", [0, 1, 60])
def test_ndb_records_are_those_that_went_in(tmp_path: Path, count: int) -> None:
    found = ndb.read_packages(write_ndb(tmp_path / "Packages.db", made_up(count)).read_bytes(), "db")
    assert found.headers == made_up(count)
    assert (found.next_number, found.generation) == (count + 1, count + 1)


def test_berkeley_trees_are_read_in_the_order_of_their_keys(tmp_path: Path) -> None:
    rng = random.Random(25)
    entries = {b"key %d" % rng.randrange(10**6): rng.randbytes(rng.choice((8, 80, 8000))) for _ in range(900)}
    entries[b"long" * 2000] = b"value"
    text = "VERSION=3\nformat=bytevalue\ntype=btree\ndb_pagesize=4096\nHEADER=END\n"
    text += "".join(f" {key.hex()}\n {value.hex()}\n" for key, value in entries.items()) + "DATA=END\n"
    write_bdb(tmp_path / "unused", {})  # skips without the program
    subprocess.run(["db5.3_load", str(tmp_path / "tree")], input=text.encode(), check=True, capture_output=True)
    file = bdb.BerkeleyFile((tmp_path / "tree").read_bytes(), "db")
    assert file.kind == "btree"
    assert list(file.items()) == sorted(entries.items())
    with pytest.raises(MalformedError, match="not in a hash"):
        bdb.read_packages((tmp_path / "tree").read_bytes(), "db")


@pytest.fixture(scope="module", params=list(KINDS))
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "tuple[str, bytes]":
    path = tmp_path_factory.mktemp("db") / "file"
    return request.param, (write_ndb if request.param == "ndb" else write_bdb)(path, made_up(30)).read_bytes()


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
