"""The files of a package in a root, against its header: what ``rpm -V`` looks at, read without leaving the root."""

from __future__ import annotations

import stat
from typing import Dict, Iterator, List, Mapping

from respin.formats import capability
from respin.formats.rpmfile import FileEntry, RpmHeader
from respin.host.report import Drift
from respin.host.root import HostRoot
from respin.limits import LIMITS
from respin.root.delta import KINDS, Attributes, Kind

CAPABILITY = "security.capability"
# A Node gives these to its own files: labels, integrity measurement.
_LOCAL = ("security.selinux", "security.ima", "security.evm")
_ALGORITHMS = ("sha224", "sha256", "sha384", "sha512", "sha3_256", "sha3_512")


class PackageFiles:
    """Checks the files of packages; ``checked`` counts them."""

    def __init__(self, root: HostRoot) -> None:
        self._root = root
        self._users = _ids(root.read("/etc/passwd", LIMITS.small_file))
        self._groups = _ids(root.read("/etc/group", LIMITS.small_file))
        self.checked = 0

    def check(self, header: RpmHeader) -> Iterator[Drift]:
        """A drift for each file that is not as the package's header says; %ghost files may be anything."""
        for entry in header.files:
            if entry.is_ghost:
                continue
            self.checked += 1
            directory, _, name = entry.path.rpartition("/")
            parent = self._root.real_path(directory or "/")
            path = f"/{name}" if parent == "/" else f"{parent}/{name}"
            strong = entry.digest_algorithm if entry.digest_algorithm in _ALGORITHMS else None
            found = self._root.attributes(path, strong)
            what = "it is missing" if found is None else ", ".join(self._differences(found, entry, strong is not None))
            if what:
                yield Drift(path, what, header.nevra, entry.is_config)

    def _differences(self, found: Attributes, entry: FileEntry, judged: bool) -> List[str]:
        if found.kind is not KINDS.get(stat.S_IFMT(entry.mode)):
            return [f"it is a {found.kind.value}"]
        says: List[str] = []
        if found.kind is not Kind.SYMLINK and found.mode != stat.S_IMODE(entry.mode):
            says.append(f"mode {found.mode:o} instead of {stat.S_IMODE(entry.mode):o}")
        if self._users.get(entry.user) != found.uid:
            says.append(f"uid {found.uid} is not the user {entry.user}")
        if self._groups.get(entry.group) != found.gid:
            says.append(f"gid {found.gid} is not the group {entry.group}")
        if found.kind is Kind.SYMLINK and found.target != entry.linkto:
            says.append(f"link to {found.target!r} instead of {entry.linkto!r}")
        if found.kind is Kind.FILE:
            if found.size != entry.size:
                says.append(f"{found.size} bytes instead of {entry.size}")
            elif not judged or found.sha256 != entry.digest:
                says.append("other content")
            if found.mtime != entry.mtime:
                says.append(f"time {found.mtime} instead of {entry.mtime}")
        return says + _other_attributes(found.xattrs, entry)


def _other_attributes(found: Mapping[str, bytes], entry: FileEntry) -> List[str]:
    wanted = {CAPABILITY: capability.from_text(entry.caps)} if entry.caps else {}
    names = sorted(set(found) | set(wanted))
    return [f"attribute {name}" for name in names if name not in _LOCAL and found.get(name) != wanted.get(name)]


def local_attributes_left_out(found: Mapping[str, bytes]) -> Dict[str, bytes]:
    """Extended attributes without those that a Node gives to its files by itself."""
    return {name: value for name, value in found.items() if name not in _LOCAL}


def _ids(data: "bytes | None") -> Mapping[str, int]:
    found = {"root": 0}
    for line in (data or b"").decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isascii() and fields[2].isdigit():
            found.setdefault(fields[0], int(fields[2]))
    return found
