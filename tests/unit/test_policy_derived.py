"""The linker cache after the transaction: no file competes with a vendor's library."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, List

import pytest

from respin.formats.ldcache import CacheEntry
from respin.policy import linkercache

VENDOR = ("/usr/lib/libc.so.6", "/usr/lib32/libc.so.6")
OWN = ("/usr/lib/libplugin.so",)
LIBC = CacheEntry(b"libc.so.6", b"/usr/lib/libc.so.6", 0x303, 0)


def judge(before: List[CacheEntry], after: List[CacheEntry], monkeypatch: pytest.MonkeyPatch) -> List[str]:
    contents: Any = {"before": before, "after": after}
    monkeypatch.setattr(linkercache, "read_file", lambda root, path: root.name)
    monkeypatch.setattr("respin.formats.ldcache.parse", lambda data, where: tuple(contents[data]))
    roots: Any = [
        SimpleNamespace(name=name, lookup=lambda path: path if path in VENDOR else None) for name in ("before", "after")
    ]
    monkeypatch.setattr(linkercache, "real_parent", lambda root, path: path)
    return [f"{finding.id}: {finding.message}" for finding in linkercache.judge_linker_cache(*roots, OWN)]


def test_libraries_of_other_names_and_architectures_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    new = [CacheEntry(b"libplugin.so", b"/usr/lib/libplugin.so", 0x303, 0)]
    other = [CacheEntry(b"libc.so.6", b"/usr/lib32/libc.so.6", 0x3, 0)]
    assert judge([LIBC], [*new, LIBC, *other], monkeypatch) == []


@pytest.mark.parametrize("hwcap", [0, 1 << 62])
def test_a_file_that_competes_with_a_vendors_library(monkeypatch: pytest.MonkeyPatch, hwcap: int) -> None:
    evil = CacheEntry(b"libc.so.6", b"/opt/plugin/glibc-hwcaps/x86-64-v2/libc.so.6", 0x303, hwcap)
    assert judge([LIBC], [LIBC, evil], monkeypatch)
    assert judge([LIBC], [evil, LIBC], monkeypatch)


def test_a_vendors_library_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge([LIBC], [], monkeypatch)


@pytest.mark.parametrize("path", [b"/var/tmp/libnew.so.1", b"/usr/lib/libc.so.6"])
def test_a_library_that_no_plugin_ships(path: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of the vendor's that looks whether there is one would load it."""
    (found,) = judge([LIBC], [CacheEntry(b"libnew.so.1", path, 0x303, 0), LIBC], monkeypatch)
    assert found.startswith("undeclared-effect")


def test_entries_that_a_search_by_halving_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    new = CacheEntry(b"libplugin.so", b"/usr/lib/libplugin.so", 0x303, 0)
    assert any(one.startswith("shadows") and "order" in one for one in judge([LIBC], [LIBC, new], monkeypatch))


def test_an_entry_for_later_kernels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge([LIBC], [replace(LIBC, osversion=0x7FFFFFFF)], monkeypatch)
