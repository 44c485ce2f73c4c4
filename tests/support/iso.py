"""Builds small vendor-like ISO images at run time, with the programs that vendors use.

``build_classic_iso`` is the layout of classic Nodes: genisoimage, isolinux, efiboot.img, isohybrid with GPT,
Joliet and Rock Ridge with a directory too deep for ISO 9660, media check. The ``FOREIGN`` layouts are to be refused;
``tests.support.layouts`` has more of those that are spliced.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Callable, Dict, Mapping, Optional, Sequence, Union

from respin.process import run

VOLUME_ID = "EXAMPLE-NODE"
PAYLOAD = "LiveOS/squashfs.img"
WHEN = 1402403696  # 2014-06-10
ISOLINUX = Path("/usr/lib/ISOLINUX/isolinux.bin")
HYBRID_MBR = Path("/usr/lib/ISOLINUX/isohdpfx.bin")
LDLINUX = Path("/usr/lib/syslinux/modules/bios/ldlinux.c32")

Content = Union[bytes, str, Path]
BIOS = ["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-info-table"]
BIOS += ["-boot-load-size", "4"]
UEFI = ["-eltorito-alt-boot", "-e", "isolinux/efiboot.img", "-no-emul-boot"]


def noise(seed: str, size: int) -> bytes:
    """``size`` bytes that look random and are always the same."""
    return hashlib.shake_256(seed.encode()).digest(size)


def make_tree(directory: Path, files: Optional[Mapping[str, Content]] = None) -> Path:
    """A Node-like file tree below ``directory``; ``files`` (relative path to content) adds to it or replaces in it.

    A ``Path`` is copied, ``bytes`` and ``str`` are written. All times are the same.
    """
    tree = directory / "tree"
    deep = "docs/2/3/4/5/6/7/8/9"
    everything: Dict[str, Content] = {
        "isolinux/isolinux.bin": ISOLINUX,
        "isolinux/ldlinux.c32": LDLINUX,
        "isolinux/isolinux.cfg": f"default linux\nlabel linux\n append root=live:CDLABEL={VOLUME_ID}\n",
        "isolinux/vmlinuz0": noise("kernel", 50_003),
        "isolinux/initrd0.img": noise("initrd", 80_501),
        "isolinux/efiboot.img": noise("efi", 65_536),
        PAYLOAD: noise("payload", 3_000_001),
        "EFI/BOOT/grub.cfg": "configfile\n",
        "docs/A long name for Joliet and Rock Ridge/\u00dcn\u00efcode file name with spaces.txt": "hi\n",
        "docs/empty": b"",
        f"{deep}/deep.txt": "deep\n",
        "README.txt": "a file in the root directory\n",
    }
    everything.update(files or {})
    for name, content in everything.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o644)
    link = tree / "docs/link"
    if not link.is_symlink():
        link.symlink_to("../LiveOS/squashfs.img")
    for parent, folders, names in os.walk(tree):
        for name in folders + names:
            os.utime(Path(parent) / name, (WHEN, WHEN), follow_symlinks=False)
    os.utime(tree, (WHEN, WHEN))
    return tree


def genisoimage(
    tree: Path, iso: Path, *options: str, joliet: bool = True, uefi: bool = True, label: str = VOLUME_ID
) -> Path:
    """Master ``tree`` the way livecd-tools did."""
    naming = ["-r", "-hide-rr-moved", *(["-J", "-hide-joliet-trans-tbl"] if joliet else [])]
    boot = BIOS + (UEFI if uefi else [])
    run(["genisoimage", "-quiet", *naming, "-V", label, "-o", str(iso), *boot, *options, str(tree)])
    return iso


def xorrisofs(
    tree: Path, iso: Path, *options: str, boot: Sequence[str] = (*BIOS, *UEFI), label: str = VOLUME_ID
) -> Path:
    """Master ``tree`` the way newer builders do."""
    run(["xorrisofs", "-quiet", "-R", "-J", "-V", label, "-o", str(iso), *boot, *options, str(tree)])
    return iso


def build_classic_iso(
    directory: Path,
    files: Optional[Mapping[str, Content]] = None,
    *,
    name: str = "node.iso",
    uefi: bool = True,
    joliet: bool = True,
    media_check: bool = True,
    options: Sequence[str] = (),
) -> Path:
    """A classic Node ISO in ``directory``: genisoimage, isohybrid (with GPT if ``uefi``), implantisomd5."""
    directory.mkdir(parents=True, exist_ok=True)
    iso = genisoimage(make_tree(directory, files), directory / name, *options, joliet=joliet, uefi=uefi)
    run(["isohybrid", *(["--uefi"] if uefi else []), str(iso)])
    if media_check:
        run(["implantisomd5", str(iso)])
    shutil.rmtree(directory / "tree")
    return iso


def _hfsplus(tree: Path, iso: Path) -> None:
    xorrisofs(tree, iso, "-hfsplus")


def _grub_mkrescue(tree: Path, iso: Path) -> None:
    run(["grub-mkrescue", "-o", str(iso), str(tree)])


def _udf(tree: Path, iso: Path) -> None:
    genisoimage(tree, iso, "-udf")


def _zisofs(tree: Path, iso: Path) -> None:
    iso.unlink(missing_ok=True)
    argv = ["xorriso", "-outdev", str(iso), "-volid", VOLUME_ID, "-map", str(tree), "/"]
    run([*argv, "-set_filter_r", "--zisofs", "/docs", "--"])


# name -> (maker, a word that the refusal must say)
FOREIGN: Mapping[str, "tuple[Callable[[Path, Path], None], str]"] = {
    "hfsplus": (_hfsplus, "HFS"),
    "grub-mkrescue": (_grub_mkrescue, "HFS"),
    "udf": (_udf, "UDF"),
    "zisofs": (_zisofs, "zisofs"),
}


def build_foreign_iso(directory: Path, layout: str, files: Optional[Mapping[str, Content]] = None) -> Path:
    """An ISO of one of the ``FOREIGN`` layouts."""
    directory.mkdir(parents=True, exist_ok=True)
    content: Dict[str, Content] = {"docs/compressible": bytes(100_000), **(files or {})}
    tree = make_tree(directory, content)
    iso = directory / f"{layout}.iso"
    FOREIGN[layout][0](tree, iso)
    shutil.rmtree(tree)
    return iso
