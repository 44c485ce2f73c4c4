"""The example Node remade as other kinds of Nodes: their files, their names, their places; the root stays runnable."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Callable, Mapping

from tests.support.images import extracted, fsck_clean, nested_image, run

LABEL = "REMADE NODE"
PACK = ("-comp", "gzip", "-Xcompression-level", "1")
VERSION = (
    "PRODUCT='oVirt Node Hypervisor'\nPRODUCT_SHORT='oVirt Node'\nPRODUCT_CODE=OVIRT\nPACKAGE=ovirt-node-iso\n"
    "VERSION=3.6\nRELEASE=0.999.201611\n"
)
NVR = "ovirt-node-ng-4.4.10.1-0.20220202.0"
ARGUMENTS = "inst.stage2=hd:LABEL=REMADE\\x20NODE inst.ks=hd:LABEL=REMADE\\x20NODE:/interactive-defaults.ks quiet"
_BOOT = (
    *("-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4"),
    "-boot-info-table",
)


def write_root(image: Path, files: Mapping[str, str]) -> None:
    """Write ``files`` into an ext image with debugfs, mode 0644, owned by root; the directories are made."""
    work = image.with_suffix(".files")
    work.mkdir()
    commands = []
    made = set()
    for number, (path, content) in enumerate(files.items()):
        (work / str(number)).write_text(content)
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts)):
            directory = "/" + "/".join(parts[:depth])
            # Told to make one that is there, debugfs leaves an inode without a name
            if directory not in made and b"Inode:" not in run("debugfs", "-R", f"stat {directory}", image):
                commands.append(f"mkdir {directory}")
            made.add(directory)
        commands += [f"rm {path}", f"write {work}/{number} {path}", f"sif {path} mode 0100644"]
        commands += [f"sif {path} {owner} 0" for owner in ("uid", "gid")]
    (work / "script").write_text("\n".join(commands) + "\n")
    run("debugfs", "-w", "-f", work / "script", image)
    shutil.rmtree(work)
    fsck_clean(image)


def classic(stock: Path, directory: Path) -> Path:
    """A classic oVirt Node, by what its version file says."""

    def change(tree: Path, image: Path) -> None:
        write_root(image, {"/etc/default/version": VERSION})
        (tree / "isolinux/version").write_text(VERSION)
        pack(image, tree / "LiveOS/squashfs.img", "ext3fs.img")

    return remade(stock, directory, change)


def ng(stock: Path, directory: Path) -> Path:
    """An oVirt Node NG: the root as a payload with imgbased's files, an installer's second stage beside it."""

    def change(tree: Path, image: Path) -> None:
        factory = {f"/usr/share/factory{path}": read_root(image, path) for path in ("/etc/passwd", "/etc/group")}
        factory["/usr/share/factory/etc/system-release"] = read_root(image, "/etc/system-release")
        release = 'NAME="oVirt Node"\nVERSION_ID="4.4.10"\nPLATFORM_ID="platform:el8"\n'
        write_root(
            image,
            {
                "/usr/share/imgbase/build/meta/nvr": f"{NVR}\n",
                "/usr/lib/python3.6/site-packages/imgbased/__init__.py": "",
                "/usr/lib/os-release": release,
                **factory,
            },
        )
        payload = tree / "ovirt-node-ng-image.squashfs.img"
        pack(image, payload, "rootfs.img")
        (tree / "LiveOS/squashfs.img").unlink()
        (tree / "LiveOS").rmdir()
        shutil.rmtree(tree / "EFI")
        (tree / "isolinux/version").unlink()
        for name in ("images/pxeboot", "EFI/BOOT"):
            (tree / name).mkdir(parents=True)
        (tree / "isolinux/vmlinuz0").rename(tree / "images/pxeboot/vmlinuz")
        (tree / "isolinux/initrd0.img").rename(tree / "images/pxeboot/initrd.img")
        (tree / "images/install.img").write_bytes(b"the installer's second stage\n" * 1000)
        (tree / "images/product.img").write_bytes(b"branding\n")
        digest = hashlib.sha256(payload.read_bytes()).hexdigest()
        url = "file:///run/install/repo/ovirt-node-ng-image.squashfs.img"
        kickstart = f"liveimg --url={url} --checksum={digest}\n%post --erroronfail\nimgbase layout --init\n%end\n"
        (tree / "interactive-defaults.ks").write_text(kickstart)
        sums = {name: hashlib.sha256((tree / name).read_bytes()).hexdigest() for name in ("interactive-defaults.ks",)}
        listed = "".join(f"{name} = sha256:{value}\n" for name, value in sums.items())
        (tree / ".treeinfo").write_text(f"[checksums]\n{listed}\n[general]\nfamily = oVirt Node\n")
        entry = f"linuxefi /images/pxeboot/vmlinuz {ARGUMENTS}\n initrdefi /images/pxeboot/initrd.img\n"
        (tree / "EFI/BOOT/grub.cfg").write_text(f"menuentry 'Install' {{\n {entry}}}\n")
        (tree / "isolinux/isolinux.cfg").write_text(
            f"default linux\nlabel linux\n kernel vmlinuz\n append initrd=initrd.img {ARGUMENTS}\n"
        )
        efi = tree / "images/efiboot.img"
        run("mkfs.vfat", "-i", "12345678", "-C", efi, "1440")
        run("mmd", "-i", efi, "::EFI", "::EFI/BOOT")
        run("mcopy", "-i", efi, tree / "EFI/BOOT/grub.cfg", "::EFI/BOOT/grub.cfg")
        (tree / "isolinux/efiboot.img").unlink()

    return remade(stock, directory, change, efi="images/efiboot.img")


def debian(stock: Path, directory: Path) -> Path:
    """A Debian live image: a flat root at live-boot's place, lists of digests. Needs root, for the owners, and FUSE."""

    def change(tree: Path, image: Path) -> None:
        write_root(image, {"/usr/lib/os-release": 'NAME="Debian GNU/Linux"\nVERSION_ID="12"\n'})
        mount = directory / "mount"
        for path in (mount, tree / "live", tree / "boot/grub"):
            path.mkdir(parents=True)
        run("fuse2fs", "-o", "ro", image, mount)
        try:
            run("mksquashfs", mount, tree / "live/filesystem.squashfs", "-quiet", "-no-progress", "-noappend", *PACK)
        finally:
            run("umount", mount)
        shutil.rmtree(tree / "LiveOS")
        (tree / "isolinux/version").unlink()
        (tree / "isolinux/vmlinuz0").rename(tree / "live/vmlinuz")
        (tree / "isolinux/initrd0.img").rename(tree / "live/initrd.img")
        arguments = "boot=live components quiet splash findiso=${iso_path}"
        entry = f"linux /live/vmlinuz {arguments}\n initrd /live/initrd.img"
        (tree / "boot/grub/grub.cfg").write_text(f"source /boot/grub/theme.cfg\nmenuentry Live {{\n {entry}\n}}\n")
        (tree / "isolinux/isolinux.cfg").write_text("include menu.cfg\ndefault vesamenu.c32\n")
        (tree / "isolinux/menu.cfg").write_text("include live.cfg\n")
        (tree / "isolinux/live.cfg").write_text(
            "label live\n linux /live/vmlinuz\n initrd /live/initrd.img\n append boot=live components quiet\n"
        )
        find = "find . -type f ! -name '*sum.txt' ! -path ./isolinux/isolinux.bin ! -path ./isolinux/boot.cat"
        for kind in ("sha256", "md5"):
            run("sh", "-c", f"cd {tree} && {find} | sort | xargs {kind}sum > ../sums && mv ../sums {kind}sum.txt")

    return remade(stock, directory, change)


