"""Builders of small real file-system images, made by mke2fs, debugfs and mksquashfs, and readers that are not ours."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Iterable, Iterator, Mapping, Optional, Sequence, Tuple, Union

import pytest

from respin.segments import Copy, Data, Segment

EPOCH = 1_600_000_000
KiB = 1024
MiB = 1024 * KiB


class Link(str):
    """A symbolic link's target, as a value of a tree."""

    __slots__ = ()


Tree = Union[Path, Mapping[str, Union[bytes, Link]]]


def run(*argv: Union[str, Path], stdin: bytes = b"", env: Optional[Mapping[str, str]] = None) -> bytes:
    """The standard output of a program that must succeed."""
    done = subprocess.run(
        [str(a) for a in argv],
        input=stdin,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
        check=False,
    )
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}"
    return done.stdout


def write_tree(directory: Path, tree: Tree) -> Path:
    """Make the files of ``tree`` below ``directory``: bytes, Link, or (name ends in /) a directory."""
    if isinstance(tree, Path):
        return tree
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in tree.items():
        path = directory / name.lstrip("/")
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, Link):
            path.symlink_to(value)
        else:
            path.write_bytes(value)
    for path in sorted(directory.rglob("*"), reverse=True):
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    os.utime(directory, (EPOCH, EPOCH))
    return directory


def build_ext(
    image: Path,
    tree: Optional[Tree] = None,
    *,
    fs: str = "ext2",
    size_mib: int = 64,
    options: Sequence[str] = (),
) -> Path:
    """An ext image holding ``tree``; ``options`` go to mke2fs."""
    source = () if tree is None else ("-d", write_tree(image.parent / (image.name + ".tree"), tree))
    run(
        *("mke2fs", "-q", "-F", "-t", fs, "-U", "6c1d9ea3-2d05-4c0f-9ac1-7e5a7ba4e6d1"),
        *("-E", "root_owner=0:0,hash_seed=6c1d9ea3-2d05-4c0f-9ac1-7e5a7ba4e6d1,lazy_itable_init=0"),
        *options,
        *source,
        *(image, f"{size_mib}M"),
        env={"E2FSPROGS_FAKE_TIME": str(EPOCH)},
    )
    return image


def debugfs(image: Path, *commands: str) -> str:
    """Run debugfs commands on an image, writing; what it says is the answer."""
    return run(
        *("debugfs", "-w", "-f", "-", image),
        stdin="".join(f"{command}\n" for command in commands).encode(),
        env={"E2FSPROGS_FAKE_TIME": str(EPOCH), "DEBUGFS_PAGER": "__none__"},
    ).decode("utf-8", "surrogateescape")


def fsck_clean(image: Path) -> None:
    """Assert that e2fsck finds nothing."""
    run("e2fsck", "-fn", image)


def build_squashfs(
    image: Path,
    source: Path,
    *,
    compressor: str = "gzip",
    block_size: int = 128 * KiB,
    options: Iterable[str] = (),
    all_root: bool = True,
) -> Path:
    """A squashfs of the directory ``source``; ``options`` go to mksquashfs."""
    image.unlink(missing_ok=True)
    times = ("-all-time", str(EPOCH), "-mkfs-time", str(EPOCH))
    run(
        *("mksquashfs", source, image, "-noappend", "-no-progress", "-quiet", "-processors", "2"),
        *("-comp", compressor, "-b", str(block_size), *times, *options),
        *(("-all-root",) if all_root else ()),
    )
    return image


def build_nested(
    tmp: Path,
    tree: Tree,
    *,
    inner: str = "LiveOS/ext3fs.img",
    compressor: str = "gzip",
    fs: str = "ext2",
    size_mib: int = 64,
    block_size: int = 128 * KiB,
    options: Sequence[str] = (),
    squashfs_options: Sequence[str] = (),
) -> Path:
    """A squashfs holding one ext image with ``tree`` in it; returns its path below ``tmp``.

    The ext image itself stays at ``tmp / "squashfs-root" / inner``.
    """
    root = tmp / "squashfs-root"
    (root / inner).parent.mkdir(parents=True, exist_ok=True)
    scratch = build_ext(tmp / "inner.img", tree, fs=fs, size_mib=size_mib, options=options)
    scratch.replace(root / inner)
    return build_squashfs(
        tmp / "squashfs.img", root, compressor=compressor, block_size=block_size, options=squashfs_options
    )


