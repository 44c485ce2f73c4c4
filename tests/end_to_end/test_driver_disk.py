"""A driver update disk for anaconda: in the initrd of a Node of the NG kind, named in every copy of the boot menu.

Oracles are cpio, xorriso, mtools and rpm. What anaconda does with it is not tried: there is none here.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.conftest import sha256
from tests.support import kinds
from tests.support.attacker import Forgery
from tests.support.forge import Forge, respin
from tests.support.images import extracted, run
from tests.support.keys import KeyWorld
from tests.support.modules import Modules, compile_modules

DISK = "respin-drivers.iso"
ARGUMENT = f"inst.dd=/{DISK}"
INITRD = "/images/pxeboot/initrd.img"
EFFECTS = 'kernel_modules = ["testbase"]\ninitrd_modules = ["testbase"]'


@dataclass(frozen=True)
class Installs:
    """A Node of the NG kind, its respin with a driver, and the package with the driver."""

    forge: Forge
    iso: Path
    rpm: Path
    modules: Modules


def package(forge: Forge, modules: Modules, provides: str, *more: str) -> Path:
    files = {f"/lib/modules/{modules.release}/extra/testbase.ko": modules.base, **dict.fromkeys(more, "more\n")}
    return forge.rpm("kmod-test", files=files, preamble=provides)


@pytest.fixture(scope="module")
def ng(key_world: KeyWorld, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Installs:
    tmp = tmp_path_factory.mktemp("ng")
    (release,) = respin("inspect", stock_iso, "--json").json["node"]["kernels"]
    (tmp / "modules").mkdir()
    modules = compile_modules(release, tmp / "modules")
    forge = Forge(key_world, kinds.ng(stock_iso, tmp), tmp, "ovirt-node-ng")
    rpm = package(forge, modules, "Provides: kernel-modules >= 4.18")
    done = forge.build(tmp / "out.iso", forge.bundle([rpm], effects=EFFECTS), json=True)
    assert done.code == 0, done.err
    return Installs(forge, tmp / "out.iso", rpm, modules)


@pytest.fixture(scope="module")
def disk(ng: Installs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk, taken out of what follows the vendor's initrd by cpio."""
    tmp = tmp_path_factory.mktemp("disk")
    vendor = extracted(ng.forge.iso, INITRD, tmp / "vendor").read_bytes()
    initrd = extracted(ng.iso, INITRD, tmp / "new").read_bytes()
    assert initrd.startswith(vendor)
    archive = initrd[len(vendor) + -len(vendor) % 4 :]
    subprocess.run(["cpio", "-id", "--quiet", DISK], input=archive, cwd=tmp, check=True)
    return tmp / DISK


def test_the_disk_is_as_anaconda_documents_it(ng: Installs, disk: Path, tmp_path: Path) -> None:
    run("xorriso", "-osirrox", "on", "-indev", disk, "-extract", "/", tmp_path / "disk")
    found = {str(path.relative_to(tmp_path / "disk")) for path in (tmp_path / "disk").rglob("*") if path.is_file()}
    assert found == {"rhdd3", "rpms/x86_64/kmod-test-1.0-1.noarch.rpm"}
    rpm = tmp_path / "disk/rpms/x86_64/kmod-test-1.0-1.noarch.rpm"
    assert sha256(rpm) == sha256(ng.rpm)
    assert "kernel-modules >= 4.18" in run("rpm", "-qp", "--nosignature", "--provides", rpm).decode()


