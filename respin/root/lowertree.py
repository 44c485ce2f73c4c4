"""The vendor's root as files in memory, for machines where no FUSE file system can show it.

Entries are made in the order in which the image's directories have them, so that programs in the sandbox list them as
they would through FUSE. What cannot be made here and could be missed is refused: the outcome is the same or none.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from respin.errors import MalformedError
from respin.formats.ext.image import ExtImage
from respin.formats.squashfs.root import SquashfsRoot
from respin.limits import LIMITS
from respin.root import fuse, mounts, syscalls
from respin.roottree import RootTree
from respin.safepath import show

_STEP = 1 << 20
_MARGIN = 256 << 20  # what everything else may take
_DEVICES = "/dev/"
# Lists of access control are not shown through FUSE either; labels are the caller's (respin.root.compare).
_HIDDEN = ("system.", "security.selinux")


def show_tree(tree: RootTree[Any], place: str, *, attributes: bool = True) -> None:
    """Mount a file system in memory at ``place`` with everything in it that ``tree`` has, and make it read-only.

    Without ``attributes`` extended ones are left out, as they are when :mod:`respin.root.flatview` shows a root.
    Raises MissingToolError (finding ``no-fuse``) when there is not enough memory, or something in the tree cannot be
    shown this way; MalformedError for a damaged tree.
    """
    mounts.mount("respin-root", place, "tmpfs", syscalls.MS_NODEV, "mode=0755,size=100%,nr_inodes=0")
    _Writer(tree, place, attributes).run()
    mounts.mount("none", place, flags=syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY)


class _Writer:
    def __init__(self, tree: RootTree[Any], place: str, attributes: bool) -> None:
        self._tree = tree
        self._attributes = attributes
        self._place = place
        self._first: Dict[int, str] = {}  # where the first name of an inode with several is
        self._files: List[Tuple[str, Any]] = []
        self._done: List[Tuple[str, Any]] = []

    def run(self) -> None:
        newest_first = _lists_newest_first(self._place)
        self._make("", self._tree.root, newest_first)
        self._require_memory()
        for path, inode in self._files:
            self._fill(path, inode)
        for path, inode in reversed(self._done):  # directories after what is in them
            self._dress(path, inode)

    def _make(self, top: str, root: Any, newest_first: bool) -> None:
        seen = set()
        stack = [(top, root)]
        self._done.append((top, root))
        while stack:
            path, directory = stack.pop()
            if directory.number in seen or path.count("/") > LIMITS.ext_depth:
                raise MalformedError("the root's directories form a loop or are too deep", where=show(path))
            seen.add(directory.number)
            names = list(self._tree.scan(directory).items())
            for name, entry in reversed(names) if newest_first else names:
                inode = self._tree.inode(entry.inode)
                child = f"{path}/{os.fsdecode(name)}"
                if self._one(child, inode):
                    self._done.append((child, inode))
                    if inode.is_directory:
                        stack.append((child, inode))

    def _one(self, path: str, inode: Any) -> bool:
        """Make what is at ``path``, without content; whether it still has to be dressed."""
        target = self._place + path
        kind = stat.S_IFMT(inode.mode)
        if kind == stat.S_IFDIR:
            os.mkdir(target, 0o700)
            return True
        if inode.nlink > 1:
            first = self._first.setdefault(inode.number, target)
            if first != target:
                os.link(first, target, follow_symlinks=False)
                return False
        if kind == stat.S_IFREG:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._files.append((target, inode))
        elif kind == stat.S_IFLNK:
            os.symlink(self._tree.readlink(inode), target)
        elif kind in (stat.S_IFIFO, stat.S_IFSOCK):
            os.mknod(target, kind | 0o600)
        elif path.startswith(_DEVICES):
            self._first.pop(inode.number, None)
            return False  # the sandbox has a /dev of its own over it
        else:
            raise fuse.needed(f"the root has a device outside of /dev, {show(path)}")
        return True

    def _fill(self, path: str, inode: Any) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, inode.size)
            for position, data in _content(self._tree, inode):
                os.lseek(fd, position, os.SEEK_SET)
                left = memoryview(data)
                while left:
                    left = left[os.write(fd, left) :]
        finally:
            os.close(fd)

    def _dress(self, path: str, inode: Any) -> None:
        """Owner first: changing it takes set-id bits and capabilities away."""
        target = self._place + path
        os.chown(target, inode.uid, inode.gid, follow_symlinks=False)
        if not inode.is_symlink:
            os.chmod(target, stat.S_IMODE(inode.mode))
        for name, value in (self._tree.xattrs(inode) if self._attributes else {}).items():
            if name.startswith(_HIDDEN):
                continue
            try:
                os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as error:
                what = f"the extended attribute {show(name)} of {show(path or '/')}"
                raise fuse.needed(f"{what} cannot be set in a file system in memory ({error.strerror})") from error
        time = inode.mtime * 1_000_000_000 + getattr(inode, "mtime_nsec", 0)
        os.utime(target, ns=(time, time), follow_symlinks=False)

    def _require_memory(self) -> None:
        needed = sum(_data_size(self._tree, inode) for _, inode in self._files)
        available = _available_memory()
        if available is not None and needed + _MARGIN > available:
            have = (
                f"{needed >> 20} MiB of files would have to be held in memory, of which {available >> 20} MiB are free"
            )
            raise fuse.needed(have)


def _content(tree: RootTree[Any], inode: Any) -> Iterator[Tuple[int, bytes]]:
    """The content in pieces with their positions, holes left out."""
    view = tree.file_view(inode)
    for start, length in _data_ranges(tree, inode):
        for at in range(start, start + length, _STEP):
            yield at, view.read(at, min(_STEP, start + length - at))


def _data_ranges(tree: RootTree[Any], inode: Any) -> Iterator[Tuple[int, int]]:
    if isinstance(tree, ExtImage):
        position = 0
        for offset, length in tree.data_ranges(inode):
            if offset is not None:
                yield position, length
            position += length
    elif isinstance(tree, SquashfsRoot) and inode.size:
        view = tree.file_view(inode)
        for index in range(view.blocks_total):
            if not view.is_hole(index):
                yield index * view.block_size, view.block_length(index)


def _data_size(tree: RootTree[Any], inode: Any) -> int:
    return sum(length for _, length in _data_ranges(tree, inode))


def _lists_newest_first(place: str) -> bool:
    """Whether this kernel lists a directory in memory with what was made last in front."""
    trial = f"{place}/.order"
    os.mkdir(trial)
    for name in ("1", "2"):
        os.mkdir(f"{trial}/{name}")
    newest_first = os.listdir(trial) == ["2", "1"]
    for name in ("1", "2"):
        os.rmdir(f"{trial}/{name}")
    os.rmdir(trial)
    return newest_first


def _available_memory() -> Optional[int]:
    """Bytes that can be had, swap included; None if nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        fields = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.endswith(" kB")}
        found = fields["MemAvailable"] + fields.get("SwapFree", 0)
    except (OSError, KeyError, ValueError, IndexError):
        return None
    try:  # a container's own limit, where it can be seen
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text("ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text("ascii"))
    except (OSError, ValueError):
        return found
    return min(found, limit - used)
