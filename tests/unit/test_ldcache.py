"""The linker cache, held against ldconfig -p; damaged caches give typed errors."""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.errors import RespinError
from respin.formats import ldcache

CACHE = Path("/etc/ld.so.cache")


@pytest.fixture(scope="module")
def cache() -> bytes:
    if not CACHE.exists():
        pytest.skip("this machine has no linker cache")
    return CACHE.read_bytes()


def test_entries_are_those_that_ldconfig_prints(cache: bytes) -> None:
    printed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    wanted = re.findall(r"^\t(\S+) \(.*\) => (\S+)$", printed, re.M)
    found = [(entry.name.decode(), entry.path.decode()) for entry in ldcache.parse(cache, "cache")]
    assert found == wanted
    assert found


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_cache_is_refused_or_read_but_never_crashes(data: st.DataObject) -> None:
    content = bytearray(CACHE.read_bytes()[:20000]) if CACHE.exists() else bytearray(100)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(200, len(content) - 1)))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    with contextlib.suppress(RespinError):
        ldcache.parse(bytes(content[:cut]), "cache")


def test_the_order_is_that_of_ldconfig(cache: bytes) -> None:
    entries = ldcache.parse(cache, "cache")
    assert ldcache.in_search_order(entries)
    assert not ldcache.in_search_order(entries[::-1])
    names = (b"libz.so", b"lib10.so", b"lib9.so", b"liba.so.10", b"liba.so.9", b"liba.so", b"liba+.so")
    made = [ldcache.CacheEntry(name, b"/" + name, 0, 0) for name in names]
    assert not ldcache.in_search_order(made)
    assert ldcache.in_search_order([made[n] for n in (1, 2, 0, 3, 4, 5, 6)])
