"""The linker cache after the transaction: no file competes with a vendor's library, what is new is a plugin's."""

from __future__ import annotations

import re
import stat
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Optional

import pytest

from respin.byteview import BytesView
from respin.formats.ldcache import CacheEntry
from respin.formats.sharedobject import read_shared_object
from respin.policy import linkercache

LIB = "/usr/lib"
LIBC = CacheEntry(b"libc.so.6", b"/usr/lib/libc.so.6", 0x303, 0)
OWN = CacheEntry(b"libplugin.so.1", b"/usr/lib/libplugin.so.1", 0x303, 0)


class Root:
    """A root over a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.view = SimpleNamespace(name="root")

    def lookup(self, path: str) -> Any:
        there = self.path / path[1:]
        if not there.is_symlink() and not there.exists():
            return None
        status = there.lstat()
        return SimpleNamespace(
            path=there,
            mode=status.st_mode,
            is_file=stat.S_ISREG(status.st_mode),
            is_directory=stat.S_ISDIR(status.st_mode),
        )

    def readlink(self, inode: Any) -> str:
        return str(inode.path.readlink())

    def read(self, inode: Any, _limit: int) -> bytes:
        data: bytes = inode.path.read_bytes()
        return data

    def file_view(self, inode: Any) -> BytesView:
        return BytesView(inode.path.read_bytes(), "file")

    def listdir(self, path: str) -> List[str]:
        return [one.name for one in (self.path / path[1:]).iterdir()]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a library: its name, and the content of one that calls itself so."""
    directory = tmp_path_factory.mktemp("libraries")
    (directory / "one.c").write_text("int one(void) { return 1; }\n")

    def make(soname: Optional[str]) -> bytes:
        target = directory / f"{soname}"
        if not target.exists():
            name = [] if soname is None else [f"-Wl,-soname,{soname}"]
            subprocess.run(["gcc-12", "-shared", *name, "-o", target, directory / "one.c"], check=True)
        return target.read_bytes()

    return make


