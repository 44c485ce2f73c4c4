"""erofs images of every layout read as a tree: held against what they were made of, the kernel and fsck.erofs."""

from __future__ import annotations

import os
import random
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from respin.byteview import BytesView
from respin.errors import UnsupportedError
from respin.formats.erofs import ErofsImage, ErofsInode
from tests.support.erofs import build_erofs
from tests.support.flatroots import Maker, observed, write_root
from tests.support.images import EPOCH, KiB, MiB, mounted

LAYOUTS: Dict[str, Tuple[str, ...]] = {
    "plain": ("-Enoinline_data",),
    "inline": (),
    "extended inodes": ("-Eforce-inode-extended",),
    "all attributes inline": ("-x0",),
    "all attributes shared": ("-x1",),
    "chunks": ("--chunksize=4096", "-Eforce-inode-blockmap"),
    "chunks with indexes": ("--chunksize=8192", "-Eforce-chunk-indexes"),
    "lz4": ("-zlz4",),
    "lz4hc": ("-zlz4hc,12",),
    "lz4 with a full index": ("-zlz4hc", "-Elegacy-compress"),
    "lz4 with big clusters": ("-zlz4hc", "-C65536"),
    "lz4 with big clusters and a full index": ("-zlz4hc", "-C65536", "-Elegacy-compress"),
    "lz4 with inline tails": ("-zlz4hc", "-Eztailpacking"),
    "lz4 with inline tails and a full index": ("-zlz4hc", "-Eztailpacking,legacy-compress"),
    "lz4 with fragments": ("-zlz4hc", "-Efragments"),
    "lz4 with all in fragments": ("-zlz4hc", "-Eall-fragments"),
    "lz4 with shared clusters": ("-zlz4hc", "-Ededupe"),
    "lz4 with small extents": ("-zlz4", "--max-extent-bytes=8192"),
    "lz4 and small blocks": ("-zlz4", "-b512"),
    "LZMA": ("-zlzma", "-C65536"),
    "LZMA with everything": ("-zlzma,6", "-C65536", "-Ededupe,all-fragments"),
    "deflate": ("-zdeflate,9", "-C16384"),
    "deflate with everything": ("-zdeflate,9", "-C16384", "-Ededupe,fragments"),
    "zstd": ("-zzstd,8", "-C65536"),
    "zstd as live media have it": ("-zzstd,8", "-C65536", "-Ededupe,all-fragments"),
    "several algorithms": ("-zzstd,3:lz4hc", "-C65536"),
    "long attribute prefixes": ("--xattr-prefix=user.long.", "--xattr-prefix=security.some"),
    "long attribute prefixes and fragments": ("--xattr-prefix=user.long.", "-zlz4", "-Efragments"),
    "attribute filter": ("-Exattr-name-filter",),
}


