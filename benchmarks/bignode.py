"""The example Node made as large as a real one: a 4 GiB ext image with about 1.5 GB in it, packed with gzip or xz.

The files are this machine's own, from /usr, and generated text; the ISO is mastered with the example's command lines.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
import subprocess
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

MiB = 1 << 20
IMAGE_SIZE = "4G"
REAL_FILES = 1250 * MiB
LABEL = "example-node-1.0"  # as in examples/node/build
LARGEST_FILE = 32 * MiB
MOST_FILES = 30_000
GENERATED = 200 * MiB
ROOT = "/usr/share/benchmark"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+-@")


def make(world: Path, work: Path, name: str, key: str, compressor: str, *, large: bool) -> Path:
    """Make WORK/NAME and its CHECKSUM, signed by the vendor's test ``key``, from the example Node in ``world``.

    ``large`` grows and fills its image; otherwise it is only packed anew.
    """
    tree = work / "tree"
    run("xorriso", "-osirrox", "on", "-indev", world / "node.iso", "-extract", "/", tree)
    run("chmod", "-R", "u+w", tree)
    run("unsquashfs", "-q", "-n", "-d", work / "squashfs", tree / "LiveOS/squashfs.img")
    image = work / "squashfs/LiveOS/ext3fs.img"
    if large:
        run("e2fsck", "-fy", image)
        os.truncate(image, 4096 * MiB)
        run("resize2fs", image, IMAGE_SIZE)
        _fill(image, work)
        run("e2fsck", "-fn", image)
    (tree / "LiveOS/squashfs.img").unlink()
    run(*squash(work / "squashfs", tree / "LiveOS/squashfs.img", compressor))
    run("rm", "-rf", work / "squashfs")
    for command in master(tree, work / name):
        run(*command)
    run("rm", "-rf", tree)
    _sign(world, work, name, key)
    return work / name


def _sign(world: Path, work: Path, name: str, key: str) -> None:
    digest = _sha256(work / name)
    text = f"# {name}: {(work / name).stat().st_size} bytes\nSHA256 ({name}) = {digest}\n"
    checksum = work / f"{name}.CHECKSUM"
    checksum.unlink(missing_ok=True)
    home = ("--homedir", world / "gnupg", "--batch", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "")
    run("gpg", *home, "--local-user", key, "--output", checksum, "--clearsign", stdin=text.encode())
    run("gpgconf", "--homedir", world / "gnupg", "--kill", "all")


def squash(source: Path, output: Path, compressor: str) -> Tuple[object, ...]:
    """The command line that packs the root image: the example's for gzip, livecd-tools' defaults for xz."""
    method = {"gzip": ("-comp", "gzip", "-Xcompression-level", "6"), "xz": ("-comp", "xz")}[compressor]
    return ("mksquashfs", source, output, "-quiet", "-no-progress", "-noappend", *method, "-b", "131072", "-all-root")


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


def run(*argv: object, stdin: bytes = b"", accept: int = 0) -> bytes:
    """The output of a program that must succeed."""
    done = subprocess.run([str(a) for a in argv], input=stdin, capture_output=True, check=False)
    if done.returncode > accept:
        raise SystemExit(f"{argv[0]}: {done.returncode}\n{done.stderr.decode('utf-8', 'replace')[-2000:]}")
    return done.stdout


def _fill(image: Path, work: Path) -> None:
    """Write real and generated files into the image with debugfs."""
    by_directory: Dict[str, List[Tuple[str, Path]]] = {}
    for path in _real_files():
        by_directory.setdefault(f"{ROOT}{path.parent}", []).append((path.name, path))
    for number in range(GENERATED // (5 * MiB)):
        path = work / f"generated-{number}"
        path.write_text(_text(number, 5 * MiB), "ascii")
        by_directory.setdefault(f"{ROOT}/generated", []).append((path.name, path))
    lines: List[str] = []
    made = {"/usr/share"}
    for directory in sorted(by_directory):
        parts = directory.split("/")
        for end in range(2, len(parts) + 1):
            parent = "/".join(parts[:end])
            if parent not in made and parent.startswith(ROOT):
                lines.append(f"mkdir {parent}")
                made.add(parent)
        lines.append(f"cd {directory}")
        lines += [f"write {source} {name}" for name, source in by_directory[directory]]
    run("debugfs", "-w", "-f", "-", image, stdin=("\n".join(lines) + "\n").encode("ascii"))
    for path in work.glob("generated-*"):
        path.unlink()


def _real_files() -> Iterator[Path]:
    left, count = REAL_FILES, 0
    for top, directories, names in os.walk("/usr"):
        directories.sort()
        for name in sorted(names):
            path = Path(top, name)
            if not set(str(path)) <= _PLAIN:
                continue
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_FILE or not os.access(path, os.R_OK):
                continue
            if count >= MOST_FILES or left < status.st_size:
                return
            left, count = left - status.st_size, count + 1
            yield path


def _text(seed: int, size: int) -> str:
    rng = random.Random(seed)
    words = [f"{rng.getrandbits(40):x}" for _ in range(2000)]
    return " ".join(rng.choices(words, k=size // 11))[:size]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(MiB):
            digest.update(piece)
    return digest.hexdigest()
