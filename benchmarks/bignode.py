"""Nodes of any size for measuring: the example Node's root with more files in it, nested or flat, packed again.

The files are this machine's own, from /usr, and generated text; the ISO is mastered with the example's command lines.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

import recorded
from running import run

MiB = 1 << 20
LABEL = "example-node-1.0"  # as in examples/node/build
LARGEST_FILE = 32 * MiB
REAL_SHARE = 0.85  # of the bytes; the rest is generated
PIECE = 5 * MiB
PLACE = "usr/share/benchmark"
COMPRESSORS: Dict[str, Tuple[str, ...]] = {
    "gzip": ("-comp", "gzip", "-Xcompression-level", "6"),  # the example's
    "xz": ("-comp", "xz"),  # livecd-tools' defaults
    "zstd": ("-comp", "zstd"),
}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+-@")


@dataclass(frozen=True)
class Shape:
    """What a root holds beside the example's own: ``size`` bytes in ``inodes`` files (None: as many as that takes).

    ``free`` bytes are left free in a nested image for what a plugin brings. ``packages`` more are in its RPM database.
    """

    size: int = 0
    inodes: Optional[int] = None
    free: int = 512 * MiB
    packages: int = 0


# The large Node of benchmarks/run: a 4 GiB image in the classic layout.
REAL = Shape(1450 * MiB, None, 2048 * MiB)
# As many inodes as the root of an EL9 Node has.
MANY = Shape(1400 * MiB, 120_000)


class Roots:
    """Makes roots of one shape in ``work`` and packs them; a root that several Nodes share is made once."""

    def __init__(self, world: Path, work: Path, shape: Shape) -> None:
        self._world = world
        self._work = work
        self._shape = shape
        self._payload: Optional[Path] = None
        work.mkdir(parents=True, exist_ok=True)

    def node(self, name: str, key: str, root: str, compressor: str) -> Tuple[Path, int]:
        """Make WORK/NAME and its CHECKSUM, signed by the vendor's test ``key``; with it the root's number of inodes."""
        source = self._nested() if root == "nested" else self._flat()
        tree, iso = self._work / "iso", self._work / name
        run("xorriso", "-osirrox", "on", "-indev", self._world / "node.iso", "-extract", "/", tree)
        run("chmod", "-R", "u+w", tree)
        image = tree / "LiveOS/squashfs.img"
        image.unlink()
        run(*squash(source, image, compressor, root))
        inodes = _inodes(image, source / "LiveOS/ext3fs.img" if root == "nested" else None)
        for command in master(tree, iso):
            run(*command)
        shutil.rmtree(tree)
        _sign(self._world, self._work, name, key)
        return iso, inodes

    def _nested(self) -> Path:
        """The directory that holds LiveOS/ext3fs.img."""
        directory = self._work / "nested"
        if directory.exists():
            return directory
        image = _unpacked(self._world / "node.iso", directory)
        shape = self._shape
        if shape.size or shape.inodes:
            payload = self._filled()
            names = sum(1 for _ in payload.rglob("*"))
            run("e2fsck", "-fy", image, accept=1)
            facts = _dumpe2fs(image)
            for_bytes = image.stat().st_size + int(1.06 * shape.size) + 2 * 4096 * names + shape.free
            per_inode = facts["Blocks per group"] * facts["Block size"] / facts["Inodes per group"]
            size = max(for_bytes, int((facts["Inode count"] + names * 1.05) * per_inode))
            os.truncate(image, size // (4 * MiB) * 4 * MiB)
            run("resize2fs", image)
            _write_all(payload, image)
            run("e2fsck", "-fn", image)
        if shape.packages:
            database = self._work / "rpmdb" / Path(recorded.DATABASE).name
            database.parent.mkdir()
            run("debugfs", "-R", f"dump /{recorded.DATABASE} {database}", image)
            recorded.record(database, self._work / "packages", shape.packages)
            orders = f"rm /{recorded.DATABASE}\nwrite {database} /{recorded.DATABASE}\n"
            run("debugfs", "-w", "-f", "-", image, stdin=orders.encode("ascii"))
            run("e2fsck", "-fn", image)
        return directory

    def _flat(self) -> Path:
        """The directory that holds the root."""
        directory = self._work / "flat"
        if directory.exists():
            return directory
        if os.geteuid():
            raise SystemExit("only root can make a flat root with its owners")
        image, mount = _unpacked(self._world / "node.iso", self._work / "unpacked"), self._work / "mount"
        mount.mkdir()
        run("fuse2fs", "-o", "ro", image, mount)
        try:
            run("cp", "-a", mount, directory)
        finally:
            run("umount", mount)
        run("rm", "-rf", self._work / "unpacked", directory / "lost+found")
        if self._shape.size or self._shape.inodes:
            run("cp", "-a", self._filled(), directory / PLACE)
        if self._shape.packages:
            recorded.record(directory / recorded.DATABASE, self._work / "packages", self._shape.packages)
        return directory

    def _filled(self) -> Path:
        if self._payload is None:
            self._payload = fill(self._work / "payload", self._shape)
        return self._payload


def fill(directory: Path, shape: Shape) -> Path:
    """Make files of the asked number and bytes together: real ones first, then generated ones."""
    left, real = shape.size, 0
    for path in _real_files():
        size = path.stat().st_size
        if left - size < (1 - REAL_SHARE) * shape.size or (shape.inodes and real >= shape.inodes // 2):
            break
        target = directory / str(path)[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        left, real = left - size, real + 1
    count = shape.inodes - real if shape.inodes else max(1, left // PIECE)
    pool = text(1, PIECE)
    for number in range(count):
        target = directory / f"generated/{number // 1000}/{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        length = left // count
        if length > PIECE // 4:
            target.write_text(text(number, length), "ascii")
            continue
        at = number * 4099 % (PIECE - length)
        target.write_text(f"{number}\n{pool[at : at + length]}", "ascii")  # the number: no two are the same
    return directory


def squash(source: Path, output: Path, compressor: str, root: str) -> Tuple[object, ...]:
    """The command line that packs a root image."""
    owners = ("-all-root",) if root == "nested" else ()
    quiet = ("-quiet", "-no-progress", "-noappend")
    return ("mksquashfs", source, output, *quiet, *COMPRESSORS[compressor], "-b", "131072", *owners)


def master(tree: Path, output: Path) -> List[Tuple[object, ...]]:
    """The example's command lines that make the ISO."""
    label = ("-V", LABEL, "-A", LABEL, "-publisher", "Example Vendor")
    bios = ("-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4")
    uefi = ("-boot-info-table", "-eltorito-alt-boot", "-e", "isolinux/efiboot.img", "-no-emul-boot")
    plain = ("genisoimage", "-quiet", "-J", "-r", "-hide-rr-moved", "-hide-joliet-trans-tbl")
    return [
        (*plain, *label, *bios, *uefi, "-o", output, tree),
        ("isohybrid", "--uefi", output),
        ("implantisomd5", output),
    ]


