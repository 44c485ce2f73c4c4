"""Lists and reads the files of a root image straight from the ISO: nothing is mounted or unpacked, nothing followed
out of the image. Works on any ISO whose root image can be read, with or without a profile.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence

from respin.byteview import ByteView
from respin.errors import MalformedError, UsageError
from respin.formats.iso9660.image import IsoImage
from respin.node.image import open_root
from respin.node.knownprofiles import built_in
from respin.node.profile import Profile
from respin.roottree import RootTree, TreeInode
from respin.safepath import absolute

_KINDS: Mapping[int, str] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True)
class RootFile:
    """One path of a root image; ``mode`` has the kind bits, ``target`` is a symbolic link's, ``xattrs`` are raw."""

    path: str
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    mtime: int
    rdev: int
    target: Optional[str]
    xattrs: Mapping[str, bytes]

    def to_json(self) -> Dict[str, Any]:
        """As plain data; values of attributes in hexadecimal."""
        return {
            "path": self.path,
            "kind": _KINDS.get(stat.S_IFMT(self.mode), "unknown"),
            "mode": f"{stat.S_IMODE(self.mode):04o}",
            "uid": self.uid,
            "gid": self.gid,
            "nlink": self.nlink,
            "size": self.size,
            "mtime": self.mtime,
            "rdev": self.rdev,
            "target": self.target,
            "xattrs": {name: value.hex() for name, value in sorted(self.xattrs.items())},
        }


def list_files(view: ByteView, top: str = "/", profiles: Sequence[Profile] = ()) -> Iterator[RootFile]:
    """Every path at and below ``top`` in the root image of the ISO in ``view``, in byte order of names.

    ``profiles`` are those that may fit, without any the ones that respin brings along. Raises UsageError when there is
    no such path; UnsupportedError and MalformedError for images that cannot be read.
    """
    root = open_root(IsoImage.open(view), profiles or built_in())
    _find(root, top)
    for path, inode in root.walk(top):
        yield _describe(root, path, inode)


def open_file(view: ByteView, path: str, profiles: Sequence[Profile] = ()) -> ByteView:
    """The content of the regular file that ``path`` leads to, symbolic links followed inside the image."""
    root = open_root(IsoImage.open(view), profiles or built_in())
    found = root.resolve(_absolute(path))
    if found is None:
        raise _missing(path, root)
    if not found.inode.is_file:
        raise UsageError(f"{path} is not a regular file", where=root.view.name, remedy="list it with --files")
    return root.file_view(found.inode, f"{root.view.name}:{found.path}")


def _find(root: RootTree[Any], path: str) -> TreeInode:
    inode: Optional[TreeInode] = root.lookup(_absolute(path))
    if inode is None:
        raise _missing(path, root)
    return inode


def _absolute(path: str) -> str:
    try:
        return absolute(path, where="the command line")
    except MalformedError as error:
        raise UsageError(
            error.what, remedy="name an absolute path of the root image, such as /etc/os-release"
        ) from None


def _missing(path: str, root: RootTree[Any]) -> UsageError:
    return UsageError(
        f"there is no {path} in the root image", where=root.view.name, remedy="`respin inspect ISO --files` lists all"
    )


def _describe(root: RootTree[Any], path: str, inode: TreeInode) -> RootFile:
    return RootFile(
        path,
        inode.mode,
        inode.uid,
        inode.gid,
        inode.nlink,
        inode.size,
        inode.mtime,
        inode.rdev,
        root.readlink(inode) if inode.is_symlink else None,
        root.xattrs(inode),
    )
