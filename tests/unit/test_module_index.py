"""The indexes that depmod writes, by the real one: what is the vendor's stays, what is new follows from a module."""

from __future__ import annotations

import re
import stat
import struct
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import pytest

from respin.errors import MalformedError
from respin.formats.kmodindex import normal, read_index
from respin.policy.derived import judge_derived
from respin.policy.moduledeps import judge_dependencies
from respin.policy.moduleindex import judge_module_index
from respin.policy.outcome import DEPMOD_FILES
from respin.root.delta import Delta

RELEASE = "6.1.0-test"
TOP = f"/lib/modules/{RELEASE}"
BUILTIN = {
    "modules.builtin": b"kernel/fs/inside.ko\n",
    "modules.order": b"",
    "modules.builtin.modinfo": b"inside.alias=fs-inside\0",
}
Infos = Dict[str, Tuple[str, ...]]
VENDOR: Infos = {
    "kernel/net/vendor-net.ko": ("alias=pci:v00001*d0000[0-9A-F-]sv*", "alias=net-pf-9", "softdep=pre: inside"),
    "kernel/net/vendor-dev.ko": ("alias=char-major-10-200", "alias=devname:net/tun"),
}
PLUGIN: Infos = {
    "extra/new-one.ko": (
        "alias=pci:v0000DEADd*sv*",
        "softdep=post: vendor-net",
        "alias=char-major-77-1",
        "alias=devname:new/one",
    ),
}
NET, NEW = VENDOR["kernel/net/vendor-net.ko"], PLUGIN["extra/new-one.ko"]