def opened(image: Path) -> ErofsImage:
    return ErofsImage.open(BytesView(image.read_bytes(), image.name))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tree, and files of the kinds that compression tells apart."""
    tree = write_root(Maker(random.Random(22), 4 * KiB).root(150), tmp_path_factory.mktemp("source") / "tree")
    rng = random.Random(23)
    text = b"".join(b"line %d of some text\n" % rng.randrange(1000) for _ in range(40_000))
    more = tree / "more"
    more.mkdir()
    contents = {
        "text": text,
        "text again": text[: 300 * KiB] + b"and another end",
        "shifted": b"x" * 1000 + text[5000 : 5000 + 200 * KiB],
        "noise": rng.randbytes(150 * KiB + 77),
        "both": text[: 100 * KiB] + rng.randbytes(30 * KiB) + text[: 90 * KiB + 5],
        "zeros": bytes(2 * MiB + 5),
        "end": rng.randbytes(12 * KiB) + b"short compressible end " * 40,
        "block": text[: 4 * KiB],
        "small": b"small",
    }
    for name, content in contents.items():
        (more / name).write_bytes(content)
    for number in range(700):
        (more / f"a name in a directory of several blocks, {number:05}").touch()
    for name in ("!", "+", "-", "..x", ".a", "~", "\xff"):
        (more / name).mkdir()
    os.setxattr(more / "text", "user.long.name", b"value")
    os.setxattr(more / "small", "user.long.other", b"other")
    for path in sorted([more, *more.iterdir()]):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    os.utime(tree, (1_500_000_000, 1_500_000_000))
    return tree


def content_of(root: ErofsImage, inode: ErofsInode) -> bytes:
    """Read from the end, in pieces that end anywhere."""
    view = root.file_view(inode)
    pieces: List[bytes] = []
    end = view.size
    while end:
        start = max(0, end - 33_333)
        pieces.append(view.read(start, end - start))
        end = start
    return b"".join(reversed(pieces))


def described(root: ErofsImage, source: Path) -> Dict[str, Tuple[Any, ...]]:
    names: Dict[int, List[str]] = {}
    for path, inode in root.walk():
        if not inode.is_directory:
            names.setdefault(inode.number, []).append(path[1:])
    found: Dict[str, Tuple[Any, ...]] = {}
    for path, inode in root.walk():
        assert not inode.is_file or content_of(root, inode) == (source / path[1:]).read_bytes()
        assert inode.nlink == (source / path[1:]).lstat().st_nlink
        found[path[1:] or "."] = (
            oct(inode.mode),
            inode.uid,
            inode.gid,
            inode.mtime * 1_000_000_000,
            inode.rdev,
            None,
            inode.size if inode.is_file else None,
            root.readlink(inode) if inode.is_symlink else None,
            dict(root.xattrs(inode)),
            sorted(names.get(inode.number, ())),
        )
    return found


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_the_tree_is_what_went_in(source: Path, tmp_path: Path, layout: str) -> None:
    image = build_erofs(tmp_path / "image", source, *LAYOUTS[layout])
    root = opened(image)
    if not root.superblock.algorithms and "legacy-compress" in str(LAYOUTS[layout]):
        # Later versions make such images as old kernels want them.
        with pytest.raises(UnsupportedError, match="announce"):
            root.file_view(root.stat("/more/text")).read(0, 1)
        return
    wanted = {path: (*facts[:5], None, *facts[6:]) for path, facts in observed(source).items()}
    assert described(root, source) == wanted


def test_compact_inodes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "directory").mkdir(parents=True)
    for name in ("file", "directory/other"):
        (tree / name).write_bytes(name.encode())
    os.link(tree / "file", tree / "directory/linked")
    root = opened(build_erofs(tmp_path / "image", tree, "-Eforce-inode-compact", "--all-root", f"-T{EPOCH}"))
    facts = {path: (inode.mtime, inode.uid, inode.nlink) for path, inode in root.walk()}
    assert facts == {
        "/": (EPOCH, 0, 3),
        "/directory": (EPOCH, 0, 2),
        "/directory/linked": (EPOCH, 0, 2),
        "/directory/other": (EPOCH, 0, 1),
        "/file": (EPOCH, 0, 2),
    }
    assert root.stat("/file").number == root.stat("/directory/linked").number
    assert root.read(root.stat("/directory/linked")) == b"file"


@pytest.mark.parametrize("layout", ["inline", "lz4 with big clusters", "zstd as live media have it", "chunks"])
def test_the_kernel_shows_the_same(source: Path, tmp_path: Path, layout: str) -> None:
    image = build_erofs(tmp_path / "image", source, *LAYOUTS[layout])
    root = opened(image)
    with mounted(image, tmp_path / "mount") as there:
        wanted = {path: (*facts[:5], None, *facts[6:]) for path, facts in observed(there).items()}
        assert described(root, there) == wanted


@pytest.mark.parametrize("layout", ["inline", "lz4 with inline tails"])
def test_fsck_unpacks_the_same(source: Path, tmp_path: Path, layout: str) -> None:
    image = build_erofs(tmp_path / "image", source, *LAYOUTS[layout])
    subprocess.run(["fsck.erofs", f"--extract={tmp_path / 'out'}", str(image)], check=True, capture_output=True)
    root = opened(image)
    unpacked = {
        f"/{path.relative_to(tmp_path / 'out')}": path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert unpacked == {path: content_of(root, inode) for path, inode in root.walk() if inode.is_file}


def test_paths(source: Path, tmp_path: Path) -> None:
    root = opened(build_erofs(tmp_path / "image", source))
    assert root.listdir("/more") == sorted((p.name for p in (source / "more").iterdir()), key=os.fsencode)
    assert [p for p, _ in root.walk("/more")] == [p for p, _ in root.walk() if p == "/more" or p.startswith("/more/")]
    assert [p for p, _ in root.walk("/", lambda p: p == "/")] == ["/", *(f"/{name}" for name in root.listdir("/"))]
    assert root.lookup("/nothing") is None
    assert root.lookup("/more/text/below") is None
    for call in (root.stat, root.listdir):
        with pytest.raises(UnsupportedError) as caught:
            call("/nothing")
        assert caught.value.finding == "no-such-path"
    with pytest.raises(UnsupportedError):
        root.scan(root.stat("/more/text"))
    with pytest.raises(UnsupportedError, match="limit"):
        root.read(root.stat("/more/text"), limit=10)
    for path in ("/", "/more/text"):
        with pytest.raises(UnsupportedError):
            root.readlink(root.stat(path))
    with pytest.raises(UnsupportedError):
        root.file_view(root.root)


def test_links_lead_where_they_lead_in_every_kind_of_root(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "usr/lib/file").write_bytes(b"content")
    for name, target in {"lib": "usr/lib", "up": "../../usr", "abs": "/lib/file", "loop": "loop"}.items():
        (tree / name).symlink_to(target)
    root = opened(build_erofs(tmp_path / "image", tree))
    wanted = {"/lib/file": "/usr/lib/file", "/up/lib/./file": "/usr/lib/file", "/abs": "/usr/lib/file", "/loop": None}
    found = {path: root.resolve(path) for path in wanted}
    assert {path: there.path if there else None for path, there in found.items()} == wanted


def test_a_large_file_of_zeros_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree/hole").open("wb") as sink:
        sink.truncate(256 * MiB)
        sink.seek(200 * MiB)
        sink.write(b"here")
    root = opened(build_erofs(tmp_path / "image", tmp_path / "tree", "-zlz4hc"))
    tracemalloc.start()
    view = root.file_view(root.stat("/hole"))
    assert view.read(200 * MiB - 2, 8) == b"\0\0here\0\0"
    for at in range(0, 256 * MiB, 8 * MiB):
        assert view.read(at + 17, 4096).count(0) >= 4092
    assert tracemalloc.get_traced_memory()[1] < 40 * MiB
    tracemalloc.stop()
