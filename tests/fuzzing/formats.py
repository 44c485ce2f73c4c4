"""The formats that are fuzzed. Another one needs a seed image, what spoils it, and what reads it."""

from __future__ import annotations

import contextlib
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Protocol, Tuple

from respin.errors import RespinError
from tests.fuzzing import iso
from tests.fuzzing.erofs import ErofsParts
from tests.fuzzing.ext import ExtParts
from tests.fuzzing.nested import INNER, NestedParts
from tests.fuzzing.readers import read_erofs, read_ext, read_flat, read_nested
from tests.fuzzing.squashfs import SquashfsParts
from tests.support import layouts
from tests.support.flatroots import pack
from tests.support.images import EPOCH, KiB, build_ext, debugfs, run


class Spoiler(Protocol):
    """A seed image taken apart."""

    @property
    def data(self) -> bytes:
        """The image as it was."""

    def spoil(self, rng: random.Random) -> Tuple[bytes, str]:
        """A damaged image, and what was done to it; the same ``rng`` gives the same."""


@dataclass(frozen=True)
class Format:
    """How to make a seed image in an empty directory, how to spoil it, and how to read it.

    ``read`` gets the damaged image and the seed; it returns what was refused, and raises nothing.
    """

    name: str
    make: Callable[[Path], bytes]
    take_apart: Callable[[bytes], Spoiler]
    read: Callable[[bytes, bytes], List[RespinError]]


_DEVICES = ("-p", "null c 666 0 5 1 3", "-p", "disk b 660 0 6 259 70000", "-p", "pipe i 600 7 8 f")
_UUID = "6c1d9ea3-2d05-4c0f-9ac1-7e5a7ba4e6d1"
_STORED = ("-noI", "-noX", "-noF", "-noD", "-noId")


def _flat(*options: str, names: int = 6) -> Callable[[Path], bytes]:
    def make(tmp: Path) -> bytes:
        source = _tree(tmp / "tree", names)
        _attributes(source)
        return _squashfs(source, tmp / "image", ("-b", "8K", "-tailends", *_DEVICES, *options))

    return make


def _nested(*options: str) -> Callable[[Path], bytes]:
    def make(tmp: Path) -> bytes:
        inner = tmp / "root" / INNER[1:]
        inner.parent.mkdir(parents=True)
        inner.write_bytes(_ext("ext4", "-O", "^has_journal,^resize_inode")(tmp))
        return _squashfs(tmp / "root", tmp / "image", ("-b", "16K", *options))

    return make


def _ext(fs: str, *options: str) -> Callable[[Path], bytes]:
    def make(tmp: Path) -> bytes:
        small = ("-b", "1024", "-N", "64", *options)
        image = build_ext(tmp / "ext", _tree(tmp / "files", 6), fs=fs, size_mib=4 if fs == "ext3" else 1, options=small)
        (tmp / "value").write_bytes(b"value" * 150)
        debugfs(
            image,
            "ea_set d/text user.short value",
            f"ea_set -f {tmp / 'value'} d/text user.long",
            "ea_set d security.selinux label",
            "mknod null c 1 3",
        )
        return image.read_bytes()

    return make


def _erofs(*options: str) -> Callable[[Path], bytes]:
    def make(tmp: Path) -> bytes:
        source = _tree(tmp / "tree", 6)
        _attributes(source)
        os.mkfifo(source / "pipe")
        run("mkfs.erofs", "--quiet", "-U", _UUID, "-T", str(EPOCH), *options, tmp / "image", source)
        return (tmp / "image").read_bytes()

    return make


def _squashfs(source: Path, image: Path, options: Tuple[str, ...]) -> bytes:
    return pack(source, image, "-nopad", "-all-time", str(EPOCH), *options).read_bytes()


def _tree(root: Path, names: int) -> Path:
    """Files of every sort: with tail ends, holes, two names, nothing in them; links; a directory of many names."""
    rng = random.Random(5)
    (root / "d/deep/er").mkdir(parents=True)
    (root / "d/noise").write_bytes(rng.randbytes(17_000))
    (root / "d/text").write_bytes(b"a line of text\n" * 1200)
    with (root / "sparse").open("wb") as sink:
        for at in (0, 100 * KiB, 400 * KiB):
            sink.seek(at)
            sink.write(b"data")
    for number in range(names):
        (root / f"d/deep/er/a file with a {'very, ' * 25}long name, number {number:03}").write_bytes(b"%d" % number)
    (root / "empty").write_bytes(b"")
    (root / "link").symlink_to("d/../d/text")
    (root / "long").symlink_to("./" * 40 + "d")
    os.link(root / "d/text", root / "hard")
    for path in [root, *root.rglob("*")]:
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    return root


def _attributes(root: Path) -> None:
    """Extended attributes, as far as the file system here has them."""
    with contextlib.suppress(OSError):
        os.setxattr(root / "d/text", "user.a", b"value")
        os.setxattr(root / "d/noise", "user.a", b"value" * 30)
        os.setxattr(root / "empty", "user.b", b"value" * 30)
        os.setxattr(root / "d", "user.b", b"")


def _compressors(kind: str, make: Callable[..., Callable[[Path], bytes]]) -> List[Tuple[str, Callable[[Path], bytes]]]:
    xz = ("-comp", "xz", "-Xbcj", "x86", "-Xdict-size", "8K")
    options = (("-comp", "gzip"), xz, ("-comp", "zstd"), ("-comp", "lz4"), ("-comp", "lzo"))
    return [(f"{kind}-{one[1]}", make(*one)) for one in options]


FORMATS: Tuple[Format, ...] = (
    *(Format(name, make, SquashfsParts, read_flat) for name, make in _compressors("flat", _flat)),
    Format("flat-stored", _flat(*_STORED, names=50), SquashfsParts, read_flat),
    *(Format(name, make, NestedParts, read_nested) for name, make in _compressors("nested", _nested)),
    Format("ext2", _ext("ext2"), ExtParts, read_ext),
    Format("ext3", _ext("ext3", "-J", "size=1"), ExtParts, read_ext),
    Format("ext4", _ext("ext4", "-O", "^has_journal,64bit,metadata_csum"), ExtParts, read_ext),
    *(Format(f"iso-{name}", iso.maker(name), iso.IsoParts, iso.read_iso) for name in sorted(layouts.LAYOUTS)),
    Format("ext4-inline", _ext("ext4", "-O", "^has_journal,inline_data", "-I", "512"), ExtParts, read_ext),
    Format("erofs", _erofs(), ErofsParts, read_erofs),
    Format("erofs-chunks", _erofs("-Enoinline_data", "--chunksize=4096"), ErofsParts, read_erofs),
    Format("erofs-lz4", _erofs("-zlz4hc", "-Eztailpacking"), ErofsParts, read_erofs),
    Format("erofs-lz4-big", _erofs("-zlz4hc", "-C16384"), ErofsParts, read_erofs),
)