class World:
    """The vendor's root with a C library, and one with a plugin's files besides."""

    def __init__(self, directory: Path, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.library = library
        self.contents: Any = {}
        self.files: Any = {}
        self.roots = [Root(directory / name) for name in ("before", "after")]
        for root in self.roots:
            self.put(root, f"{LIB}/libc.so.6", library("libc.so.6"))
            self.put(root, "/opt/vendor/libc-32.so.6", library("libc.so.6"))
            self.put(root, "/etc/ld.so.cache", root.path.name.encode())
            self.put(root, "/etc/ld.so.conf", b"# all\ninclude ld.so.conf.d/*.conf\n/usr/lib\n")
        self.own(f"{LIB}/libplugin.so.1", library("libplugin.so.1"))
        monkeypatch.setattr("respin.formats.ldcache.parse", lambda data, where: self.contents[data.decode()])

    def put(self, root: Root, path: str, content: bytes) -> None:
        there = root.path / path[1:]
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(content)

    def own(self, path: str, content: bytes = b"", *, link: str = "", ghost: bool = False) -> None:
        if link:
            (self.roots[1].path / path[1:]).symlink_to(link)
        else:
            self.put(self.roots[1], path, content)
        self.files[path] = SimpleNamespace(entry=SimpleNamespace(is_ghost=ghost))

    def judge(self, before: List[CacheEntry], after: List[CacheEntry]) -> List[str]:
        self.contents = {"before": tuple(before), "after": tuple(after)}
        plan: Any = SimpleNamespace(node=SimpleNamespace(root=self.roots[0]), files=self.files)
        root: Any = self.roots[1]
        return [f"{finding.id}: {finding.message}" for finding in linkercache.judge_linker_cache(plan, root)]


@pytest.fixture
def world(tmp_path: Path, library: Any, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, library, monkeypatch)


def ordered(*entries: CacheEntry) -> List[CacheEntry]:
    """As the linker searches them; no two of these names differ in a number of several digits."""
    return sorted(entries, key=lambda entry: re.sub(rb"\d", lambda match: b"~" + match[0], entry.name), reverse=True)


def test_libraries_of_other_names_and_architectures_may_come(world: World) -> None:
    assert world.judge([LIBC], [OWN, LIBC]) == []
    other = CacheEntry(b"libc.so.6", b"/usr/lib32/libc.so.6", 0x3, 0)
    for root in world.roots:
        world.put(root, "/usr/lib32/libc.so.6", world.library("libc.so.6"))
        world.put(root, "/etc/ld.so.conf.d/32.conf", b"/usr/lib32\n")
    assert world.judge([LIBC], [OWN, LIBC, other]) == []


@pytest.mark.parametrize("hwcap", [0, 1 << 62])
def test_a_file_that_competes_with_a_vendors_library(world: World, hwcap: int) -> None:
    world.own(f"{LIB}/glibc-hwcaps/x86-64-v2/libc.so.6", world.library("libc.so.6"))
    evil = CacheEntry(b"libc.so.6", b"/usr/lib/glibc-hwcaps/x86-64-v2/libc.so.6", 0x303, hwcap)
    assert any(one.startswith("shadows") for one in world.judge([LIBC], [OWN, LIBC, evil]))
    assert any(one.startswith("shadows") for one in world.judge([LIBC], [OWN, evil, LIBC]))


def test_a_vendors_library_that_is_gone(world: World) -> None:
    assert any("no longer be found" in one for one in world.judge([LIBC], [OWN]))


@pytest.mark.parametrize("path", [b"/var/tmp/libnew.so.1", b"/usr/lib/libc.so.6"])
def test_a_library_that_no_plugin_ships(world: World, path: bytes) -> None:
    """A program of the vendor's that looks whether there is one would load it."""
    (found,) = world.judge([LIBC], [OWN, CacheEntry(b"libnew.so.1", path, 0x303, 0), LIBC])
    assert found.startswith("undeclared-effect")


def test_a_plugins_library_under_a_name_that_is_not_its_own(world: World) -> None:
    """Programs of the vendor's load some libraries only if there are any: libtss2, libnss, libbpf."""
    world.own(f"{LIB}/libother.so", world.library("libother.so.3"))
    for name in (b"libtss2-esys.so.0", b"libother.so.1"):
        for path in (OWN.path, b"/usr/lib/libother.so"):
            (found,) = world.judge([LIBC], ordered(CacheEntry(name, path, 0x303, 0), OWN, LIBC))
            assert found.startswith("undeclared-effect")
            assert "whose own name is" in found
    assert world.judge([LIBC], [OWN, CacheEntry(b"libother.so.3", b"/usr/lib/libother.so", 0x303, 0), LIBC]) == []


@pytest.mark.parametrize("content", [b"", b"text\n", b"\x7fELF" + bytes(60)])
def test_a_file_of_a_plugin_that_is_no_library(world: World, content: bytes) -> None:
    world.own(f"{LIB}/libdata.so.1", content)
    (found,) = world.judge([LIBC], ordered(OWN, LIBC, CacheEntry(b"libdata.so.1", b"/usr/lib/libdata.so.1", 0x303, 0)))
    assert "no shared library" in found


def test_a_library_whose_content_nobody_signed(world: World) -> None:
    world.own(f"{LIB}/libghost.so.1", world.library("libghost.so.1"), ghost=True)
    (found,) = world.judge(
        [LIBC], ordered(OWN, LIBC, CacheEntry(b"libghost.so.1", b"/usr/lib/libghost.so.1", 0x303, 0))
    )
    assert "no shared library that somebody signed" in found


def test_a_library_where_ldconfig_does_not_look(world: World) -> None:
    """In a directory of its own for those that name it, unless the configuration names it, too."""
    world.own("/opt/plugin/libtss2.so.0", world.library("libtss2.so.0"))
    entry = CacheEntry(b"libtss2.so.0", b"/opt/plugin/libtss2.so.0", 0x303, 0)
    (found,) = world.judge([LIBC], [entry, OWN, LIBC])
    assert "ldconfig does not look" in found
    world.own("/etc/ld.so.conf.d/plugin.conf", b"/opt/plugin/ # ours\n")
    assert world.judge([LIBC], [entry, OWN, LIBC]) == []


def test_links_to_libraries_and_libraries_without_a_name(world: World) -> None:
    world.own(f"{LIB}/libown.so.1.2", world.library("libown.so.1"))
    world.own(f"{LIB}/libown.so.1", link="libown.so.1.2")
    world.own(f"{LIB}/libown.so", link="libown.so.1")
    world.own(f"{LIB}/libnameless.so", world.library(None))
    names = (b"libplugin.so.1", b"libown.so.1", b"libown.so", b"libnameless.so", b"libc.so.6")
    assert world.judge([LIBC], ordered(*(CacheEntry(name, b"/usr/lib/" + name, 0x303, 0) for name in names))) == []


def test_a_library_of_a_plugin_that_is_left_out(world: World) -> None:
    """What is linked with it would not start."""
    assert any("libplugin.so.1 is not in it" in one for one in world.judge([LIBC], [LIBC]))
    for unused in (replace(OWN, osversion=0x7FFFFFFF), replace(OWN, flags=0x3), replace(OWN, hwcap=1 << 60)):
        assert any("libplugin.so.1 is not in it" in one for one in world.judge([LIBC], [unused, LIBC])), unused


def test_what_ldconfig_leaves_out(world: World) -> None:
    data = bytearray(world.library("libarm.so.1"))
    data[18:20] = struct.pack("<H", 183)
    world.own(f"{LIB}/libarm.so.1", bytes(data))
    world.own(f"{LIB}/plugin/libinner.so.1", world.library("libinner.so.1"))
    world.own(f"{LIB}/plugin.so.1", world.library("plugin.so.1"))
    world.own(f"{LIB}/libdata.so.1", b"/* GNU ld script */\n")
    assert world.judge([LIBC], [OWN, LIBC]) == []


def test_entries_that_a_search_by_halving_misses(world: World) -> None:
    assert any(one.startswith("shadows") and "order" in one for one in world.judge([LIBC], [LIBC, OWN]))


def test_an_entry_for_later_kernels_only(world: World) -> None:
    assert world.judge([LIBC], [OWN, replace(LIBC, osversion=0x7FFFFFFF)])


def test_damaged_libraries_are_none(library: Any) -> None:
    data = library("libplugin.so.1")
    found = read_shared_object(BytesView(data, "file"))
    assert found is not None
    assert (found.soname, found.kind) == (b"libplugin.so.1", (2, 1, 62))
    for size in range(0, 1024, 7):
        assert read_shared_object(BytesView(data[:size], "file")) is None
