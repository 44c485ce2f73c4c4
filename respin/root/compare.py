"""Computes the delta: what the overlay's upper layer makes of the vendor's root.

The upper layer only says where to look. What a path is now is read from the merged root, what it was from the lower
one, so the overlay's own notation (whiteouts, opaque directories, its extended attributes) never has to be understood:
a name that the lower directory has and the merged one doesn't was removed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
import struct
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

from respin.errors import BuildError
from respin.root.delta import KINDS, Attributes, Change, Delta, Entry, Kind
from respin.safepath import show

# overlayfs's own, and what fuse2fs shows under "system.": content that ext keeps in the inode, and access control
# lists, which FUSE cannot pass on in a user namespace (respin.root.entries refuses to change files that have them).
# Labels: where SELinux is active the kernel shows those of the build machine's policy; the caller puts in the Node's.
_HIDDEN_XATTRS = ("trusted.overlay.", "user.overlay.", "system.", "security.selinux")
_CAPABILITY = "security.capability"
_MAX_DEPTH = 200

# State that programs leave while they work and that means nothing afterwards; below the root, "{db}" is the rpm
# database's directory. /etc/.pwd.lock is only dropped when it is empty, the directory only with nothing else in it.
EPHEMERA: Tuple[str, ...] = (
    "{db}/.rpm.lock",
    "{db}/rpmdb.sqlite-shm",
    "{db}/rpmdb.sqlite-wal",
    "/etc/.pwd.lock",
    "/var/cache/ldconfig/aux-cache",
)
_EPHEMERAL_DIRECTORY = "/var/cache/ldconfig"


class Comparison:
    """Compares ``merged`` with ``lower`` wherever ``upper`` holds something. Content digests of ``lower`` are kept."""

    def __init__(self, lower: str, upper: str, merged: str) -> None:
        self._lower = lower
        self._upper = upper
        self._merged = merged
        self._digests: Dict[str, str] = {}

    def delta(self, *, dbpath: str, owned_mtimes: Mapping[str, int], epoch: int) -> Delta:
        """The differences, no-op copy-ups and ephemera left out, times set by rule.

        A path in ``owned_mtimes`` takes that time, any other new or changed one takes ``epoch``; a vendor directory
        keeps the vendor's time.
        """
        found = {entry.path: entry for entry in self._walk("", 0, in_lower=True)}
        _drop_ephemera(found, dbpath)
        groups = self._link_groups(found)
        entries = []
        for path in sorted(found):
            entry = found[path]
            new = entry.new
            if new is not None:
                mtime = owned_mtimes.get(path, epoch)
                if entry.old is not None and entry.old.kind is new.kind is Kind.DIRECTORY:
                    mtime = entry.old.mtime
                new = _with_mtime(new, mtime)
            entries.append(Entry(path, entry.change, new, entry.old, groups.get(path)))
        return Delta(tuple(entries))

    def _walk(self, directory: str, depth: int, *, in_lower: bool) -> Iterator[Entry]:
        """``in_lower``: the vendor has a directory there too. Else looking would follow a link that was replaced."""
        if depth > _MAX_DEPTH:
            raise BuildError("directories are nested too deeply", where=show(directory), finding="too-deep")
        if not directory:
            root = self._compare("", "/", in_lower=True)
            if root is not None:
                yield root
        touched = set(_names(self._upper + directory))
        merged = set(_names(self._merged + directory))
        lower = set(_names(self._lower + directory)) if in_lower else set()
        for name in sorted(touched & merged):
            path = f"{directory}/{name}"
            entry = self._compare(path, path, in_lower=name in lower)
            if entry is not None:
                yield entry
            was_directory = name in lower and _is_directory(self._lower + path)
            if _is_directory(self._merged + path):
                yield from self._walk(path, depth + 1, in_lower=was_directory)
            elif was_directory:
                yield from self._removed_below(path, depth + 1)
        for name in sorted(lower - merged):
            yield from self._removed(f"{directory}/{name}", depth + 1)

    def _compare(self, place: str, path: str, *, in_lower: bool) -> Optional[Entry]:
        new = attributes(self._merged + place)
        if not in_lower:
            return Entry(path, Change.ADDED, new, None)
        old = self._old(place)
        return None if new.same(old) else Entry(path, Change.CHANGED, new, old)

    def _old(self, place: str) -> Attributes:
        old = attributes(self._lower + place, self._digests.get(place))
        if old.sha256 is not None:
            self._digests[place] = old.sha256
        return old

    def _removed(self, path: str, depth: int) -> Iterator[Entry]:
        old = self._old(path)
        yield Entry(path, Change.REMOVED, None, old)
        if old.kind is Kind.DIRECTORY:
            yield from self._removed_below(path, depth)

    def _removed_below(self, path: str, depth: int) -> Iterator[Entry]:
        if depth > _MAX_DEPTH:
            raise BuildError("directories are nested too deeply", where=show(path), finding="too-deep")
        for name in sorted(_names(self._lower + path)):
            yield from self._removed(f"{path}/{name}", depth + 1)

    def _link_groups(self, found: Mapping[str, Entry]) -> Dict[str, str]:
        """Names of one inode of the upper layer, by the first of them."""
        names: Dict[Tuple[int, int], List[str]] = {}
        for path in sorted(found):
            entry = found[path]
            if entry.new is None or entry.kind is Kind.DIRECTORY:
                continue
            try:
                status = os.lstat(self._upper + path)
            except FileNotFoundError:
                continue
            if status.st_nlink > 1:
                names.setdefault((status.st_dev, status.st_ino), []).append(path)
        return {path: group[0] for group in names.values() if len(group) > 1 for path in group}


def attributes(path: str, sha256: Optional[str] = None) -> Attributes:
    """What the file at ``path`` is, symbolic links not followed; its content is hashed unless ``sha256`` is given."""
    status = os.lstat(path)
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    regular = kind is Kind.FILE
    return Attributes(
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime=int(status.st_mtime_ns // 1_000_000_000),
        size=status.st_size if regular else 0,
        sha256=(sha256 or _sha256(path)) if regular else None,
        target=os.readlink(path) if kind is Kind.SYMLINK else None,
        xattrs=_xattrs(path),
    )


def _with_mtime(new: Attributes, mtime: int) -> Attributes:
    return Attributes(new.kind, new.mode, new.uid, new.gid, mtime, new.size, new.sha256, new.target, new.xattrs)


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def _xattrs(path: str) -> Dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA):
            return {}
        raise
    found = {}
    for name in sorted(names):
        if name.startswith(_HIDDEN_XATTRS):
            continue
        value = os.getxattr(path, name, follow_symlinks=False)
        found[name] = _rootless(value) if name == _CAPABILITY else value
    return found


def _rootless(value: bytes) -> bytes:
    """``struct vfs_ns_cap_data`` revision 3 as revision 2: the same capabilities without a namespace's root id."""
    if len(value) == 24:
        (magic,) = struct.unpack_from("<I", value)
        if magic & 0xFF000000 == 0x03000000:
            return struct.pack("<I", magic & 0x00FFFFFF | 0x02000000) + value[4:20]
    return value


def _names(directory: str) -> List[str]:
    try:
        return os.listdir(directory) if _is_directory(directory) else []
    except FileNotFoundError:
        return []


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _drop_ephemera(found: Dict[str, Entry], dbpath: str) -> None:
    for pattern in EPHEMERA:
        path = pattern.format(db=dbpath)
        entry = found.get(path)
        if entry is None or (pattern == "/etc/.pwd.lock" and entry.new is not None and entry.new.size):
            continue
        del found[path]
    entry = found.get(_EPHEMERAL_DIRECTORY)
    if entry is not None and entry.change is Change.ADDED:
        inside = any(posixpath.dirname(path) == _EPHEMERAL_DIRECTORY for path in found)
        if not inside:
            del found[_EPHEMERAL_DIRECTORY]
