"""What goes behind an initrd: nothing in it takes the place of the vendor's, whatever modules say of themselves."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Mapping, Optional

import pytest

from respin import process
from respin.byteview import BytesView
from respin.errors import MalformedError, PolicyError
from respin.formats import cpio
from respin.formats.kernelmodule import read_module
from respin.formats.lspci import parse
from respin.formats.modulesignature import signer
from respin.medium.earlyboot import _Extension
from respin.medium.initrds import Initrds
from respin.node.kernelfacts import firmware_paths

RELEASE = "6.1.0-test"
EMPTY: Mapping[str, bytes] = {}
MODULES = f"usr/lib/modules/{RELEASE}"
INITRD: Dict[str, Optional[bytes]] = {"usr": None, f"{MODULES}/modules.order": b"", "usr/lib/firmware/there.bin": b"v"}


class Root:
    """As much of a root as is asked for, over files by path."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.view = BytesView(b"", "root")

    def lookup(self, path: str) -> Any:
        if path in self.files:
            return SimpleNamespace(mode=0o100644, is_file=True, is_directory=False, path=path)
        below = any(name.startswith(path.rstrip("/") + "/") for name in self.files)
        return SimpleNamespace(mode=0o040755, is_file=False, is_directory=True) if below else None

    def resolve(self, path: str) -> Any:
        parts: list[str] = []
        for part in path.split("/"):
            parts = parts[:-1] if part == ".." else [*parts, part]
        found = self.lookup("/".join(parts))
        return None if found is None else SimpleNamespace(inode=found)

    def read(self, inode: Any, _limit: int) -> bytes:
        return self.files[inode.path]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes an object file with the given module information."""
    directory = tmp_path_factory.mktemp("modules")

    def made(*info: str) -> bytes:
        text = "\\0".join((f"vermagic={RELEASE} SMP", *info))
        source = f'__attribute__((section(".modinfo"), used)) static const char info[] = "{text}";'
        (directory / "m.c").write_text(source)
        subprocess.run(["gcc-12", "-c", "-o", directory / "m.ko", directory / "m.c"], check=True)
        return (directory / "m.ko").read_bytes()

    return made


def extension(
    tmp_path: Path,
    files: Mapping[str, bytes],
    vendor: Mapping[str, bytes],
    initrd: bytes,
    disk: Mapping[str, bytes] = EMPTY,
) -> Mapping[str, cpio.Member]:
    """The members of what goes behind ``initrd`` for a plugin with ``files`` that wants the module ``new`` there."""
    bundle = SimpleNamespace(manifest=SimpleNamespace(effects=SimpleNamespace(initrd_modules=("new",))))
    planned = {
        path: SimpleNamespace(
            path=path,
            nevra="plugin-1-1",
            bundle=bundle,
            entry=SimpleNamespace(digest_algorithm="sha256", digest=hashlib.sha256(content).hexdigest()),
        )
        for path, content in files.items()
    }
    plan: Any = SimpleNamespace(files=planned, node=SimpleNamespace(root=Root(vendor)), epoch=1)
    after: Any = Root({**vendor, **files})
    made = _Extension(plan, after, BytesView(initrd, "initrd"), Initrds(), tmp_path).archive(["new"], disk)
    return cpio.read(BytesView(made, "added"))


def test_firmware_that_the_module_names_comes_along(module: Any, tmp_path: Path) -> None:
    files = {f"/{MODULES}/extra/new.ko": module("firmware=a/one.bin"), "/usr/lib/firmware/a/one.bin": b"1"}
    found = extension(tmp_path, files, {"/etc/shadow": b"root"}, cpio.archive(INITRD, 0))
    assert "usr/lib/firmware/a/one.bin" in found


@pytest.mark.parametrize("name", ["../../../etc/shadow", "a/../../../../etc/shadow", "/etc/shadow"])
def test_firmware_by_a_name_that_leads_elsewhere_does_not(name: str, module: Any, tmp_path: Path) -> None:
    """Else any file of the vendor's root could be put where early boot acts on it."""
    assert firmware_paths(name, RELEASE) == ()
    files = {f"/{MODULES}/extra/new.ko": module(f"firmware={name}")}
    found = extension(tmp_path, files, {"/etc/shadow": b"root"}, cpio.archive(INITRD, 0))
    assert "etc/shadow" not in found