def text(seed: int, size: int) -> str:
    """Words drawn by a seed."""
    rng = random.Random(seed)
    words = [f"{rng.getrandbits(40):x}" for _ in range(2000)]
    return " ".join(rng.choices(words, k=size // 10 + 10))[:size]


def _unpacked(iso: Path, directory: Path) -> Path:
    """The example's ext image below ``directory``."""
    packed = directory.with_suffix(".img")
    run("xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/LiveOS/squashfs.img", packed)
    run("unsquashfs", "-q", "-n", "-d", directory, packed)
    packed.unlink()
    return directory / "LiveOS/ext3fs.img"


def _dumpe2fs(image: Path) -> Dict[str, int]:
    found = re.findall(r"^([A-Z][^:]+):\s+(\d+)$", run("dumpe2fs", "-h", image).decode(), re.MULTILINE)
    return {name: int(value) for name, value in found}


def _inodes(squashfs: Path, ext: Optional[Path]) -> int:
    if ext is not None:
        facts = _dumpe2fs(ext)
        return facts["Inode count"] - facts["Free inodes"]
    found = re.search(rb"Number of inodes (\d+)", run("unsquashfs", "-s", squashfs))
    assert found
    return int(found[1])


def _write_all(payload: Path, image: Path) -> None:
    """Write a tree into the image with debugfs."""
    lines: List[str] = [f"mkdir /{PLACE}"]
    for top, directories, names in os.walk(payload):
        directories.sort()
        place = f"/{PLACE}/{Path(top).relative_to(payload)}".replace("/.", "")
        lines += [f"cd {place}", *(f"mkdir {name}" for name in directories)]
        lines += [f"write {top}/{name} {name}" for name in sorted(names)]
    run("debugfs", "-w", "-f", "-", image, stdin=("\n".join(lines) + "\n").encode("ascii"))


def _real_files() -> Iterator[Path]:
    for top, directories, names in os.walk("/usr"):
        directories.sort()
        for name in sorted(names):
            path = Path(top, name)
            if not set(str(path)) <= _PLAIN or "/." in str(path):
                continue
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_FILE and os.access(path, os.R_OK):
                yield path


def _sign(world: Path, work: Path, name: str, key: str) -> None:
    digest = _sha256(work / name)
    line = f"# {name}: {(work / name).stat().st_size} bytes\nSHA256 ({name}) = {digest}\n"
    checksum = work / f"{name}.CHECKSUM"
    checksum.unlink(missing_ok=True)
    home = ("--homedir", world / "gnupg", "--batch", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "")
    run("gpg", *home, "--local-user", key, "--output", checksum, "--clearsign", stdin=line.encode())
    run("gpgconf", "--homedir", world / "gnupg", "--kill", "all")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(MiB):
            digest.update(piece)
    return digest.hexdigest()
