"""Random roots and random changes to them: on disk, as a squashfs, as a request, and as independent programs read them.

A root is a mapping of paths to what stands there; names of one inode share the object.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from respin.byteview import BytesView
from respin.formats.squashfs import Kind
from respin.formats.squashfs.merge import Change, Put, Removal
from tests.support.images import EPOCH, KiB, run

IS_ROOT = os.geteuid() == 0
PLAIN = (Kind.FILE, Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO)
KINDS = (*PLAIN, Kind.SOCKET, Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE) if IS_ROOT else PLAIN
XATTRS = ("user.a", "user.b", "security.selinux", "trusted.x") if IS_ROOT else ("user.a", "user.b")
_BITS = {
    Kind.FILE: stat.S_IFREG,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}


@dataclass(eq=False)
class Thing:
    """An inode."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    content: bytes = b""
    target: str = ""
    rdev: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


Root = Dict[str, Thing]


class Maker:
    """Makes roots and changes them, at random from one seed."""

    def __init__(self, rng: random.Random, block_size: int) -> None:
        self._rng = rng
        self._block = block_size

    def root(self, count: int) -> Root:
        """A root with about ``count`` paths."""
        made: Root = {"/": replace(self.thing(Kind.DIRECTORY), xattrs={})}
        for _ in range(count):
            self.add(made)
        return made

    def changed(self, before: Root, steps: int) -> Root:
        """Another root, ``steps`` changes away."""
        after = dict(before)
        actions = (
            *(self.add, self.add, self.remove, self.rewrite, self.restyle, self.retype, self.unlink, self.refill),
            *(self.rewrite_linked, self.restyle_linked, self.relink),
        )
        for _ in range(steps):
            self._rng.choice(actions)(after)
        return after

    def thing(self, kind: Optional[Kind] = None) -> Thing:
        """An inode of a kind, or of any."""
        rng = self._rng
        kind = kind or rng.choice(KINDS)
        modes = (0o755, 0o700, 0o1777) if kind is Kind.DIRECTORY else (0o644, 0o755, 0o4755, 0o600, 0o1777)
        return Thing(
            kind,
            0o777 if kind is Kind.SYMLINK else rng.choice(modes),
            *((rng.choice((0, 7, 1000, 70000)), rng.choice((0, 8, 4_000_000_000))) if IS_ROOT else (os.geteuid(),) * 2),
            mtime=rng.choice((0, EPOCH, EPOCH + rng.randrange(1 << 20), 0x8000_0000 + rng.randrange(1 << 20))),
            content=self._content() if kind is Kind.FILE else b"",
            target=rng.choice(("x", "../away", "/abs/olute", "é" * 40)) if kind is Kind.SYMLINK else "",
            rdev=os.makedev(rng.randrange(1, 300), rng.randrange(70000))
            if kind in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)
            else 0,
            xattrs=self._xattrs(kind),
        )

    def add(self, root: Root) -> None:
        """Another path, or another name of a file."""
        path = self._new_path(root)
        # No further names for symbolic links: mksquashfs compares access times, too, and takes them for several.
        files = [p for p, thing in sorted(root.items()) if thing.kind not in (Kind.DIRECTORY, Kind.SYMLINK)]
        if files and self._rng.random() < 0.2:
            linked = self._rng.choice(files)
            self._renew(root, linked)
            root[path] = root[linked]
        else:
            root[path] = self.thing()

    def remove(self, root: Root) -> None:
        """One path less, with all below it."""
        path = self._any(root)
        if path is not None:
            self._empty(root, path)
            del root[path]

    def rewrite(self, root: Root) -> None:
        """Another content in some place of a file, or a longer or shorter one."""
        rng = self._rng
        path = self._any(root, Kind.FILE)
        if path is None:
            return
        content = bytearray(root[path].content)
        for _ in range(rng.randrange(1, 3)):
            if content and rng.random() < 0.7:
                at = rng.randrange(len(content))
                content[at : at + 5] = rng.randbytes(5)
            elif rng.random() < 0.5:
                content += self._content()
            else:
                del content[rng.randrange(len(content) + 1) :]
        root[path] = replace(root[path], content=bytes(content))  # breaks a link, as a copy-up does

    def restyle(self, root: Root) -> None:
        """Other attributes."""
        path = self._any(root)
        if path is not None:
            other = self.thing(root[path].kind)
            old = root[path]
            root[path] = replace(
                old,
                mode=other.mode,
                uid=other.uid,
                mtime=other.mtime,
                xattrs=self._rng.choice((old.xattrs, other.xattrs, {})),
            )

    def retype(self, root: Root) -> None:
        """Something of another kind; a directory goes with all that is in it."""
        path = self._any(root)
        if path is not None:
            self._empty(root, path)
            root[path] = self.thing()

    def unlink(self, root: Root) -> None:
        """A file with several names loses or changes one of them."""
        names: Dict[int, List[str]] = {}
        for path in sorted(root):
            names.setdefault(id(root[path]), []).append(path)
        several = [paths for paths in names.values() if len(paths) > 1]
        if several:
            path = self._rng.choice(self._rng.choice(several))
            if self._rng.random() < 0.5:
                del root[path]
            else:
                root[path] = self.thing(Kind.FILE)

    def rewrite_linked(self, root: Root) -> None:
        """A file with several names gets another content under all of them."""
        path = self._several(root, Kind.FILE)
        if path is not None:
            self._renew(root, path)
            root[path].content = self._content()

    def restyle_linked(self, root: Root) -> None:
        """Something with several names gets other attributes, seen under all of them."""
        path = self._several(root)
        if path is not None:
            other = self.thing(root[path].kind)
            self._renew(root, path)
            root[path].mode, root[path].mtime, root[path].xattrs = other.mode, other.mtime, other.xattrs

    def relink(self, root: Root) -> None:
        """A path becomes another name of what stands elsewhere; it may have been a name of something else before."""
        path, other = self._any(root), self._any(root, Kind.FILE)
        if path is None or other is None or root[path] is root[other] or other.startswith(f"{path}/"):
            return
        self._empty(root, path)
        self._renew(root, other)
        root[path] = root[other]

    def refill(self, root: Root) -> None:
        """A directory with nothing of what was in it, but with names that may have been in it."""
        path = self._any(root, Kind.DIRECTORY)
        if path is None:
            return
        names = [p for p in root if p.startswith(path + "/") and p.count("/") == path.count("/") + 1]
        self._empty(root, path)
        for name in [*sorted(names)[:2], f"{path}/fresh"]:
            root[name] = self.thing(self._rng.choice((Kind.FILE, Kind.DIRECTORY)))

    def _renew(self, root: Root, path: str) -> None:
        """All names of an inode get a new one: what the request says of them is that they are linked."""
        old = root[path]
        new = replace(old)
        for name in [name for name, thing in root.items() if thing is old]:
            root[name] = new

    def _empty(self, root: Root, path: str) -> None:
        for name in [name for name in root if name.startswith(path + "/")]:
            del root[name]

    def _any(self, root: Root, kind: Optional[Kind] = None) -> Optional[str]:
        paths = [p for p in sorted(root) if p != "/" and kind in (None, root[p].kind)]
        return self._rng.choice(paths) if paths else None

    def _several(self, root: Root, kind: Optional[Kind] = None) -> Optional[str]:
        """A name of something that has others."""
        count: Dict[int, int] = {}
        for thing in root.values():
            count[id(thing)] = count.get(id(thing), 0) + 1
        paths = [p for p in sorted(root) if count[id(root[p])] > 1 and kind in (None, root[p].kind)]
        return self._rng.choice(paths) if paths else None

    def _new_path(self, root: Root) -> str:
        directories = [p for p in sorted(root) if root[p].kind is Kind.DIRECTORY]
        while True:
            parent = self._rng.choice(directories).rstrip("/")
            name = self._rng.choice(("a", "b", "name", "ü", "0", "Z", "x" * 200)) + str(self._rng.randrange(50))
            if f"{parent}/{name}" not in root and len(parent) < 700:
                return f"{parent}/{name}"

    def _content(self) -> bytes:
        rng = self._rng
        block = min(self._block, 16 * KiB)
        pieces = []
        for _ in range(rng.choice((0, 1, 1, 1, 2, 5))):
            length = rng.choice((1, 100, block - 1, block, block, 2 * block))
            pieces.append(
                rng.choice((bytes(length), rng.randbytes(length), b"text " * (length // 5), b"\0" * 3 + b"end"))
            )
        return b"".join(pieces)

    def _xattrs(self, kind: Kind) -> Mapping[str, bytes]:
        rng = self._rng
        allowed = XATTRS if kind in (Kind.FILE, Kind.DIRECTORY) else [n for n in XATTRS if not n.startswith("user.")]
        names = rng.sample(list(allowed), rng.choice((0, 0, 1, min(2, len(allowed)))) if allowed else 0)
        return {name: rng.choice((b"v", b"value" * 100, b"\0\1", b"label_t\0")) for name in names}


def request(before: Root, after: Root) -> List[Change]:
    """The changes that make ``after`` of ``before``."""
    names: Dict[int, List[str]] = {}
    for path in sorted(after):
        names.setdefault(id(after[path]), []).append(path)
    changes: List[Change] = [Removal(path) for path in sorted(before.keys() - after.keys())]
    for path in sorted(after):
        new, old = after[path], before.get(path)
        if new is old:
            continue
        group = names[id(new)]
        same_content = old is not None and old.kind is new.kind is Kind.FILE and old.content == new.content
        changes.append(
            Put(
                path,
                *(new.kind, new.mode, new.uid, new.gid, new.mtime),
                content=BytesView(new.content, path) if new.kind is Kind.FILE and not same_content else None,
                target=new.target or None,
                rdev=new.rdev,
                xattrs=new.xattrs,
                link_group=group[0] if len(group) > 1 else None,
            )
        )
    return changes


def write_root(root: Root, directory: Path) -> Path:
    """Make the files of ``root``."""
    written: Dict[int, str] = {}
    old_mask = os.umask(0)
    for path in sorted(root):
        thing, place = root[path], f"{directory}{path}"
        if id(thing) in written:
            os.link(written[id(thing)], place, follow_symlinks=False)
            continue
        if thing.kind is Kind.DIRECTORY:
            os.makedirs(place, exist_ok=True)
        elif thing.kind is Kind.SYMLINK:
            os.symlink(thing.target, place)
        elif thing.kind is Kind.FILE:
            Path(place).write_bytes(thing.content)
        elif thing.kind is Kind.FIFO:
            os.mkfifo(place)
        else:
            os.mknod(place, _BITS[thing.kind] | 0o600, thing.rdev)
        written[id(thing)] = place
    os.umask(old_mask)
    for path in sorted(root, reverse=True):
        thing, place = root[path], f"{directory}{path}"
        if IS_ROOT:
            os.chown(place, thing.uid, thing.gid, follow_symlinks=False)
        if thing.kind is not Kind.SYMLINK:
            os.chmod(place, thing.mode)
        for name, value in thing.xattrs.items():
            with contextlib.suppress(FileExistsError):
                os.setxattr(place, name, value, follow_symlinks=False)
        os.utime(place, (thing.mtime, thing.mtime), follow_symlinks=False)
    return directory


def pack(source: Path, image: Path, *options: str) -> Path:
    """A squashfs by mksquashfs with everything as it is on disk."""
    image.unlink(missing_ok=True)
    run(
        *("mksquashfs", source, image, "-noappend", "-no-progress", "-quiet", "-processors", "1", "-xattrs"),
        *("-mkfs-time", str(EPOCH), *options),
    )
    return image


def unpack(image: Path, directory: Path) -> Path:
    """What unsquashfs makes of an image; it must have nothing to say."""
    said = run("unsquashfs", "-quiet", "-no-progress", "-processors", "1", "-d", directory, image)
    assert b"rror" not in said, said
    return directory


def observed(directory: Path) -> Dict[str, Tuple[Any, ...]]:
    """Every path below with all that the kernel tells of it."""
    found: Dict[str, Tuple[Any, ...]] = {}
    names: Dict[int, List[str]] = {}
    paths = [directory, *directory.rglob("*")]
    for path in paths:
        if not path.is_dir() or path.is_symlink():
            names.setdefault(path.lstat().st_ino, []).append(str(path.relative_to(directory)))
    for path in paths:
        status = path.lstat()
        regular, link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
        found[str(path.relative_to(directory))] = (
            oct(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_rdev,
            hashlib.sha256(path.read_bytes()).hexdigest() if regular else None,
            status.st_size if regular else None,
            os.readlink(path) if link else None,
            {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            },
            sorted(names.get(status.st_ino, ())),
        )
    return found
