"""Digests over the protected sets: the installer and the persistence layer, with every attribute of every file.

The digest is SHA-256 over canonical JSON, one line per path, sorted by path; docs/reference/provenance.md has the form,
so that it can be computed without respin.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from respin import strictjson
from respin.byteview import chunks
from respin.digest import sha256_chunks
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ExtInode
from respin.formats.iso9660.image import IsoImage
from respin.node.profile import Profile, ProtectedSet
from respin.safepath import first_match


@dataclass(frozen=True)
class ProtectedDigest:
    """The digest of one protected set, and how many paths it covers."""

    sha256: str
    paths: int


def protected_digests(iso: IsoImage, root: ExtImage, profile: Profile) -> Mapping[str, ProtectedDigest]:
    """The digest of each protected set of ``profile`` ("installer", "persistence")."""
    tree = [(path, inode) for path, inode in root.walk("/")]
    return {name: _digest(iso, root, tree, members) for name, members in sorted(profile.protected.items())}


def _digest(iso: IsoImage, root: ExtImage, tree: List[Tuple[str, ExtInode]], members: ProtectedSet) -> ProtectedDigest:
    digest = hashlib.sha256()
    count = 0
    for line in _lines(iso, root, tree, members):
        digest.update(line + b"\n")
        count += 1
    return ProtectedDigest(digest.hexdigest(), count)


def _lines(iso: IsoImage, root: ExtImage, tree: List[Tuple[str, ExtInode]], members: ProtectedSet) -> Iterator[bytes]:
    for path in sorted(iso.files):
        if first_match(path, members.iso):
            sha256 = sha256_chunks(chunks(iso.file_view(path)))
            yield strictjson.encode({"iso": path, "size": iso.files[path].size, "sha256": sha256})
    patterns = members.root_patterns
    for path, inode in tree:
        if first_match(path, patterns):
            yield strictjson.encode({"root": path, **attributes(root, inode)})


def attributes(root: ExtImage, inode: ExtInode) -> Dict[str, Any]:
    """Every attribute of one file of the root as plain data; content as its SHA-256."""
    found: Dict[str, Any] = {
        "mode": inode.mode,
        "uid": inode.uid,
        "gid": inode.gid,
        "mtime": inode.mtime,
        "xattrs": {name: value.hex() for name, value in sorted(root.xattrs(inode).items())},
    }
    if stat.S_ISREG(inode.mode):
        found["size"] = inode.size
        found["sha256"] = sha256_chunks(chunks(root.file_view(inode)))
    elif stat.S_ISLNK(inode.mode):
        found["target"] = root.readlink(inode)
    elif not stat.S_ISDIR(inode.mode):
        found["rdev"] = inode.rdev
    return found
