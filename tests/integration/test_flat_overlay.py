"""What ordinary programs do to an overlay over a flat root, all the way into the new squashfs.

The kernel's overlayfs makes whiteouts, opaque directories and copies of files with several names, as in the sandbox;
what comes out is held against mksquashfs of the tree that the overlay showed.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import pytest

from respin.build.newroot import flat_changes
from respin.byteview import BytesView
from respin.errors import MissingToolError
from respin.formats.squashfs import Kind, SquashfsImage
from respin.formats.squashfs.merge import merge_changes
from respin.root.compare import Comparison
from respin.root.contents import FlatChanges, collect
from respin.root.mounts import Scratch, mount_overlay
from tests.support.flatroots import IS_ROOT, Maker, observed, pack, unpack, write_root
from tests.support.images import EPOCH, KiB, run, write_segments

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="only root may mount an overlay and give files away")

NOW = EPOCH + 5_000_000
BLOCK = 4 * KiB


class Layers:
    """A vendor's root on disk, and an overlay over it."""

    def __init__(self, tmp: Path, rng: random.Random) -> None:
        self.rng = rng
        self.scratch = Scratch(str(tmp / "scratch"))
        for place in (self.scratch.lower, self.scratch.upper, self.scratch.work, self.scratch.merged):
            os.makedirs(place)
        maker = Maker(rng, BLOCK)
        root = maker.root(60)
        for number in range(3):
            linked = maker.thing(Kind.FILE)
            for name in "abc":
                root[f"/linked{number}{name}"] = linked
        write_root(root, Path(self.scratch.lower))
        self.merged = Path(self.scratch.merged)
        try:
            mount_overlay(self.scratch)
        except MissingToolError as error:
            pytest.skip(str(error))

    def change(self, steps: int) -> List[str]:
        """Do things to the merged tree; what was done."""
        actions: List[Callable[[Path], object]] = [
            *(self._write, self._rewrite, self._append, self._remove, self._refill, self._replace, self._chmod),
            *(self._chown, self._attribute, self._link, self._move, self._hide_and_show),
        ]
        done = []
        for _ in range(steps):
            paths = sorted(path for path in self.merged.rglob("*") if not _is_special(path))
            action, path = self.rng.choice(actions), self.rng.choice(paths)
            done.append(f"{action.__name__} {path.relative_to(self.merged)}")
            action(path)
        return done

    def _directory(self, path: Path) -> Path:
        return path if path.is_dir() and not path.is_symlink() else path.parent

    def _write(self, path: Path) -> None:
        target = self._directory(path) / f"new{self.rng.randrange(1000)}"
        if not target.exists():
            target.write_bytes(self.rng.randbytes(self.rng.choice((0, 10, 5000, 20_000))))

    def _rewrite(self, path: Path) -> None:
        if path.is_file() and not path.is_symlink():
            path.write_bytes(b"other " * self.rng.randrange(1, 3000))

    def _append(self, path: Path) -> None:
        if path.is_file() and not path.is_symlink():
            with path.open("ab") as stream:
                stream.write(b"more")

    def _remove(self, path: Path) -> None:
        run("rm", "-rf", path)

    def _refill(self, path: Path) -> None:
        """A directory with other things in it, some of the same names: it is opaque then."""
        directory = self._directory(path)
        if directory == self.merged:
            return
        names = sorted(os.listdir(directory))
        run("rm", "-rf", directory)
        directory.mkdir()
        for name in [*names[:2], "fresh"]:
            (directory / name).write_bytes(b"fresh")

    def _replace(self, path: Path) -> None:
        """Something of another kind."""
        was_directory = path.is_dir() and not path.is_symlink()
        run("rm", "-rf", path)
        kind = self.rng.randrange(3)
        if kind == 0:
            path.symlink_to("../somewhere")
        elif kind == 1 and not was_directory:
            (path / "below").mkdir(parents=True)
        elif kind == 1:
            os.mkfifo(path)
        else:
            path.write_bytes(b"now a file")

    def _chmod(self, path: Path) -> None:
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) ^ 0o011)

    def _chown(self, path: Path) -> None:
        os.chown(path, 4242, 7, follow_symlinks=False)

    def _attribute(self, path: Path) -> None:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            return
        names = [name for name in os.listxattr(path) if name.startswith("user.")]
        if names and self.rng.random() < 0.5:
            os.removexattr(path, names[0])
        else:
            os.setxattr(path, "user.changed", self.rng.randbytes(20))

    def _link(self, path: Path) -> None:
        """Two names of a new file."""
        directory = self._directory(path)
        first, second = (directory / f"{name}{self.rng.randrange(1000)}" for name in ("one", "two"))
        if not first.exists() and not second.exists():
            first.write_bytes(b"linked " * self.rng.randrange(1, 900))
            os.link(first, second)

    def _move(self, path: Path) -> None:
        target = self.merged / f"moved{self.rng.randrange(1000)}"
        if not target.exists() and path != self.merged and not any(_is_special(below) for below in path.rglob("*")):
            run("mv", path, target)

    def _hide_and_show(self, path: Path) -> None:
        """A removed name comes back as something else."""
        if path.is_file() and not path.is_symlink():
            path.unlink()
            path.write_bytes(b"back again")


