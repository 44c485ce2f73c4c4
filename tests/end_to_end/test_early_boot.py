"""Drivers in early boot: what is appended to the initrd is found there by its own tools, and nothing else changed.

Oracles are cpio, which reads the appended archive, and modprobe, which looks a device up in the unpacked initrd.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import List, Tuple

import pytest

from tests.support import rawiso
from tests.support.attacker import Forgery
from tests.support.forge import Forge, respin
from tests.support.modules import Modules, compile_modules

DEVICE = "pci:v0000DEADd0000BEEFsv00001AF4sd00000001bc02sc00i00"
INITRD = "/isolinux/initrd0.img"


@dataclass(frozen=True)
class Early:
    """A Node respun with drivers in early boot; the vendor's initrd and the new one."""

    iso: Path
    vendor: bytes
    initrd: bytes
    release: str

    @property
    def archive(self) -> bytes:
        """What lies behind the vendor's initrd."""
        return self.initrd[len(self.vendor) + -len(self.vendor) % 4 :]


def content(iso: Path, path: str) -> bytes:
    """A file of an ISO, by the raw records."""
    data = iso.read_bytes()
    record = next(one for one in rawiso.records(data, False) if one.path == path)
    return data[record.extent * 2048 : record.extent * 2048 + record.size]


@pytest.fixture(scope="module")
def modules(stock_iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Modules:
    (release,) = respin("inspect", stock_iso, "--json").json["node"]["kernels"]
    return compile_modules(release, tmp_path_factory.mktemp("modules"))


@pytest.fixture(scope="module")
def early(forge: Forge, modules: Modules, tmp_path_factory: pytest.TempPathFactory) -> Early:
    """``testuser`` and ``testfirmware`` are asked for; the first needs ``testbase``, the second a firmware file."""
    directory = tmp_path_factory.mktemp("early")
    extra = f"/lib/modules/{modules.release}/extra"
    plugin = forge.plugin(
        "early",
        files={
            f"{extra}/testbase.ko": modules.base,
            f"{extra}/testuser.ko": modules.user,
            f"{extra}/testfirmware.ko": modules.firmware,
            "/usr/lib/firmware/test/one.bin": "firmware\n",
            "/usr/lib/modprobe.d/early.conf": "options testuser dyndbg=0\n",
            "/usr/share/early/unrelated": "not for early boot\n",
        },
        effects='kernel_modules = ["testbase", "testfirmware", "testuser"]\n'
        'initrd_modules = ["testfirmware", "testuser"]',
    )
    done = forge.build(directory / "out.iso", plugin, json=True)
    assert done.code == 0, done.err
    vendor, initrd = content(forge.iso, INITRD), content(directory / "out.iso", INITRD)
    return Early(directory / "out.iso", vendor, initrd, modules.release)


def unpacked(initrd: List[bytes], directory: Path) -> Path:
    """Archives unpacked one over the other, as the kernel does, by cpio."""
    for number, part in enumerate(initrd):
        plain = part
        if part[:2] == b"\x1f\x8b":
            plain = subprocess.run(["gzip", "-dc"], input=part, capture_output=True, check=False).stdout
        target = directory / "root"
        target.mkdir(parents=True, exist_ok=True)
        command = ["cpio", "-idmu", "--quiet", "--no-absolute-filenames"]
        done = subprocess.run(command, input=plain, cwd=target, capture_output=True, check=False)
        assert done.returncode == 0 or os.geteuid() != 0, (number, done.stderr)
    return directory / "root"


def drivers_of(root: Path, release: str) -> List[str]:
    """The modules that modprobe finds for the device."""
    command = ["/sbin/modprobe", "-d", root, "-S", release, "-C", "/nonexistent", "-R", DEVICE]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False).stdout.split()


def test_the_vendors_initrd_is_an_untouched_prefix(early: Early) -> None:
    assert early.initrd[: len(early.vendor)] == early.vendor
    assert early.initrd[len(early.vendor) :][: -len(early.vendor) % 4].strip(b"\0") == b""


def test_what_is_needed_is_there_and_nothing_else(early: Early) -> None:
    listed = (
        subprocess.run(["cpio", "-t", "--quiet"], input=early.archive, capture_output=True, check=True)
        .stdout.decode()
        .split()
    )
    modules = f"usr/lib/modules/{early.release}"
    files = {name for name in listed if not name.startswith(f"{modules}/modules.") and "." in name.rpartition("/")[2]}
    assert files - {modules} == {
        f"{modules}/extra/testbase.ko",
        f"{modules}/extra/testfirmware.ko",
        f"{modules}/extra/testuser.ko",
        "usr/lib/firmware/test/one.bin",
        "usr/lib/modprobe.d/early.conf",
    }
    assert {f"{modules}/modules.{name}" for name in ("dep", "dep.bin", "alias", "alias.bin", "symbols.bin")} <= set(
        listed
    )


def test_early_boot_finds_the_driver_only_by_the_merged_index(early: Early, tmp_path: Path) -> None:
    whole = unpacked([early.vendor, early.archive], tmp_path / "whole")
    assert drivers_of(whole, early.release) == ["testbase"]
    vendors = unpacked([early.vendor], tmp_path / "vendor")
    assert drivers_of(vendors, early.release) == []
    for name in ("testbase.ko", "testuser.ko"):
        target = vendors / "usr/lib/modules" / early.release / "extra" / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((whole / "usr/lib/modules" / early.release / "extra" / name).read_bytes())
    assert drivers_of(vendors, early.release) == []


def test_the_vendors_drivers_are_still_found(early: Early, tmp_path: Path) -> None:
    index = Path("usr/lib/modules") / early.release / "modules.dep"
    before = (unpacked([early.vendor], tmp_path / "a") / index).read_text().splitlines()
    after = (unpacked([early.vendor, early.archive], tmp_path / "b") / index).read_text().splitlines()
    added = sorted(set(after) - set(before))
    assert set(before) <= set(after)
    assert [line.partition(":")[0].rpartition("/")[2] for line in added] == [
        "testbase.ko",
        "testfirmware.ko",
        "testuser.ko",
    ]


def test_verify_recomputes_it_and_restore_takes_it_back(early: Early, forge: Forge, tmp_path: Path) -> None:
    done = respin("verify", early.iso, "--trust", forge.keys.trust, "--json")
    assert done.code == 0, done.err
    links = {link["name"]: (link["status"], link["detail"]) for link in done.json["links"]}
    assert links["medium"][0] == "passed"
    assert INITRD in links["medium"][1]
    assert respin("restore", early.iso, "-o", tmp_path / "stock.iso").code == 0
    assert (tmp_path / "stock.iso").read_bytes() == forge.iso.read_bytes()


def place_of(early: Early, needle: bytes) -> Tuple[int, bytes]:
    data = early.iso.read_bytes()
    offset = data.index(early.initrd[-2000:]) - len(early.initrd) + 2000
    at = data.index(needle, offset + len(early.vendor))
    assert at < offset + len(early.initrd)
    return at, data[at : at + len(needle)]


@pytest.mark.parametrize("needle", [b"firmware\n", b"alias pci:v0000DEADd0000BEEF", b"extra/testuser.ko"])
def test_a_hostile_author_cannot_change_what_early_boot_gets(
    early: Early, forge: Forge, tmp_path: Path, needle: bytes
) -> None:
    forgery = Forgery(early.iso, tmp_path / "forged.iso", forge.keys)
    at, old = place_of(early, needle)
    forgery.data[at] = old[0] ^ 1
    done = respin("verify", forgery.finish(), "--trust", forge.keys.trust)
    assert done.code == 3, done.err