def read_root(image: Path, path: str) -> str:
    """A text of an ext image, by debugfs."""
    return run("debugfs", "-R", f"cat {path}", image).decode()


def pack(image: Path, target: Path, name: str) -> None:
    """The squashfs that holds ``image`` as ``LiveOS/NAME``."""
    image = image.rename(image.with_name(name))
    target.unlink(missing_ok=True)
    run("mksquashfs", image.parents[1], target, "-quiet", "-no-progress", "-noappend", "-all-root", *PACK)


def remade(
    stock: Path, directory: Path, change: Callable[[Path, Path], None], efi: str = "isolinux/efiboot.img"
) -> Path:
    """``stock`` with its tree and the ext image of its root changed by ``change``, mastered as livecd-tools do."""
    tree, image = directory / "tree", nested_image(stock, directory / "work")
    extracted(stock, "/", tree)
    run("chmod", "-R", "u+w", tree)
    change(tree, image)
    shutil.rmtree(directory / "work")
    iso = directory / "node.iso"
    boot = (*_BOOT, "-eltorito-alt-boot", "-e", efi, "-no-emul-boot")
    run("genisoimage", "-quiet", "-J", "-r", "-hide-rr-moved", "-V", LABEL, *boot, "-o", iso, tree)
    run("isohybrid", "--uefi", iso)
    run("implantisomd5", iso)
    shutil.rmtree(tree)
    return iso
