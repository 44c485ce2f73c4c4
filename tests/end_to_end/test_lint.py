"""The lint of media: a good ISO has no finding, and each defect has its own.

Good means that the programs which made it call it good; the defects are the ones that respinners are known for.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Callable, List, Set

import pytest

from respin.byteview import FileView
from respin.errors import BuildError
from respin.lint.lint import Linted, lint, require_no_new_error
from respin.lint.model import Severity
from respin.node.knownprofiles import built_in
from tests.end_to_end.conftest import Respun
from tests.support.forge import respin
from tests.support.iso import VOLUME_ID, build_classic_iso

KERNEL_LINE = f"root=live:CDLABEL={VOLUME_ID} ro liveimg quiet"
ISOLINUX_CFG = f"default linux\nlabel linux\n kernel vmlinuz0\n append initrd=initrd0.img {KERNEL_LINE}\n"
GRUB_CFG = (
    f"search --no-floppy --set=root -l '{VOLUME_ID}'\n"
    f"menuentry 'Start' {{\n linux /isolinux/vmlinuz0 {KERNEL_LINE}\n initrd /isolinux/initrd0.img\n}}\n"
)
EFI_CFG = f"search --file --set=root /isolinux/vmlinuz0\n{GRUB_CFG}"


def efi_image(directory: Path, config: str) -> Path:
    """A FAT volume with a boot configuration, made by mtools."""
    path, file = directory / "efiboot.img", directory / "embedded.cfg"
    file.write_text(config)
    path.write_bytes(bytes(2 << 20))
    for command in (["mformat", "-i", path, "::"], ["mmd", "-i", path, "::/EFI", "::/EFI/BOOT"]):
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
    subprocess.run(["mcopy", "-i", path, file, "::/EFI/BOOT/grub.cfg"], check=True, capture_output=True)
    return path


class World:
    """Makes ISOs, and lints them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._count = 0

    def make(self, *, isolinux: str = ISOLINUX_CFG, grub: str = GRUB_CFG, efi: str = EFI_CFG) -> Path:
        self._count += 1
        directory = self.directory / str(self._count)
        directory.mkdir()
        files = {
            "isolinux/isolinux.cfg": isolinux,
            "EFI/BOOT/grub.cfg": grub,
            "isolinux/efiboot.img": efi_image(directory, efi),
        }
        return build_classic_iso(directory, files)

    def changed(self, good: Path, change: Callable[[bytearray], None]) -> Path:
        self._count += 1
        data = bytearray(good.read_bytes())
        change(data)
        path = self.directory / f"{self._count}.iso"
        path.write_bytes(data)
        return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("lint"))


@pytest.fixture(scope="module")
def good(world: World) -> Path:
    return world.make()


def linted(path: Path) -> Linted:
    with path.open("rb") as stream:
        return lint(FileView(stream.fileno(), path.name), built_in())


def ids(path: Path) -> Set[str]:
    return {one.id for one in linted(path).findings}


def test_a_good_iso_has_no_finding(good: Path) -> None:
    assert linted(good).findings == ()
    assert linted(good).passed


@pytest.mark.parametrize(
    ("copy", "old", "new", "expected"),
    [
        ("isolinux", "kernel vmlinuz0", "kernel vmlinuz1", "kernel-missing"),
        ("isolinux", "initrd=initrd0.img", "initrd=initrd1.img", "initrd-missing"),
        ("isolinux", f"CDLABEL={VOLUME_ID}", "CDLABEL=OTHER", "label-mismatch"),
        ("grub", "linux /isolinux/vmlinuz0", "linux /images/vmlinuz", "kernel-missing"),
        ("grub", "initrd /isolinux/initrd0.img", "initrd /isolinux/none.img", "initrd-missing"),
        ("grub", f"-l '{VOLUME_ID}'", "-l 'OTHER'", "label-mismatch"),
        ("efi", f"CDLABEL={VOLUME_ID}", "CDLABEL=OTHER", "label-mismatch"),
        ("efi", "/isolinux/vmlinuz0\n", "/isolinux/none\n", "search-file-missing"),
        ("efi", " quiet", "", "boot-configs-differ"),
        ("grub", "ro liveimg", f"ro liveimg inst.ks=hd:LABEL={VOLUME_ID}:/none.ks", "kickstart-missing"),
        ("grub", "ro liveimg", "ro liveimg inst.stage2=hd:LABEL=OTHER", "label-mismatch"),
    ],
)
def test_an_entry_that_cannot_boot_is_found(world: World, copy: str, old: str, new: str, expected: str) -> None:
    text = {"isolinux": ISOLINUX_CFG, "grub": GRUB_CFG, "efi": EFI_CFG}[copy]
    assert text.count(old) >= 1
    found = linted(world.make(**{copy: text.replace(old, new, 1)}))
    named = [one for one in found.findings if one.id == expected]
    assert named
    assert all(one.remedy and one.place for one in named)
    place = {"isolinux": "/isolinux/isolinux.cfg", "grub": "/EFI/BOOT/grub.cfg", "efi": "efiboot.img:"}[copy]
    assert any(place in one.place for one in named)
    assert found.passed == all(one.severity is Severity.WARNING for one in named)


