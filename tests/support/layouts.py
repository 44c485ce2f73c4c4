"""The layouts of ISO images that vendors ship, made at run time by the programs that vendors use.

``LAYOUTS`` names them; every maker masters a file tree as ``make_tree`` makes it, under a label.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional

from respin.process import run
from tests.support import iso

GRUB = Path("/usr/lib/grub/i386-pc")
ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
BASIC_DATA = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
ESP = "isolinux/efiboot.img"
GRUB_IMAGE = "images/eltorito.img"

TREE: Mapping[str, iso.Content] = {
    "images/pxeboot/vmlinuz": iso.noise("kernel 2", 40_001),
    "images/pxeboot/initrd.img": iso.noise("initrd 2", 70_003),
    "EFI/BOOT/BOOTX64.EFI": iso.noise("loader", 30_000),
    "n" * 200: "a name that needs a continuation area\n",
}


def make_tree(directory: Path, files: Optional[Mapping[str, iso.Content]] = None, esp_kib: int = 1440) -> Path:
    """A tree as Nodes have it, with GRUB's boot image, an EFI image that holds a FAT, and files with two names."""
    directory.mkdir(parents=True, exist_ok=True)
    tree = iso.make_tree(directory, {**TREE, **(files or {})})
    grub_image(tree / GRUB_IMAGE)
    esp_image(tree / ESP, tree / "EFI/BOOT/BOOTX64.EFI", tree / "EFI/BOOT/grub.cfg", kib=esp_kib)
    (tree / "images/pxeboot/second-name").unlink(missing_ok=True)
    os.link(tree / "images/pxeboot/initrd.img", tree / "images/pxeboot/second-name")
    for parent, folders, names in os.walk(tree):
        for name in folders + names:
            os.utime(Path(parent) / name, (iso.WHEN, iso.WHEN), follow_symlinks=False)
    return tree


def grub_image(path: Path) -> Path:
    """GRUB's boot image for El Torito, as ``grub-mkimage`` makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    run(["grub-mkimage", "-O", "i386-pc-eltorito", "-p", "/boot/grub2", "-o", str(path), "iso9660", "biosdisk"])
    return path


def esp_image(path: Path, *files: Path, kib: int = 1440) -> Path:
    """A FAT file system with a loader and its configuration in it, always the same bytes."""
    path.unlink(missing_ok=True)
    run(["mkfs.vfat", "--invariant", "-C", "-n", "ANACONDA", str(path), str(kib)])
    run(["mmd", "-i", str(path), "::/EFI", "::/EFI/BOOT"])
    for file in files:
        run(["mcopy", "-m", "-i", str(path), str(file), f"::/EFI/BOOT/{file.name}"])
    return path


def _lorax_7(tree: Path, path: Path, label: str) -> None:
    iso.xorrisofs(tree, path, "--hardlinks", label=label)
    run(["isohybrid", "--uefi", str(path)])
    run(["implantisomd5", "--supported-iso", str(path)])


def _lorax_8(tree: Path, path: Path, label: str) -> None:
    iso.genisoimage(tree, path, "-cache-inodes", label=label)
    run(["isohybrid", "--uefi", str(path)])
    run(["implantisomd5", str(path)])


def _lorax_9(tree: Path, path: Path, label: str) -> None:
    hybrid = ["-isohybrid-mbr", str(iso.HYBRID_MBR), "-isohybrid-gpt-basdat"]
    iso.xorrisofs(tree, path, "--hardlinks", *hybrid, label=label)
    run(["implantisomd5", str(path)])


def _grub(tree: Path, path: Path, label: str, *options: str) -> None:
    """The EFI image is appended behind the file system and is in no file of it."""
    esp = tree.parent / "esp.img"
    shutil.move(str(tree / ESP), str(esp))
    hybrid = ["--grub2-mbr", str(GRUB / "boot_hybrid.img"), "-partition_offset", "16", "-appended_part_as_gpt"]
    hybrid += ["-append_partition", "2", ESP_TYPE, str(esp), "-iso_mbr_part_type", BASIC_DATA]
    boot = ["-c", "boot.cat", "--boot-catalog-hide", "-b", GRUB_IMAGE, "-no-emul-boot", "-boot-load-size", "4"]
    boot += ["-boot-info-table", "--grub2-boot-info", "-eltorito-alt-boot", "-e"]
    boot += ["--interval:appended_partition_2:all::", "-no-emul-boot"]
    iso.xorrisofs(tree, path, "--hardlinks", *hybrid, *options, boot=boot, label=label)
    run(["implantisomd5", str(path)])


def _lorax_10(tree: Path, path: Path, label: str) -> None:
    _grub(tree, path, label)


def _hidden_boot_image(tree: Path, path: Path, label: str) -> None:
    _grub(tree, path, label, "-hide", "eltorito.img", "-hide-joliet", "eltorito.img")


def _mac(tree: Path, path: Path, label: str) -> None:
    third = ["-eltorito-alt-boot", "-e", "EFI/BOOT/BOOTX64.EFI", "-no-emul-boot"]
    iso.genisoimage(tree, path, *third, label=label)
    run(["isohybrid", "--uefi", "--mac", str(path)])
    run(["implantisomd5", str(path)])


def _live_build(tree: Path, path: Path, label: str) -> None:
    hybrid = ["-isohybrid-mbr", str(iso.HYBRID_MBR), "-partition_offset", "16"]
    names = ["-joliet-long", "-l", "-cache-inodes", "-iso-level", "3", "-r"]
    iso.xorrisofs(tree, path, *names, *hybrid, "-isohybrid-gpt-basdat", "-isohybrid-apm-hfsplus", label=label)


def _kiwi(tree: Path, path: Path, label: str) -> None:
    """By xorriso's own commands: no GPT, and the EFI image directly behind the files."""
    esp = tree.parent / "esp.img"
    shutil.move(str(tree / ESP), str(esp))
    path.unlink(missing_ok=True)
    argv = ["xorriso", "-outdev", str(path), "-padding", "0", "-joliet", "on", "-volid", label]
    argv += ["-map", str(tree), "/"]
    for setting in (
        f"grub bin_path={GRUB_IMAGE}",
        f"grub grub2_mbr={GRUB / 'boot_hybrid.img'}",
        "grub grub2_boot_info=on",
        "any partition_offset=16",
        "any cat_path=boot.cat",
        "any boot_info_table=on",
        "any platform_id=0x00",
        "any emul_type=no_emulation",
        "any load_size=2048",
    ):
        argv += ["-boot_image", *setting.split(" ", 1)]
    argv += ["-append_partition", "2", "0xef", str(esp), "-boot_image", "any", "next"]
    argv += ["-boot_image", "any", "platform_id=0xef"]
    argv += ["-boot_image", "any", "efi_path=--interval:appended_partition_2:all::"]
    run(argv)


