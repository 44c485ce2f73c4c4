"""Reads a bundle, a tar file or a directory of the same shape, into private copies; nothing in it is believed yet.

The archive is read by libarchive, pinned to tar without compression. Names from it are never used on disk.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional

from respin.bundle import packing
from respin.bundle.members import Bundle, Member, Store
from respin.byteview import FileView, chunks
from respin.errors import MalformedError, RespinError, UsageError
from respin.limits import LIMITS
from respin.progress import SILENT, Progress
from respin.safepath import show

_STEP = 1 << 20


def read_bundle(path: Path, tmpdir: Optional[Path] = None, progress: Progress = SILENT) -> Bundle:
    """The bundle at ``path``; its members lie below ``tmpdir``.

    Raises UsageError when there is no such bundle and MalformedError when it is not a canonical one: foreign members,
    anything but regular files, another order, other metadata, padding, trailing bytes, sizes beyond the limits.
    """
    store = Store(tmpdir)
    try:
        fd = _open(path)
        try:
            read = _read_directory if stat.S_ISDIR(os.fstat(fd).st_mode) else _read_archive
            return read(path, fd, store, progress)
        finally:
            os.close(fd)
    except BaseException:
        store.close()
        raise


def _open(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not to wait for the other end of a FIFO
    except OSError as error:
        raise UsageError(
            f"cannot open the bundle: {error.strerror}", where=str(path), remedy="check the name and the permissions"
        ) from error
    if not (stat.S_ISREG(os.fstat(fd).st_mode) or stat.S_ISDIR(os.fstat(fd).st_mode)):
        os.close(fd)
        raise UsageError("a bundle is a file or a directory", where=str(path))
    return fd


def _read_archive(path: Path, fd: int, store: Store, progress: Progress) -> Bundle:
    file = FileView(fd, str(path))
    if file.size > LIMITS.bundle:
        raise MalformedError(
            f"{file.size} bytes are too many for a bundle, the limit is {LIMITS.bundle}",
            where=str(path),
            finding="too-large",
        )
    digest = hashlib.sha256()
    with progress.step(f"reading {path.name}", 2 * file.size) as step:
        members = _members(path, fd, store, step.advance)
        for piece in packing.compare(members, file):
            digest.update(piece)
            step.advance(len(piece))
    return Bundle(path, digest.hexdigest(), file.size, tuple(members), store)


def _members(path: Path, fd: int, store: Store, advance: Callable[[int], None]) -> List[Member]:
    import libarchive  # runs ldconfig to find the library: only those who read an archive wait for it

    where = str(path)
    members: List[Member] = []
    left = os.fstat(fd).st_size  # a plain tar cannot hold more than it is long: no sparse files, no bombs
    try:
        with libarchive.fd_reader(fd, "tar", "none") as archive:
            for entry in archive:
                name = entry.pathname
                if not isinstance(name, str):
                    name = (name or b"").decode("utf-8", "replace")
                packing.check_name(name, where=where)
                if not entry.isreg or entry.islnk:
                    raise _bad_member(f"{name} is not a regular file", where)
                if any(member.name == name for member in members):
                    raise _bad_member(f"{name} is there twice", where)
                if len(members) >= LIMITS.bundle_members:
                    raise _bad_member(f"there are more than {LIMITS.bundle_members} members", where)
                size = packing.check_size(name, -1 if entry.size is None else entry.size, where=where)
                if size > left:
                    raise MalformedError(
                        f"{name} is said to have {size} bytes, but only {left} are left in the file",
                        where=where,
                        remedy="the bundle is truncated or damaged; get it again",
                        finding="truncated",
                    )
                left -= size
                members.append(store.add(name, _advancing(entry.get_blocks(_STEP), advance), size=size, where=where))
    except libarchive.ArchiveError as error:
        raise MalformedError(
            f"this is not a complete, uncompressed tar archive: {show(str(error.msg))[:200]}",
            where=where,
            remedy="a bundle is a .plugin.tar as `respin bundle create` writes it; get it again if it is one",
            finding="not-a-bundle",
        ) from error
    return members


def _advancing(blocks: Iterator[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    for block in blocks:
        advance(len(block))
        yield block


def _read_directory(path: Path, fd: int, store: Store, progress: Progress) -> Bundle:
    where = str(path)
    names: Dict[str, int] = {}
    rpms = -1
    try:
        for name in _listing(fd, where):
            if name == packing.RPMS.rstrip("/"):
                rpms = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                names.update((packing.RPMS + rpm, rpms) for rpm in _listing(rpms, where))
            else:
                names[name] = fd
        members = []
        total = 0
        with progress.step(f"reading {path.name}") as step:
            for name in sorted(packing.check_name(name, where=where) for name in names):
                member = _copy(name, names[name], store, where)
                total += member.size
                if total > LIMITS.bundle:
                    raise MalformedError("the directory is too large for a bundle", where=where, finding="too-large")
                step.advance(member.size)
                members.append(member)
    except OSError as error:
        raise _bad_member(f"{show(str(error.filename))} cannot be read: {error.strerror}", where) from error
    finally:
        if rpms >= 0:
            os.close(rpms)
    return bundle_of(path, members, store)


def _listing(fd: int, where: str) -> List[str]:
    names: List[str] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            if len(names) >= LIMITS.bundle_members:
                raise _bad_member(f"there are more than {LIMITS.bundle_members} members", where)
            names.append(entry.name)
    return names


def _copy(name: str, directory: int, store: Store, where: str) -> Member:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name.rsplit("/", 1)[-1], flags, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _bad_member(f"{name} is not a regular file", where)
        view = FileView(fd, f"{where}: {name}")
        packing.check_size(name, view.size, where=where)
        return store.add(name, chunks(view), size=view.size, where=where)
    finally:
        os.close(fd)


def bundle_of(path: Path, members: List[Member], store: Store) -> Bundle:
    """The bundle that these members make up, in their canonical order."""
    ordered = tuple(sorted(members, key=lambda member: packing.order(member.name)))
    digest = hashlib.sha256()
    for piece in packing.pieces(ordered):
        digest.update(piece)
    return Bundle(path, digest.hexdigest(), packing.packed_size(m.size for m in ordered), ordered, store)


def _bad_member(what: str, where: str) -> RespinError:
    return MalformedError(what, where=where, finding="bad-member")