def test_an_escaped_label_is_the_label(world: World, tmp_path: Path) -> None:
    cfg = ISOLINUX_CFG.replace(f"CDLABEL={VOLUME_ID}", f"CDLABEL={VOLUME_ID.replace('-', chr(92) + 'x2d')}")
    assert ids(world.make(isolinux=cfg)) <= {"boot-configs-differ"}


def flip(offset: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[offset] ^= 0xFF

    return change


def boot_image(good: Path) -> int:
    """The byte where isolinux.bin lies, as xorriso says."""
    said = subprocess.run(
        ["xorriso", "-indev", good, "-report_el_torito", "plain"], capture_output=True, text=True, check=True
    ).stdout
    line = next(line for line in said.splitlines() if line.startswith("El Torito boot img :   1  BIOS"))
    return int(line.split()[-1]) * 2048


def only(found: Set[str]) -> List[str]:
    """Without what every changed byte causes."""
    return sorted(found - {"media-check"})


def test_a_changed_boot_image_is_found(world: World, good: Path) -> None:
    assert only(ids(world.changed(good, flip(boot_image(good) + 2000)))) == ["boot-info-table"]
    assert only(ids(world.changed(good, flip(boot_image(good) + 12)))) == ["boot-info-table"]


def test_a_wrong_gpt_is_found(world: World, good: Path) -> None:
    assert only(ids(world.changed(good, flip(512 + 56)))) == ["gpt-crc"]
    assert only(ids(world.changed(good, flip(good.stat().st_size - 512 + 56)))) == ["gpt-backup"]


def test_a_boot_image_outside_the_file_is_found(world: World, good: Path) -> None:
    catalog = good.read_bytes()[17 * 2048 + 71 : 17 * 2048 + 75]
    at = int.from_bytes(catalog, "little") * 2048 + 32 + 8

    def change(data: bytearray) -> None:
        data[at : at + 4] = (10**6).to_bytes(4, "little")

    assert "boot-entry" in ids(world.changed(good, change))


def test_a_partition_behind_the_end_is_found(world: World, good: Path) -> None:
    def change(data: bytearray) -> None:
        data[446 + 12 : 446 + 16] = (10**6).to_bytes(4, "little")

    assert only(ids(world.changed(good, change))) == ["mbr-partition"]


def test_a_truncated_file_is_found(world: World, good: Path) -> None:
    def change(data: bytearray) -> None:
        del data[-(1 << 20) :]

    assert "volume-truncated" in ids(world.changed(good, change))


def test_a_build_refuses_a_defect_that_the_vendors_iso_has_not(world: World, good: Path) -> None:
    bad = world.make(grub=GRUB_CFG.replace("vmlinuz0", "none"))
    require_no_new_error(linted(good), linted(good))
    require_no_new_error(linted(bad), linted(bad))
    with pytest.raises(BuildError, match="kernel"):
        require_no_new_error(linted(good), linted(bad))


def test_a_file_that_only_one_tree_has_is_found(world: World, good: Path) -> None:
    data = good.read_bytes()
    name = "README.txt".encode("utf-16-be")
    at = data.index(name, 40 * 2048) - 33
    size = int.from_bytes(data[at + 10 : at + 14], "little")

    def change(changed: bytearray) -> None:
        changed[at + 10 : at + 18] = (size + 1).to_bytes(4, "little") + (size + 1).to_bytes(4, "big")

    assert only(ids(world.changed(good, change))) == ["trees-differ"]


def test_a_failing_media_check_is_found(world: World, good: Path) -> None:
    changed = world.changed(good, flip(good.read_bytes().index(b"a file in the root directory")))
    assert ids(changed) == {"media-check"}
    said = subprocess.run(["checkisomd5", changed], capture_output=True, text=True, check=False)
    assert said.returncode == 1


def test_the_command_says_it_and_ends_with_4(world: World, good: Path, tmp_path: Path) -> None:
    passed = respin("inspect", good, "--lint", "--json")
    assert (passed.code, passed.json["schema"], passed.json["passed"]) == (0, "respin.lint/1", True)
    bad = world.make(grub=GRUB_CFG.replace("vmlinuz0", "none"))
    failed = respin("inspect", bad, "--lint")
    assert failed.code == 4
    assert "kernel-missing" in failed.out
    assert respin("inspect", good, "--lint", "--files").code == 2


def test_what_a_build_publishes_passes(stock_iso: Path, respun: Respun) -> None:
    for iso in (stock_iso, respun.iso):
        done = respin("inspect", iso, "--lint", "--json")
        assert done.json["findings"] == []
