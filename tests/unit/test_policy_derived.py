"""The linker cache after the transaction: no file competes with a vendor's library."""

from __future__ import annotations

from typing import Any, List

import pytest

from respin.formats.ldcache import CacheEntry
from respin.policy import derived

LIBC = CacheEntry(b"libc.so.6", b"/usr/lib/libc.so.6", 0x303, 0)


def judge(before: List[CacheEntry], after: List[CacheEntry], monkeypatch: pytest.MonkeyPatch) -> List[str]:
    contents: Any = {"before": before, "after": after}
    monkeypatch.setattr(derived, "read_file", lambda root, path: root)
    monkeypatch.setattr("respin.formats.ldcache.parse", lambda data, where: tuple(contents[data]))
    roots: Any = ("before", "after")
    return [finding.message for finding in derived._linker_cache(*roots)]


def test_libraries_of_other_names_and_architectures_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    new = [CacheEntry(b"libplugin.so", b"/usr/lib/libplugin.so", 0x303, 0)]
    other = [CacheEntry(b"libc.so.6", b"/usr/lib32/libc.so.6", 0x3, 0)]
    assert judge([LIBC], [LIBC, *new, *other], monkeypatch) == []


@pytest.mark.parametrize("hwcap", [0, 1 << 62])
def test_a_file_that_competes_with_a_vendors_library(monkeypatch: pytest.MonkeyPatch, hwcap: int) -> None:
    evil = CacheEntry(b"libc.so.6", b"/opt/plugin/glibc-hwcaps/x86-64-v2/libc.so.6", 0x303, hwcap)
    assert judge([LIBC], [LIBC, evil], monkeypatch)
    assert judge([LIBC], [evil, LIBC], monkeypatch)


def test_a_vendors_library_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge([LIBC], [], monkeypatch)