def test_every_copy_of_the_boot_menu_names_it(ng: Installs, tmp_path: Path) -> None:
    menus = [extracted(ng.iso, path, tmp_path / "menu").read_text() for path in ("/isolinux/isolinux.cfg",)]
    menus.append(extracted(ng.iso, "/EFI/BOOT/grub.cfg", tmp_path / "grub").read_text())
    efi = extracted(ng.iso, "/images/efiboot.img", tmp_path / "efi")
    menus.append(run("mtype", "-i", efi, "::EFI/BOOT/grub.cfg").decode())
    for menu in menus:
        entries = [line.split() for line in menu.splitlines() if "inst.stage2=" in line]
        assert len(entries) == 1
        assert entries[0].count(ARGUMENT) == 1
    vendor = extracted(ng.forge.iso, "/isolinux/isolinux.cfg", tmp_path / "vendor").read_text()
    assert menus[0].replace(f" {ARGUMENT}", "") == vendor


def test_it_verifies_by_what_it_carries_and_comes_back(ng: Installs, tmp_path: Path) -> None:
    done = respin("verify", ng.iso, "--trust", ng.forge.keys.trust, "--json")
    assert done.code == 0, done.err
    (medium,) = [link for link in done.json["links"] if link["name"] == "medium"]
    assert medium["status"] == "passed"
    assert f"+{ARGUMENT}" in medium["detail"]
    details = {one["place"]: one.get("detail") for one in done.json["medium"]["edited"]}
    assert details[INITRD] == f"testbase /{DISK}"
    assert respin("restore", ng.iso, "-o", tmp_path / "stock.iso").code == 0
    run("cmp", tmp_path / "stock.iso", ng.forge.iso)


@pytest.mark.parametrize(("what", "finding"), [("package", "driver-disk"), ("mark", "not-the-vendors")])
def test_a_hostile_author_cannot_change_the_disk(ng: Installs, tmp_path: Path, what: str, finding: str) -> None:
    needle = ng.rpm.read_bytes()[-64:] if what == "package" else b"Driver Update Disk version 3"
    forgery = Forgery(ng.iso, tmp_path / "forged.iso", ng.forge.keys)
    assert forgery.data.count(needle) == 1
    forgery.data[forgery.data.index(needle)] ^= 1
    done = respin("verify", forgery.finish(), "--trust", ng.forge.keys.trust, "--json")
    assert done.code == 3, done.err
    assert done.json["error"]["finding"] == finding


TAKES = "Provides: kernel-modules >= 4.18"


@pytest.mark.parametrize(
    ("provides", "more", "said"),
    [
        (TAKES, "/usr/share/doc/kmod-test/README", "by a driver update disk in the initrd: kmod-test-1.0-1.noarch"),
        (TAKES, "/lib/firmware/kmod-test.bin", "by a driver update disk in the initrd: kmod-test-1.0-1.noarch"),
        ("Provides: kernel-modules = 4.18", "", "kmod-test-1.0-1.noarch does not provide kernel-modules"),
        ("Provides: kernel-modules < 4.18", "", "kmod-test-1.0-1.noarch does not provide kernel-modules"),
        ("Provides: kernel-modules", "", "kmod-test-1.0-1.noarch does not provide kernel-modules"),
        ("", "", "kmod-test-1.0-1.noarch does not provide kernel-modules"),
        (TAKES, "/usr/bin/kmod-test", "kmod-test-1.0-1.noarch holds /usr/bin/kmod-test"),
        (TAKES, "/usr/lib64/kmod-test/x.so", "kmod-test-1.0-1.noarch holds /usr/lib64/kmod-test/x.so"),
        (TAKES, "/usr/lib/python3.6/kmodtest.py", "kmod-test-1.0-1.noarch holds /usr/lib/python3.6/kmodtest.py"),
    ],
)
def test_on_the_disk_is_what_anaconda_would_take_and_nothing_else_for_the_installer(
    ng: Installs, provides: str, more: str, said: str
) -> None:
    """By what `respin check` says before anything is built."""
    rpm = package(ng.forge, ng.modules, provides, *filter(None, [more]))
    bundle = ng.forge.bundle([rpm], effects=EFFECTS)
    done = respin("check", bundle, "--base", ng.forge.iso, "--trust", ng.forge.keys.trust, "--json")
    assert done.code in (0, 4), done.err
    assert said in done.json["places"]["/images/install.img"]
