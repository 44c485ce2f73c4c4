"""The difference between two root images, found by reading both trees in full: every name, attribute and content.

This is the independent account of what a respin changed. It shares no code with the transaction, the overlay or
debugfs, and it is what the declared delta is held against. Slack that no name reaches (free blocks, old directory
entries) is outside of it.
"""

from __future__ import annotations

import stat
from typing import Callable, Dict, List, Mapping, Optional

from respin.byteview import chunks
from respin.digest import sha256_chunks
from respin.errors import MalformedError
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ExtInode
from respin.root.delta import Attributes, Change, Delta, Entry, Kind

_KINDS: Mapping[int, Kind] = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}

# Says whether ``length`` bytes from ``offset`` are known to be the same in both images.
SameBytes = Callable[[int, int], bool]


def attributes(root: ExtImage, inode: ExtInode, *, content: bool = True) -> Attributes:
    """All that an inode is; ``content=False`` leaves the digest of a regular file out."""
    kind = _KINDS.get(stat.S_IFMT(inode.mode))
    if kind is None:
        raise MalformedError(f"inode {inode.number} is of no known kind (mode {inode.mode:o})", where=root.view.name)
    regular = kind is Kind.FILE
    return Attributes(
        kind=kind,
        mode=stat.S_IMODE(inode.mode),
        uid=inode.uid,
        gid=inode.gid,
        mtime=inode.mtime,
        size=inode.size if regular else 0,
        sha256=sha256_chunks(chunks(root.file_view(inode))) if regular and content else None,
        target=root.readlink(inode) if kind is Kind.SYMLINK else None,
        xattrs=dict(root.xattrs(inode)),
    )


def compare(before: ExtImage, after: ExtImage, same_bytes: SameBytes) -> Delta:
    """Every path that differs in any attribute or in content, as a delta from ``before`` to ``after``.

    ``same_bytes`` spares reading: files whose blocks lie in byte-identical ranges of both images need no hashing.
    """
    old, new = dict(before.walk("/")), dict(after.walk("/"))
    found: Dict[str, Entry] = {}
    for path in sorted(set(old) - set(new)):
        found[path] = Entry(path, Change.REMOVED, None, attributes(before, old[path]))
    for path in sorted(set(new) - set(old)):
        found[path] = Entry(path, Change.ADDED, attributes(after, new[path]), None)
    for path, inode in new.items():
        if path not in old:
            continue
        pair = _differ(before, old[path], after, inode, same_bytes)
        if pair is not None:
            found[path] = Entry(path, Change.CHANGED, pair[1], pair[0])
    groups = _link_groups(new, found)
    return Delta(
        tuple(
            Entry(path, found[path].change, found[path].new, found[path].old, groups.get(path))
            for path in sorted(found)
        )
    )


def _differ(
    before: ExtImage, old: ExtInode, after: ExtImage, new: ExtInode, same_bytes: SameBytes
) -> "Optional[tuple[Attributes, Attributes]]":
    light = attributes(before, old, content=False), attributes(after, new, content=False)
    device = stat.S_ISCHR(old.mode) or stat.S_ISBLK(old.mode)
    alike = light[0] == light[1] and (not device or old.rdev == new.rdev)
    if not stat.S_ISREG(old.mode) or not stat.S_ISREG(new.mode):
        return None if alike else light
    if alike and _same_place(before, old, after, new, same_bytes):
        return None
    full = attributes(before, old), attributes(after, new)
    return None if full[0] == full[1] else full


def _same_place(before: ExtImage, old: ExtInode, after: ExtImage, new: ExtInode, same_bytes: SameBytes) -> bool:
    ranges = before.data_ranges(old)
    if ranges != after.data_ranges(new) or old.is_inline or new.is_inline:
        return False
    return all(offset is None or same_bytes(offset, length) for offset, length in ranges)


def _link_groups(new: Mapping[str, ExtInode], found: Mapping[str, Entry]) -> Dict[str, str]:
    names: Dict[int, List[str]] = {}
    for path in sorted(found):
        if found[path].new is not None and found[path].kind is not Kind.DIRECTORY:
            names.setdefault(new[path].number, []).append(path)
    return {path: group[0] for group in names.values() if len(group) > 1 for path in group}