@pytest.mark.parametrize(
    ("files", "initrd"),
    [
        ({"/usr/lib/firmware/there.bin": b"p"}, {}),
        ({"/usr/lib/modprobe.d/vendor.conf": b"p"}, {"usr/lib/modprobe.d/vendor.conf": b"v"}),
        ({}, {f"{MODULES}/kernel/new.ko": b"v"}),
    ],
    ids=["firmware", "options", "module"],
)
def test_what_only_the_initrd_has_stays(
    files: Dict[str, bytes], initrd: Dict[str, bytes], module: Any, tmp_path: Path
) -> None:
    files = {f"/{MODULES}/extra/new.ko": module("firmware=there.bin"), **files}
    with pytest.raises(PolicyError) as caught:
        extension(tmp_path, files, {}, cpio.archive({**INITRD, **initrd}, 0))
    assert caught.value.finding == "initrd-override"


@pytest.mark.parametrize("names", [("a.ko", "a.ko/b.ko"), ("a.ko/b.ko", "a.ko")])
def test_an_initrd_with_a_file_that_is_a_directory(names: "tuple[str, str]", tmp_path: Path) -> None:
    archive = cpio.archive({f"{MODULES}/{name}": b"x" for name in names}, 0)
    with pytest.raises(MalformedError):
        Initrds().take_apart(BytesView(archive, "initrd"), tmp_path / "work")


def test_an_initrd_that_leads_out_of_the_scratch_directory(tmp_path: Path) -> None:
    archive = cpio.archive({"lib/modules/../../../out.ko": b"x"}, 0)
    with pytest.raises(MalformedError):
        Initrds().take_apart(BytesView(archive, "initrd"), tmp_path / "work")
    assert list(tmp_path.rglob("out.ko")) == []


def test_tables_that_are_made_to_take_long(module: Any) -> None:
    """Names without an end, CRCs in a large section, a signature of nothing but elements: bounded, or refused."""
    data = bytearray(module("name=new"))
    start = int.from_bytes(data[40:48], "little")
    size, count, names = (int.from_bytes(data[at : at + 2], "little") for at in (58, 60, 62))
    table = next(start + n * size for n in range(count) if data[start + n * size + 4] == 2)
    blob = len(data)
    data += b"n" * (8 << 20)
    strings = start + size * int.from_bytes(data[table + 40 : table + 44], "little")
    data[strings + 24 : strings + 32] = blob.to_bytes(8, "little")
    data[strings + 32 : strings + 40] = (8 << 20).to_bytes(8, "little")
    symbols = len(data)
    data += b"".join((number * 8).to_bytes(4, "little") + bytes(20) for number in range(100_000))
    data[table + 24 : table + 32] = symbols.to_bytes(8, "little")
    data[table + 32 : table + 40] = (2_400_000).to_bytes(8, "little")
    began = time.monotonic()
    assert len(read_module(bytes(data), "new.ko", "new.ko").imports) <= 100_000
    assert signer(b"\x30\x84\x01\x00\x00\x00" + bytes(1 << 24)) is None
    with pytest.raises(MalformedError):
        parse("00:00.0 " + " [0000]: [0000:0000]" * 50_000 + "x", "lspci")
    assert time.monotonic() - began < 30
    assert names


def test_a_driver_update_disk_comes_along_and_takes_nobodys_place(module: Any, tmp_path: Path) -> None:
    files = {f"/{MODULES}/extra/new.ko": module()}
    (tmp_path / "first").mkdir()
    found = extension(tmp_path / "first", files, {}, cpio.archive(INITRD, 0), {"drivers.iso": b"disk"})
    assert found["drivers.iso"].sha256 == hashlib.sha256(b"disk").hexdigest()
    (tmp_path / "second").mkdir()
    with pytest.raises(PolicyError) as caught:
        extension(
            tmp_path / "second", files, {}, cpio.archive({**INITRD, "drivers.iso": b""}, 0), {"drivers.iso": b"x"}
        )
    assert caught.value.finding == "initrd-override"


def test_a_depmod_of_another_version_makes_the_same(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kmod 33 brought modules.weakdep; who verifies may have a newer depmod than who built."""
    files = {f"/{MODULES}/extra/new.ko": module("softdep=pre: other")}
    before = extension(tmp_path / "before", files, {}, cpio.archive(INITRD, 0))
    newer = tmp_path / "bin/depmod"
    newer.parent.mkdir()
    newer.write_text(
        f'#!/bin/sh\n{shutil.which("depmod")} "$@" && while [ "$1" != -b ]; do shift; done\n'
        f"echo '# Weak dependencies' > \"$2/lib/modules/{RELEASE}/modules.weakdep\"\n"
    )
    newer.chmod(0o755)
    monkeypatch.setattr(process, "SEARCH_PATH", f"{newer.parent}:{process.SEARCH_PATH}")
    after = extension(tmp_path / "after", files, {}, cpio.archive(INITRD, 0))
    assert list(tmp_path.rglob("modules.weakdep"))
    assert after == before
    assert {f"{MODULES}/modules.{name}" for name in ("dep", "dep.bin", "alias.bin", "symbols.bin", "softdep")} <= set(
        after
    )