class Root:
    """A root over a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.view = SimpleNamespace(name="root")

    def lookup(self, path: str) -> Any:
        there = self.path / path[1:]
        return SimpleNamespace(is_file=there.is_file(), path=there) if there.exists() else None

    def read(self, inode: Any, _limit: int) -> bytes:
        data: bytes = inode.path.read_bytes()
        return data


def module(directory: Path, path: str, info: Tuple[str, ...]) -> None:
    name = re.sub(r"\W", "_", Path(path).stem)
    text = "\\0".join((f"vermagic={RELEASE} SMP", f"name={name}", "depends=", *info))
    source = directory / "m.c"
    source.write_text(
        f'__attribute__((section(".modinfo"), used)) static const char info[] = "{text}";\n'
        + "".join(f"extern int {one[6:]}; int *use_{one[6:]} = &{one[6:]};\n" for one in info if one[:6] == "calls=")
        + f"int __crc_{name}_hello __attribute__((used)) = 1; int __ksymtab_{name}_hello __attribute__((used)) = 1;\n"
        f'__attribute__((section("__ksymtab_strings"), used)) static const char names[] = "{name}_hello";\n'
    )
    target = directory / "lib/modules" / RELEASE / path
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc-12", "-c", "-o", target, source], check=True)


def made(directory: Path, infos: Infos) -> Root:
    directory.mkdir()
    for path, info in infos.items():
        module(directory, path, info)
    for name, content in BUILTIN.items():
        (directory / "lib/modules" / RELEASE / name).write_bytes(content)
    subprocess.run(["/sbin/depmod", "-C", "/nonexistent", "-b", directory, RELEASE], check=True)
    return Root(directory)


def plan(before: Root, plugin: Infos) -> Any:
    entry = SimpleNamespace(mode=stat.S_IFREG | 0o644, is_ghost=False)
    files = {f"{TOP}/{path}": SimpleNamespace(entry=entry) for path in plugin}
    node = SimpleNamespace(root=before, kernel_releases=(RELEASE,))
    return SimpleNamespace(node=node, files=files, database=SimpleNamespace(files=()))


def judged(before: Root, after: Root, plugin: Infos = PLUGIN) -> List[str]:
    names = [name for name in sorted(DEPMOD_FILES) if (after.path / TOP[1:] / name).exists() and name != "modules.dep"]
    assert {"modules.alias.bin", "modules.dep.bin", "modules.softdep", "modules.devname"} <= set(names)
    return [
        f"{name}: {one.message}"
        for name in names
        for one in judge_module_index(f"{TOP}/{name}", plan(before, plugin), after)  # type: ignore[arg-type]
    ]


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return made(tmp_path_factory.mktemp("vendor") / "root", VENDOR)


def test_what_depmod_makes_of_a_plugins_module_is_accepted(vendor: Root, tmp_path: Path) -> None:
    after = made(tmp_path / "root", {**VENDOR, **PLUGIN})
    assert judged(vendor, after) == []
    index = read_index((after.path / TOP[1:] / "modules.alias.bin").read_bytes(), "index")
    assert (b"pci:v0000DEADd*sv*", b"new_one") in index
    text = (after.path / TOP[1:] / "modules.alias").read_bytes().splitlines()
    listed = {(normal(words[1]), words[2]) for words in map(bytes.split, text) if words[0] == b"alias"}
    assert {item for item in index if not item[0].startswith(b"symbol:")} == listed


@pytest.mark.parametrize(
    ("infos", "file"),
    [
        ({"extra/new-one.ko": (*NEW, "alias=fs-ext4")}, "modules.alias.bin"),
        ({"extra/new-one.ko": (*NEW, "alias=fs-ext4")}, "modules.alias"),
        ({"kernel/net/vendor-net.ko": ("alias=net-pf-9",)}, "modules.alias.bin"),
        ({"kernel/net/vendor-net.ko": (*NET, "softdep=pre: new-one")}, "modules.softdep"),
        ({"extra/other.ko": ("alias=char-major-1-1", "alias=devname:mem")}, "modules.devname"),
        ({"extra/other.ko": ()}, "modules.dep.bin"),
        ({"extra/other.ko": ()}, "modules.symbols.bin"),
    ],
    ids=["alias", "text", "lost", "softdep", "devname", "dep", "symbol"],
)
def test_an_index_that_says_more_or_less(infos: Infos, file: str, vendor: Root, tmp_path: Path) -> None:
    """Made by depmod of other modules than those that are there."""
    after = made(tmp_path / "root", {**VENDOR, **PLUGIN})
    other = made(tmp_path / "other", {**VENDOR, **PLUGIN, **infos})
    (after.path / TOP[1:] / file).write_bytes((other.path / TOP[1:] / file).read_bytes())
    assert [one for one in judged(vendor, after) if one.startswith(f"{file}:")]


def test_a_builtin_that_is_none(vendor: Root, tmp_path: Path) -> None:
    """modprobe would not load a module that it takes for a part of the kernel."""
    after = made(tmp_path / "root", {**VENDOR, **PLUGIN})
    index = b"".join(
        (
            struct.pack(">III", 0xB007F457, 0x00020001, 12 | 0xC0000000),
            b"vendor_net\0",
            struct.pack(">II", 1, 0),
            b"\0",
        )
    )
    (after.path / TOP[1:] / "modules.builtin.bin").write_bytes(index)
    assert [one for one in judged(vendor, after) if one.startswith("modules.builtin.bin:")]


def listed(before: Root, after: Root, plugin: Infos = PLUGIN) -> List[str]:
    """What is found wrong with the text that the other indexes are made of."""
    path = f"{TOP}/modules.dep"
    return [one.message for one in judge_dependencies(path, plan(before, plugin), after)]  # type: ignore[arg-type]


def edit(after: Root, name: str, old: str, new: str) -> None:
    """Change one of the texts."""
    text = after.path / TOP[1:] / name
    assert old in text.read_text()
    text.write_text(text.read_text().replace(old, new))


def test_a_dependency_that_is_no_module(vendor: Root, tmp_path: Path) -> None:
    after = made(tmp_path / "root", {**VENDOR, **PLUGIN})
    assert listed(vendor, after) == []
    edit(after, "modules.dep", "extra/new-one.ko:", "extra/new-one.ko: /var/tmp/evil.ko")
    assert any("evil.ko" in one for one in listed(vendor, after))


@pytest.mark.parametrize("line", ["extra/new-one.ko:\n", "kernel/net/vendor-net.ko: extra/new-one.ko\n"])
def test_two_lines_for_one_module(line: str, vendor: Root, tmp_path: Path) -> None:
    """Judged would be one of them, and modprobe might take the other."""
    after = made(tmp_path / "root", {**VENDOR, **PLUGIN})
    text = after.path / TOP[1:] / "modules.dep"
    text.write_text(line + text.read_text())
    assert listed(vendor, after) == ["it has several lines for one module"]


def test_a_driver_that_no_index_names(vendor: Root, tmp_path: Path) -> None:
    """Its file is there as it was signed, and nothing would ever load it."""
    after = made(tmp_path / "root", {**VENDOR, **PLUGIN})
    for name in DEPMOD_FILES:
        if (vendor.path / TOP[1:] / name).exists():
            (after.path / TOP[1:] / name).write_bytes((vendor.path / TOP[1:] / name).read_bytes())
    assert any("not in the index" in one for one in listed(vendor, after))
    delta = Delta(())
    wanted = plan(vendor, PLUGIN)
    wanted.database = SimpleNamespace(backend="sqlite", file="/none", files=())
    wanted.rpms, wanted.declared = (), lambda effect: ()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("respin.policy.derived.judge_recorded", lambda *arguments: iter(()))
        found = [one.id for one in judge_derived(wanted, delta, after, tmp_path)]  # type: ignore[arg-type]
    assert set(found) == {"modules"}, "also where no index is said to differ"


@pytest.mark.parametrize("file", ["modules.alias", "modules.alias.bin", "modules.dep.bin", "modules.softdep"])
def test_an_index_that_lacks_what_a_driver_is_found_by(file: str, vendor: Root, tmp_path: Path) -> None:
    after = made(tmp_path / "root", {**VENDOR, **PLUGIN})
    (after.path / TOP[1:] / file).write_bytes((vendor.path / TOP[1:] / file).read_bytes())
    assert any(one.startswith(f"{file}:") and "lacks" in one for one in judged(vendor, after))


def test_an_alias_that_depmod_leaves_out_of_its_index(vendor: Root, tmp_path: Path) -> None:
    after = made(tmp_path / "root", {**VENDOR, "extra/new-one.ko": (*PLUGIN["extra/new-one.ko"], "alias=of:x]y")})
    assert judged(vendor, after) == []


def test_what_another_driver_of_the_plugin_is_needed_for(vendor: Root, tmp_path: Path) -> None:
    """A driver that calls another one cannot be loaded before it, compressed or not."""
    plugin: Infos = {
        "extra/new-one.ko": (),
        "extra/user.ko": ("calls=new_one_hello",),
        "extra/top.ko": ("calls=user_hello",),
    }
    after = made(tmp_path / "root", {**VENDOR, **plugin})
    assert "extra/top.ko: extra/user.ko extra/new-one.ko\n" in (after.path / TOP[1:] / "modules.dep").read_text()
    assert listed(vendor, after, plugin) == []
    edit(after, "modules.dep", "extra/top.ko: extra/user.ko extra/new-one.ko", "extra/top.ko: extra/user.ko")
    assert any("top.ko needs the module new_one" in one for one in listed(vendor, after, plugin))
    edit(after, "modules.dep", "extra/user.ko: extra/new-one.ko", "extra/user.ko:")
    assert any("user.ko needs the module new_one" in one for one in listed(vendor, after, plugin))


def test_compressed_drivers_are_listed_as_they_are(vendor: Root, tmp_path: Path) -> None:
    plugin: Infos = {"extra/new-one.ko.xz": PLUGIN["extra/new-one.ko"]}
    after = made(tmp_path / "root", {**VENDOR, **PLUGIN})
    subprocess.run(["xz", "--check=crc32", after.path / TOP[1:] / "extra/new-one.ko"], check=True)
    subprocess.run(["/sbin/depmod", "-C", "/nonexistent", "-b", after.path, RELEASE], check=True)
    assert listed(vendor, after, plugin) == []
    assert judged(vendor, after, plugin) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack(">III", 0xB007F457, 0x00020001, 12 | 0x20000000) + b"a",
        struct.pack(">III", 0xB007F457, 0x00020001, 12 | 0x20000000) + b"aa" + struct.pack(">I", 12 | 0x20000000),
        struct.pack(">III", 0xB007F457, 0x00020001, 12 | 0x40000000) + struct.pack(">I", 0xFFFFFFFF),
    ],
    ids=["empty", "truncated", "loop", "values"],
)
def test_what_is_no_index(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read_index(data, "index")
