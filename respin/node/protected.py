"""Digests over the protected sets: the installer and the persistence layer, with every attribute of every file.

The digest is SHA-256 over canonical JSON, one line per path, sorted by path; docs/reference/provenance.md has the form,
so that it can be computed without respin.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Any, Container, Dict, List, Mapping, Sequence

from respin import strictjson
from respin.byteview import chunks
from respin.digest import sha256_chunks, sha256_content, sha256_hex
from respin.formats.iso9660.image import IsoImage
from respin.node.marks import marked_paths
from respin.node.profile import Profile
from respin.roottree import RootTree, TreeInode
from respin.safepath import first_match, may_match_below


@dataclass(frozen=True)
class ProtectedDigest:
    """The digest of one protected set, and how many paths it covers."""

    sha256: str
    paths: int


@dataclass(frozen=True)
class ProtectedPaths:
    """The lines for each protected set: of the ISO's files by path, of the root's in order."""

    iso: Mapping[str, Mapping[str, bytes]]
    root: Mapping[str, Sequence[bytes]]

    def digests(self, without: Container[str]) -> Mapping[str, ProtectedDigest]:
        """The digest of each set; ``without`` are files of the ISO that changed as recorded."""
        return {
            name: _digest([*(line for path, line in self.iso[name].items() if path not in without), *self.root[name]])
            for name in self.iso
        }


def protected_digests(
    iso: IsoImage, root: RootTree[Any], profile: Profile, without: Container[str]
) -> Mapping[str, ProtectedDigest]:
    """The digest of each protected set of ``profile`` ("installer", "persistence").

    ``without`` are files of the ISO that changed as recorded, which is checked by itself; so are the marks of a respin
    in the root.
    """
    return protected_paths(iso, root, profile, without).digests(without)


def protected_paths(
    iso: IsoImage, root: RootTree[Any], profile: Profile, without: Container[str] = ()
) -> ProtectedPaths:
    """All that :func:`protected_digests` makes its digests of; files ``without`` need not be read."""
    on_iso: Dict[str, Dict[str, bytes]] = {name: {} for name in sorted(profile.protected)}
    lines: Dict[str, List[bytes]] = {name: [] for name in on_iso}
    patterns = {name: members.root_patterns for name, members in profile.protected.items()}
    # The catalogue says where things lie, and some boot images where they lie themselves.
    own_places = {entry.lba for entry in iso.boot if entry.boot_info or entry.grub2_boot_info}
    own_places |= {iso.catalog.lba} if iso.catalog is not None else set()
    for path in sorted(iso.files):
        names = [name for name in lines if first_match(path, profile.protected[name].iso)]
        if names and path not in without and iso.files[path].lba not in own_places:
            sha256 = sha256_chunks(chunks(iso.file_view(path)))
            line = strictjson.encode({"iso": path, "size": iso.files[path].size, "sha256": sha256})
            for name in names:
                on_iso[name][path] = line
    marks = marked_paths(root, profile.marks)
    whole = tuple(pattern for one in patterns.values() for pattern in one)
    for path, inode in root.walk("/", lambda directory: may_match_below(directory, whole)):
        names = [name for name in lines if first_match(path, patterns[name])]
        if names and path not in marks:
            line = strictjson.encode({"root": path, **attributes(root, inode)})
            for name in names:
                lines[name].append(line)
    return ProtectedPaths(on_iso, lines)


def _digest(lines: List[bytes]) -> ProtectedDigest:
    return ProtectedDigest(sha256_hex(b"".join(line + b"\n" for line in lines)), len(lines))


def attributes(root: RootTree[Any], inode: TreeInode) -> Dict[str, Any]:
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
        found["sha256"] = sha256_content(root.file_view(inode))
    elif stat.S_ISLNK(inode.mode):
        found["target"] = root.readlink(inode)
    elif not stat.S_ISDIR(inode.mode):
        found["rdev"] = inode.rdev
    return found
