"""What the RPM of a plugin may not contain, whatever its manifest declares."""

from __future__ import annotations

import stat
from typing import Iterator, Sequence, Tuple

from respin import safepath
from respin.bundle.manifest import Manifest
from respin.bundle.schema import NOARCH
from respin.errors import MalformedError, PolicyError, UnsupportedError
from respin.formats.rpmfile import FileEntry, RpmHeader

# Not part of a root file system: made anew at every boot, and other things are mounted over them.
VOLATILE = ("/dev", "/proc", "/run", "/sys", "/tmp")
_KINDS = {
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}

Problem = Tuple[str, str]  # finding, sentence


def check(manifest: Manifest, headers: Sequence[RpmHeader], *, where: str) -> None:
    """Raise PolicyError, naming every offending path, or UnsupportedError for a package of another architecture."""
    for header in headers:
        _check_package(manifest, header, where)
    problems = [
        (finding, f"{header.nevra}: {sentence}")
        for header in headers
        for entry in header.files
        for finding, sentence in _judge(entry)
    ]
    if problems:
        raise PolicyError(
            problems[0][1],
            where=where,
            finding=problems[0][0],
            remedy="change the RPM: a plugin adds plain files, directories and links to the root file system",
            also=[sentence for _, sentence in problems[1:]],
        )


def _check_package(manifest: Manifest, header: RpmHeader, where: str) -> None:
    if header.arch not in (NOARCH, manifest.arch) or header.os != "linux":
        raise UnsupportedError(
            f"{header.nevra} is for {safepath.show(header.os)} on {safepath.show(header.arch)}, "
            f"the bundle is for linux on {manifest.arch}",
            where=where,
            remedy="make one bundle for each architecture",
            finding="foreign-arch",
        )
    if header.is_source:
        raise UnsupportedError(f"{header.nevra} is a source package", where=where, finding="source-package")


def _judge(entry: FileEntry) -> Iterator[Problem]:
    path = safepath.show(entry.path)
    try:
        safepath.absolute(entry.path, where="")
    except MalformedError:
        yield "bad-path", f"the path {path!r} has '.', '..', empty or unprintable parts"
        return
    if not safepath.printable(entry.linkto):
        yield "bad-path", f"the link {path} points to an unprintable path"
    if any(entry.path == top or entry.path.startswith(top + "/") for top in VOLATILE):
        yield "volatile-path", f"{path} is not part of the root file system: what is there is gone at the next boot"
    kind = stat.S_IFMT(entry.mode)
    if kind in _KINDS:
        yield "device-node", f"{path} is {_KINDS[kind]}"
    elif kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        yield "device-node", f"{path} is of no known type (mode {entry.mode:o})"
    if kind != stat.S_IFLNK and entry.mode & 0o002 and not (kind == stat.S_IFDIR and entry.mode & stat.S_ISVTX):
        yield "world-writable", f"{path} can be changed by everybody (mode {stat.S_IMODE(entry.mode):04o})"