def _is_special(path: Path) -> bool:
    return stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK)


@pytest.fixture
def layers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Layers]:
    made = Layers(tmp_path, random.Random(request.param))
    yield made
    subprocess.run(["umount", made.merged], check=True)


def expected(layers: Layers, put: Sequence[str], directory: Path) -> Path:
    """What the overlay shows, with the times that a new root gives: the vendor's where nothing else changed.

    No label of the sandbox goes along: those of the files ``put`` are found later, by the Node's own policy.
    """
    run("cp", "-a", layers.merged, directory)
    lower = Path(layers.scratch.lower)
    was, now = facts(lower), facts(directory)
    for name in now:
        old = was.get(name)
        directories = old is not None and old[0] == now[name][0] == stat.S_IFDIR
        time = os.lstat(lower / name).st_mtime_ns if old is not None and (directories or old == now[name]) else None
        ns = NOW * 10**9 if time is None else time
        os.utime(directory / name, ns=(ns, ns), follow_symlinks=False)
    for path in put:
        inside = directory / path.lstrip("/")
        if "security.selinux" in os.listxattr(inside, follow_symlinks=False):
            os.removexattr(inside, "security.selinux", follow_symlinks=False)
    return directory


def facts(top: Path) -> Dict[str, "tuple[object, ...]"]:
    """Everything of every path but times and names of the same inode."""
    found = {}
    for path in [top, *top.rglob("*")]:
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        content: Optional[object] = None
        if kind == stat.S_IFREG:
            content = path.read_bytes()
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        xattrs = {n: os.getxattr(path, n, follow_symlinks=False) for n in os.listxattr(path, follow_symlinks=False)}
        owner = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_rdev)
        found[str(path.relative_to(top))] = (kind, *owner, content, xattrs)
    return found


@pytest.mark.parametrize("layers", range(12), indirect=True, ids=lambda seed: f"seed{seed}")
def test_what_an_overlay_shows_is_what_is_packed(layers: Layers, tmp_path: Path) -> None:
    scratch = layers.scratch
    vendor = pack(Path(scratch.lower), tmp_path / "vendor", "-b", str(BLOCK))
    done = layers.change(25)
    comparison = Comparison(scratch.lower, scratch.upper, scratch.merged)
    delta = comparison.delta(dbpath="/var/lib/rpm", owned_mtimes={}, epoch=NOW)
    assert len(delta) > 8, done
    with (tmp_path / "contents").open("w+b") as contents:
        message = collect(delta, {}, scratch.upper, contents.fileno())
        changes = FlatChanges.from_message(message, contents.fileno())
        image = SquashfsImage.open(BytesView(vendor.read_bytes(), "vendor"))
        merged = merge_changes(image, flat_changes(changes))
        write_segments(vendor, merged.segments, tmp_path / "output")
    put = [entry.path for entry in (*delta.added, *delta.changed)]
    pack(expected(layers, put, tmp_path / "expected"), tmp_path / "reference", "-b", str(BLOCK))
    ours, theirs = (observed(unpack(tmp_path / one, tmp_path / f"{one}.d")) for one in ("output", "reference"))
    assert ours == theirs, done
    assert not any(name.startswith(("trusted.overlay", "user.overlay")) for found in ours.values() for name in found[8])
    shutil.rmtree(tmp_path / "expected")


@pytest.mark.parametrize("layers", [5], indirect=True)
def test_the_overlay_makes_what_is_tried(layers: Layers, tmp_path: Path) -> None:
    """Whiteouts and an opaque directory are in the upper layer, or the tests above would prove less than they say."""
    directory = next(path for path in sorted(layers.merged.rglob("*")) if path.is_dir() and not path.is_symlink())
    layers._refill(directory / "x" if not directory.parent.samefile(layers.merged) else directory)
    (layers.merged / "linked0a").unlink()
    upper = Path(layers.scratch.upper)
    whiteout = (upper / "linked0a").lstat()
    assert (stat.S_ISCHR(whiteout.st_mode), whiteout.st_rdev) == (True, 0)
    opaque = [p for p in upper.rglob("*") if p.is_dir() and "user.overlay.opaque" in os.listxattr(p)]
    assert opaque
