"""The example Node is what it says: a classic layout, as independent programs see it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from tests.support.quickstart import ExampleNode, example_node, flat_node

__all__ = ["example_node", "flat_node"]

FILES = {
    "/EFI/BOOT/BOOTX64.EFI", "/EFI/BOOT/grub.cfg", "/LiveOS/squashfs.img", "/isolinux/boot.cat",
    "/isolinux/efiboot.img", "/isolinux/initrd0.img", "/isolinux/isolinux.bin", "/isolinux/isolinux.cfg",
    "/isolinux/version", "/isolinux/vmlinuz0",
}  # fmt: skip


def output_of(*command: object) -> str:
    return subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    ).stdout


def root_image_of(node: ExampleNode, directory: Path) -> Path:
    path = directory / "squashfs.img"
    output_of("xorriso", "-osirrox", "on", "-indev", node.iso, "-extract", "/LiveOS/squashfs.img", path)
    return path


@pytest.fixture(scope="module")
def squashfs(example_node: ExampleNode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return root_image_of(example_node, tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def flat(flat_node: ExampleNode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return root_image_of(flat_node, tmp_path_factory.mktemp("flat"))


@pytest.fixture(scope="module")
def root_image(squashfs: Path) -> Iterator[Path]:
    output_of("unsquashfs", "-quiet", "-no-progress", "-dest", squashfs.parent / "out", squashfs)
    image = squashfs.parent / "out" / "LiveOS" / "ext3fs.img"
    yield image
    image.unlink()


def test_the_iso_has_the_classic_files_label_and_boot_records(example_node: ExampleNode) -> None:
    listed = set(output_of("isoinfo", "-R", "-f", "-i", example_node.iso).splitlines())
    assert listed >= FILES
    described = output_of("isoinfo", "-d", "-i", example_node.iso)
    assert "Volume id: example-node-1.0\n" in described
    assert "Joliet" in described
    reported = output_of(
        "xorriso", "-indev", example_node.iso, "-report_el_torito", "plain", "-report_system_area", "plain"
    )
    assert re.search(r"boot img :\s+1\s+BIOS", reported)
    assert re.search(r"boot img :\s+2\s+UEFI", reported)
    assert "MBR isohybrid" in reported
    assert "GPT" in reported


def test_every_boot_entry_names_the_volume(example_node: ExampleNode) -> None:
    for menu, command in (("/isolinux/isolinux.cfg", "append"), ("/EFI/BOOT/grub.cfg", "linux ")):
        text = output_of("isoinfo", "-R", "-i", example_node.iso, "-x", menu)
        entries = [line for line in text.splitlines() if line.strip().startswith(command)]
        assert len(entries) >= 2
        assert all("root=live:CDLABEL=example-node-1.0 " in line for line in entries)
        assert "not oVirt Node" in text or menu.endswith("grub.cfg")


def test_the_media_check_passes(example_node: ExampleNode) -> None:
    assert subprocess.run(["checkisomd5", str(example_node.iso)], capture_output=True, check=False).returncode == 0


def test_the_initrd_reaches_every_medium(example_node: ExampleNode) -> None:
    initrd = subprocess.run(
        ["isoinfo", "-R", "-i", example_node.iso, "-x", "/isolinux/initrd0.img"], stdout=subprocess.PIPE, check=True
    ).stdout
    listed = subprocess.run(
        "gzip -dc | cpio -t --quiet", shell=True, input=initrd, stdout=subprocess.PIPE, check=True
    ).stdout.decode()
    for driver in ("ahci", "ata_piix", "ehci-pci", "sd_mod", "sr_mod", "uas", "usb-storage", "virtio_blk", "xhci-pci"):
        assert f"/{driver}.ko\n" in listed, driver
    assert "usr/bin/checkisomd5\n" in listed
    assert "usr/lib/dracut/hooks/pre-mount/01-overlay-directories.sh\n" in listed  # without it, no flat root starts


def test_no_module_misses_another(root_image: Path, tmp_path: Path) -> None:
    output_of("debugfs", "-R", f"rdump /usr/lib/modules {tmp_path}", root_image)
    (release,) = (tmp_path / "modules").iterdir()
    there = {path.stem.replace("-", "_") for path in release.rglob("*.ko")}
    there |= {Path(line).stem.replace("-", "_") for line in (release / "modules.builtin").read_text().split()}
    modules = sorted(release.rglob("*.ko"))
    assert len(modules) > 100
    needed = output_of("modinfo", "--field", "depends", *modules).replace(",", " ").replace("-", "_").split()
    assert set(needed) <= there


def test_the_vendor_signed_the_checksum(example_node: ExampleNode, tmp_path: Path) -> None:
    base = example_node.keys["base"]
    ring = tmp_path / "ring.gpg"
    output_of("gpg", "--homedir", example_node.gnupg, "--batch", "--output", ring, "--export", base)
    text = output_of("gpgv", "--keyring", ring, "--output", "-", example_node.checksum)
    digest = output_of("sha256sum", example_node.iso).split()[0]
    assert f"SHA256 (node.iso) = {digest}\n" in text
    assert f"{example_node.iso.stat().st_size} bytes" in text


def test_the_root_is_a_clean_ext2_in_a_gzip_squashfs(squashfs: Path, root_image: Path) -> None:
    described = output_of("unsquashfs", "-stat", squashfs)
    assert "Compression gzip" in described
    assert "Block size 131072" in described
    assert subprocess.run(["e2fsck", "-f", "-n", str(root_image)], capture_output=True, check=False).returncode == 0
    described = output_of("dumpe2fs", "-h", root_image)
    assert "example-node-1.0" in described
    assert "has_journal" not in described


def test_the_vendors_packages_own_installer_and_persistence(root_image: Path, tmp_path: Path) -> None:
    database = tmp_path / "rpm"
    output_of("debugfs", "-R", f"rdump /var/lib/rpm {tmp_path}", root_image)
    owners = {
        path: output_of("rpm", "--dbpath", database, "--query", "--file", path, "--queryformat", "%{NAME}")
        for path in ("/usr/libexec/example-node/installer", "/usr/sbin/persist", "/etc/default/version")
    }
    assert list(owners.values()) == ["example-node-installer", "example-node-persistence", "example-node-release"]
    signed = output_of(
        "rpm", "--dbpath", database, "--query", "--all", "--queryformat", "%{NAME} %{RSAHEADER:pgpsig}\n"
    )
    assert len(signed.splitlines()) == 5
    assert "(none)" not in signed


def test_version_files_in_iso_and_root_agree(example_node: ExampleNode, root_image: Path) -> None:
    on_iso = output_of("isoinfo", "-R", "-i", example_node.iso, "-x", "/isolinux/version")
    assert on_iso == output_of("debugfs", "-R", "cat /etc/default/version", root_image)
    assert re.search(r"^VERSION=\S+$", on_iso, re.MULTILINE)


def test_a_flat_root_is_the_squashfs_itself_with_the_owners_and_packages_of_the_nested_one(
    flat: Path, root_image: Path, tmp_path: Path
) -> None:
    described = output_of("unsquashfs", "-stat", flat)
    assert "Compression gzip" in described
    assert "Block size 131072" in described
    listed = output_of("unsquashfs", "-lln", flat).splitlines()
    entries = [line.partition(" -> ")[0] for line in listed if "squashfs-root" in line]
    found = {entry.partition("squashfs-root")[2]: entry.split()[:2] for entry in entries}
    assert {"/proc", "/sys", "/dev", "/run"} <= found.keys()  # dracut takes what has a /proc for a root
    assert not any(path.startswith("/LiveOS") for path in found)
    assert found["/etc/shadow"] == ["-rw-r-----", "0/42"]
    assert found["/usr/bin/passwd"] == ["-rwsr-xr-x", "0/0"]
    inside = output_of("debugfs", "-R", "ls -p /usr/sbin", root_image)
    names = {line.split("/")[5] for line in inside.splitlines() if line} - {".", ".."}
    assert names == {path.rpartition("/")[2] for path in found if path.startswith("/usr/sbin/")}
    output_of("unsquashfs", "-quiet", "-no-progress", "-dest", tmp_path / "root", flat, "var/lib/rpm")
    query = ("--query", "--all", "--queryformat", "%{NEVRA}\n")
    output_of("debugfs", "-R", f"rdump /var/lib/rpm {tmp_path}", root_image)
    packages = output_of("rpm", "--dbpath", tmp_path / "root/var/lib/rpm", *query).splitlines()
    assert len(packages) == 5
    assert sorted(packages) == sorted(output_of("rpm", "--dbpath", tmp_path / "rpm", *query).splitlines())


def test_the_flat_node_boots_like_the_nested_one(example_node: ExampleNode, flat_node: ExampleNode) -> None:
    for path in ("/isolinux/isolinux.cfg", "/EFI/BOOT/grub.cfg", "/isolinux/version", "/isolinux/vmlinuz0"):
        texts = [
            subprocess.run(["isoinfo", "-R", "-i", node.iso, "-x", path], stdout=subprocess.PIPE, check=True).stdout
            for node in (example_node, flat_node)
        ]
        assert texts[0] == texts[1] != b"", path
    assert subprocess.run(["checkisomd5", str(flat_node.iso)], capture_output=True, check=False).returncode == 0


def test_it_leaves_no_mount_behind(example_node: ExampleNode) -> None:
    assert "build/cache/work" not in Path("/proc/mounts").read_text()
