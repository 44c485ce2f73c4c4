"""Does the root hold exactly what the plugins' RPM headers say? Content, kind, mode and owner.

Times are set by rule and compared with the delta, capabilities in :mod:`respin.policy.outcome`.
"""

from __future__ import annotations

import hashlib
import stat
from typing import Any, Iterator, Mapping, Tuple

from respin.byteview import chunks
from respin.errors import UnsupportedError
from respin.formats.rpmfile import FileEntry
from respin.node.paths import read_file, real_path
from respin.plan import InstallPlan, PlannedFile
from respin.policy.findings import Finding
from respin.policy.settings import judge_settings
from respin.roottree import RootTree, TreeInode

Ids = Mapping[str, int]
_STATE = ("/var/", "/run/")
_FILLED = (*_STATE, "/tmp/")
_STRONG = ("sha224", "sha256", "sha384", "sha512", "sha3_256", "sha3_512")


def judge_content(plan: InstallPlan, after: RootTree[Any]) -> Iterator[Finding]:
    """A finding for every file of a plugin that is missing from ``after`` or differs from its RPM's header."""
    users, groups = _ids(read_file(after, "/etc/passwd")), _ids(read_file(after, "/etc/group"))
    for path in sorted(plan.files):
        planned = plan.files[path]
        inode = after.lookup(path)
        if planned.entry.is_ghost and (inode is None or _like_its_ghost(path, inode, plan, after, (users, groups))):
            continue
        if inode is None:
            yield Finding("content", path, f"{planned.nevra} owns this path, but it was not installed")
            continue
        difference = ", ".join(_differences(after, inode, planned, users, groups))
        if difference:
            yield Finding("content", path, f"it differs from the header of {planned.nevra}: {difference}")
    yield from judge_settings(plan, after)


def _like_its_ghost(path: str, inode: TreeInode, plan: InstallPlan, after: RootTree[Any], ids: Tuple[Ids, Ids]) -> bool:
    """Whether what a scriptlet made of a %ghost may be there: nothing that runs or configures, no more rights.

    Nobody signed what is in it. So it is state below /var, or empty. A link leads, over whatever links, to what was
    there or is signed; from elsewhere not into /var, where the vendor's directories fill up with what nobody signed.
    """
    entry = plan.files[path].entry
    if (inode.uid, inode.gid) != (ids[0].get(entry.user), ids[1].get(entry.group)):
        return False
    if stat.S_ISLNK(inode.mode):
        target = real_path(after, path)
        if f"{target}/".startswith(_FILLED) and not path.startswith(_STATE):
            return False
        planned = plan.files.get(target)
        if planned is not None:
            return not planned.entry.is_ghost
        return target == "/dev/null" or plan.node.root.lookup(target) is not None
    if stat.S_IFMT(inode.mode) != stat.S_IFMT(entry.mode) or stat.S_IMODE(inode.mode) & ~stat.S_IMODE(entry.mode):
        return False
    if not stat.S_ISREG(inode.mode):
        return stat.S_ISDIR(inode.mode)
    return not inode.size or (path.startswith(_STATE) and not inode.mode & 0o111)


def _differences(
    after: RootTree[Any], inode: TreeInode, planned: PlannedFile, users: Mapping[str, int], groups: Mapping[str, int]
) -> Iterator[str]:
    entry = planned.entry
    if stat.S_IFMT(inode.mode) != stat.S_IFMT(entry.mode):
        yield "another kind of file"
        return
    if not stat.S_ISLNK(inode.mode) and stat.S_IMODE(inode.mode) != stat.S_IMODE(entry.mode):
        yield f"mode {stat.S_IMODE(inode.mode):o} instead of {stat.S_IMODE(entry.mode):o}"
    if users.get(entry.user) != inode.uid:
        yield f"uid {inode.uid} is not the user {entry.user}"
    if groups.get(entry.group) != inode.gid:
        yield f"gid {inode.gid} is not the group {entry.group}"
    if stat.S_ISLNK(inode.mode) and after.readlink(inode) != entry.linkto:
        yield f"link to {after.readlink(inode)!r} instead of {entry.linkto!r}"
    if inode.mtime != entry.mtime and not stat.S_ISDIR(inode.mode):
        yield f"time {inode.mtime} instead of {entry.mtime}"
    if stat.S_ISREG(inode.mode):
        if inode.size != entry.size:
            yield f"{inode.size} bytes instead of {entry.size}"
        elif file_digest(after, inode, entry) != entry.digest:
            yield "other content"


def file_digest(root: RootTree[Any], inode: TreeInode, entry: FileEntry) -> str:
    """The digest of a file's content, by the algorithm that the RPM's header uses.

    Raises UnsupportedError for MD5 and SHA-1: such a header does not say what its files hold.
    """
    if entry.digest_algorithm not in _STRONG:
        raise UnsupportedError(
            f"the package names its files' digests by {entry.digest_algorithm or 'an unknown algorithm'}",
            where=entry.path,
            remedy="rebuild the package with SHA-256 file digests (%_binary_filedigest_algorithm 8)",
            finding="weak-digest",
        )
    digest = hashlib.new(entry.digest_algorithm)
    for piece in chunks(root.file_view(inode)):
        digest.update(piece)
    return digest.hexdigest()


def _ids(data: "bytes | None") -> Mapping[str, int]:
    found = {"root": 0}
    for line in (data or b"").decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isascii() and fields[2].isdigit():
            found.setdefault(fields[0], int(fields[2]))
    return found