def _classic(tree: Path, path: Path, label: str) -> None:
    iso.genisoimage(tree, path, label=label)
    run(["isohybrid", "--uefi", str(path)])
    run(["implantisomd5", str(path)])


LAYOUTS: Dict[str, Callable[[Path, Path, str], None]] = {
    "classic": _classic,
    "lorax-7": _lorax_7,
    "lorax-8": _lorax_8,
    "lorax-9": _lorax_9,
    "lorax-10": _lorax_10,
    "hidden-boot-image": _hidden_boot_image,
    "mac": _mac,
    "live-build": _live_build,
    "kiwi": _kiwi,
}
BY_GRUB = ("lorax-10", "hidden-boot-image", "kiwi")
"""Those that GRUB starts by BIOS; the others have isolinux."""
TWO_SETS = ("lorax-10", "hidden-boot-image", "live-build", "kiwi")
"""Those with a second set of descriptors."""


def build(directory: Path, layout: str, files: Optional[Mapping[str, iso.Content]] = None) -> Path:
    """An ISO of one of the layouts in ``directory``."""
    tree = make_tree(directory, files)
    path = directory / f"{layout}.iso"
    LAYOUTS[layout](tree, path, iso.VOLUME_ID)
    shutil.rmtree(tree)
    return path


def report(path: Path) -> str:
    """What xorriso says about boot images and partition tables."""
    argv = ["xorriso", "-indev", str(path), "-report_el_torito", "plain", "-report_system_area", "plain"]
    return subprocess.run(argv, capture_output=True, check=True).stdout.decode("utf-8", "replace")


def without_numbers(report: str) -> List[str]:
    """A report less what a splice may change: blocks, sizes, and the image's own size."""
    kept = []
    for line in report.splitlines():
        if re.match(r"(El Torito (boot img|catalog)|MBR partition |GPT (start|lba)|APM start)", line):
            line = re.sub(r" +\d+", " N", line)
        elif line.startswith("ISO image size"):
            continue
        kept.append(line)
    return kept