def write_segments(base: Path, segments: Iterable[Segment], output: Path) -> Path:
    """Write what ``segments`` describe over ``base``."""
    with base.open("rb") as source, output.open("wb") as sink:
        for segment in segments:
            if isinstance(segment, Copy):
                source.seek(segment.offset)
                sink.write(source.read(segment.length))
            elif isinstance(segment, Data):
                sink.write(segment.data)
            else:
                sink.write(bytes(segment.length))
    return output


def extracted(iso: Path, path: str, target: Path) -> Path:
    """A file of an ISO written to ``target`` by xorriso."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    run("xorriso", "-osirrox", "on", "-indev", iso, "-extract", path, target)
    return target


def nested_image(iso: Path, directory: Path) -> Path:
    """The ext image in an ISO's root image, written below ``directory`` by unsquashfs, sparse."""
    squashfs = extracted(iso, "/LiveOS/squashfs.img", directory / "nested.img")
    run("unsquashfs", "-q", "-n", "-f", "-d", directory / "nested", squashfs)
    squashfs.unlink()
    (image,) = directory.glob("nested/LiveOS/*.img")
    return image


def unsquash(image: Path, path: str) -> bytes:
    """The content of a file in a squashfs, as unsquashfs reads it."""
    return run("unsquashfs", "-cat", image, path.lstrip("/"))


def apply_changes(content: bytes, changed: Mapping[int, bytes], block_size: int) -> bytes:
    """``content`` with blocks replaced."""
    result = bytearray(content)
    for index, block in changed.items():
        result[index * block_size : index * block_size + len(block)] = block
    return bytes(result)


def differing_blocks(old: bytes, new: bytes, block_size: int) -> Tuple[int, ...]:
    """The numbers of the blocks that differ."""
    return tuple(
        number
        for number, at in enumerate(range(0, len(old), block_size))
        if old[at : at + block_size] != new[at : at + block_size]
    )


@contextlib.contextmanager
def mounted(image: Path, mountpoint: Path) -> Iterator[Path]:
    """The image mounted read-only by the kernel; skips the test where that isn't possible. For tests only."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    mountpoint.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-o", "loop,ro", image, mountpoint], capture_output=True, check=False)
    if done.returncode:
        if (
            not Path("/dev/loop-control").exists()
            or b"permitted" in done.stderr
            or b"unknown filesystem" in done.stderr
        ):
            pytest.skip(f"mount: {done.stderr.decode().strip()}")
        raise AssertionError(done.stderr.decode())
    try:
        yield mountpoint
    finally:
        for _ in range(100):  # a loop device on a file in it lets go a moment after its own umount
            if subprocess.run(["umount", mountpoint], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"{mountpoint} stays busy")


def write_sparse(path: Path, content: bytes) -> Path:
    """Write with holes where there are zeros, which decides how mksquashfs counts sparse bytes."""
    with path.open("wb") as sink:
        for at in range(0, len(content), 4 * KiB):
            piece = content[at : at + 4 * KiB]
            if piece.count(0) != len(piece):
                sink.seek(at)
                sink.write(piece)
        sink.truncate(len(content))
    return path


def damaged(data: bytes, seed: int, area: Sequence[Tuple[int, int]] = ()) -> bytes:
    """``data`` with a few bytes, words or lengths spoiled, in the ``area`` ranges if any; same seed, same damage."""
    rng = random.Random(seed)
    result = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        start, end = rng.choice(list(area) or [(0, len(result))])
        at = rng.randrange(start, max(start + 1, min(end, len(result))))
        kind = rng.randrange(4)
        if kind == 0:
            result[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            result[at] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            width = rng.choice((2, 4, 8))
            at -= at % width
            value = rng.choice((0, 1, (1 << 8 * width) - 1, 1 << (8 * width - 1), rng.getrandbits(8 * width)))
            result[at : at + width] = value.to_bytes(width, "little")
        else:
            other = rng.randrange(start, max(start + 1, min(end, len(result))))
            result[at : at + 16] = result[other : other + 16]
    if rng.random() < 0.1:
        del result[rng.randrange(len(result)) :]
    return bytes(result)
