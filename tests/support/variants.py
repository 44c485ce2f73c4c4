"""The example Node with another root image: taken apart and put together again by the programs that vendors use."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable, Optional, Sequence

from tests.support import layouts
from tests.support.images import extracted, nested_image, run

LABEL = "example-node-1.0"
_BOOT = (
    *("-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4"),
    *("-boot-info-table", "-eltorito-alt-boot", "-e", "isolinux/efiboot.img", "-no-emul-boot"),
)


def flat_variant(stock: Path, directory: Path, pack: Sequence[str]) -> Path:
    """``stock`` with the tree of its root packed as a squashfs itself. Needs root, for the owners, and FUSE."""
    image = nested_image(stock, directory / "work")
    mount = directory / "mount"
    mount.mkdir()
    run("fuse2fs", "-o", "ro", image, mount)
    flat = directory / "flat.img"
    try:
        run("mksquashfs", mount, flat, "-quiet", "-no-progress", "-noappend", *pack)
    finally:
        run("umount", mount)
    shutil.rmtree(directory / "work")
    return mastered(stock, directory, flat)


def variant(
    stock: Path, directory: Path, pack: Sequence[str], change: Optional[Callable[[Path], object]] = None
) -> Path:
    """``stock`` with its ext image changed by ``change`` and packed with the ``pack`` options of mksquashfs."""
    image = nested_image(stock, directory / "work")
    if change is not None:
        change(image)
    packed = directory / "squashfs.img"
    run("mksquashfs", image.parents[1], packed, "-quiet", "-no-progress", "-noappend", "-all-root", *pack)
    shutil.rmtree(directory / "work")
    return mastered(stock, directory, packed)


def of_layout(stock: Path, directory: Path, layout: str) -> Path:
    """``stock`` mastered again as another vendor would, with what that vendor's layout needs beside it."""
    tree = directory / "tree"
    extracted(stock, "/", tree)
    run("chmod", "-R", "u+w", tree)
    if layout in layouts.BY_GRUB:
        _grub_for_bios(tree)
    iso = directory / "node.iso"
    layouts.LAYOUTS[layout](tree, iso, LABEL)
    shutil.rmtree(tree)
    return iso


def _grub_for_bios(tree: Path) -> None:
    """GRUB's boot image that finds the medium by its label, whatever it is on, and the menu that GRUB has for UEFI."""
    (tree / "boot/grub2").mkdir(parents=True)
    shutil.copy(tree / "EFI/BOOT/grub.cfg", tree / "boot/grub2/grub.cfg")
    image = tree / layouts.GRUB_IMAGE
    image.parent.mkdir(exist_ok=True)
    start = tree.parent / "start.cfg"
    start.write_text(f"search --no-floppy --set=root --label {LABEL}\nset prefix=($root)/boot/grub2\n")
    modules = (
        "biosdisk iso9660 part_msdos part_gpt search search_label normal configfile linux serial terminal echo test"
    )
    run("grub-mkimage", "-O", "i386-pc-eltorito", "-p", "/boot/grub2", "-c", start, "-o", image, *modules.split())


def mastered(stock: Path, directory: Path, root: Path) -> Path:
    """``stock`` with another root image, which is moved; mastered again."""
    tree = directory / "tree"
    extracted(stock, "/", tree)
    run("chmod", "-R", "u+w", tree)
    target = tree / "LiveOS/squashfs.img"
    target.unlink()
    root.replace(target)
    iso = directory / "node.iso"
    plain = ("genisoimage", "-quiet", "-J", "-r", "-hide-rr-moved", "-hide-joliet-trans-tbl")
    run(*plain, "-V", LABEL, "-A", LABEL, *_BOOT, "-o", iso, tree)
    run("isohybrid", "--uefi", iso)
    run("implantisomd5", iso)
    shutil.rmtree(tree)
    return iso
