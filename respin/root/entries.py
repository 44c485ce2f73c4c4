"""From a delta to a plan of writes: what is removed, made, linked, or only given other attributes, in which order."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from respin.digest import sha256_hex
from respin.errors import BuildError, PolicyError, UnsupportedError
from respin.formats.selinux import XATTR
from respin.root import chroot
from respin.root.delta import Attributes, Change, Delta, Entry, Kind
from respin.root.mounts import Scratch
from respin.safepath import show

_WRITABLE = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO)


@dataclass(frozen=True)
class Removal:
    """A path to unlink, of the kind that it has in the vendor's root."""

    path: str
    kind: Kind


@dataclass(frozen=True)
class Target:
    """A path as it has to be in the end. ``source`` is the file to copy a regular file's content from.

    ``make`` says that the inode is new; otherwise only attributes change, and ``old`` are those it has. ``links`` are
    further names of the inode.
    """

    path: str
    attributes: Attributes
    make: bool
    source: Optional[str] = None
    old: Optional[Attributes] = None
    links: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Removals (children before parents), then targets (parents before children)."""

    removals: Tuple[Removal, ...]
    targets: Tuple[Target, ...]

    @property
    def touched_directories(self) -> Sequence[str]:
        """Directories in which a name appears or goes but which are no targets themselves."""
        made = {target.path for target in self.targets}
        gone = {removal.path for removal in self.removals}
        paths = [*gone, *(p for t in self.targets if t.make for p in (t.path, *t.links))]
        return sorted({posixpath.dirname(path) for path in paths} - made - gone)


def with_facts(
    delta: Delta, facts: Mapping[str, bytes], labels: Mapping[str, bytes], scratch: Scratch, epoch: int
) -> Tuple[Delta, Mapping[str, str]]:
    """``delta`` with the files of ``facts`` and the directories they need; and where the contents of these lie.

    What has a label by path in ``labels`` gets it.
    """
    entries: Dict[str, Entry] = {entry.path: entry for entry in delta}
    sources: Dict[str, str] = {}
    for number, (wanted, content) in enumerate(sorted(facts.items())):
        path = _real_place(scratch.merged, wanted)
        if path in entries and entries[path].change is not Change.REMOVED:
            raise PolicyError(
                f"a package owns or made {show(path)}, which is reserved for respin", finding="reserved-path"
            )
        for parent in reversed(list(_missing_parents(scratch.merged, path))):
            if parent not in entries:
                entries[parent] = Entry(parent, Change.ADDED, Attributes(Kind.DIRECTORY, 0o755, 0, 0, epoch))
        new = Attributes(Kind.FILE, 0o644, 0, 0, epoch, len(content), sha256_hex(content))
        old = _existing(scratch.lower, path)
        if old is not None and old.kind is Kind.FILE:
            new = replace(old, mtime=epoch, size=new.size, sha256=new.sha256)
        if old is not None and old.kind is Kind.DIRECTORY:
            raise PolicyError(f"{show(path)} is a directory of the Node", finding="reserved-path")
        entries[path] = Entry(path, Change.CHANGED if old else Change.ADDED, new, old)
        sources[path] = f"{scratch.files}/fact-{number}"
        with open(sources[path], "wb") as stream:
            stream.write(content)
    return Delta(tuple(_labelled(entries[path], labels.get(path)) for path in sorted(entries))), sources


def _labelled(entry: Entry, label: Optional[bytes]) -> Entry:
    if entry.new is None or label is None:
        return entry
    return replace(entry, new=replace(entry.new, xattrs={**entry.new.xattrs, XATTR: label}))


def make_plan(
    delta: Delta,
    sources: Mapping[str, str],
    upper: str,
    *,
    vendor_links: Callable[[str], int],
    has_acl: Callable[[str], bool],
) -> Plan:
    """Sort the writes of ``delta``.

    ``vendor_links`` tells the link count that a path has in the vendor's root, ``has_acl`` whether it has an access
    control list there.
    """
    removals: List[Removal] = []
    targets: List[Target] = []
    groups: Dict[str, List[str]] = {}
    for entry in delta:
        if entry.link_group is not None:
            groups.setdefault(entry.link_group, []).append(entry.path)
    for entry in delta:
        in_place = _in_place(entry, vendor_links)
        if entry.new is not None and entry.old is not None and has_acl(entry.path):
            raise UnsupportedError(
                f"{show(entry.path)} has an access control list and is changed; it would be lost",
                remedy="leave that file of the Node alone",
                finding="access-control-list",
            )
        if entry.old is not None and not in_place:
            removals.append(Removal(entry.path, entry.old.kind))
        if entry.new is None or (entry.link_group is not None and entry.link_group != entry.path):
            continue
        if entry.new.kind not in _WRITABLE:
            raise PolicyError(
                f"{show(entry.path)} is a {entry.new.kind.value}; a plugin cannot add one", finding="special-file"
            )
        source = sources.get(entry.path, upper + entry.path) if entry.new.kind is Kind.FILE else None
        links = tuple(groups.get(entry.path, ())[1:])
        targets.append(Target(entry.path, entry.new, not in_place, source, entry.old if in_place else None, links))
    removals.reverse()
    return Plan(tuple(removals), tuple(targets))


def _in_place(entry: Entry, vendor_links: Callable[[str], int]) -> bool:
    """Whether only attributes differ, of an inode that has no other name."""
    new, old = entry.new, entry.old
    if new is None or old is None or new.kind is not old.kind:
        return False
    if new.kind is Kind.DIRECTORY:
        return True
    same = new.sha256 == old.sha256 and new.target == old.target
    return same and entry.link_group is None and vendor_links(entry.path) == 1


def _real_place(root: str, path: str) -> str:
    """``path`` with symbolic links in the directories above it resolved inside ``root``."""
    if not path.startswith("/") or posixpath.normpath(path) != path or path == "/":
        raise BuildError(f"{show(path)} is no absolute path", finding="bad-path")
    rest: List[str] = [posixpath.basename(path)]
    parent = posixpath.dirname(path)
    while True:
        real = chroot.resolve(root, parent)
        if real is not None:
            return posixpath.join(real, *rest)
        rest.insert(0, posixpath.basename(parent))
        parent = posixpath.dirname(parent)


def _missing_parents(root: str, path: str) -> List[str]:
    missing = []
    parent = posixpath.dirname(path)
    while parent != "/" and not os.path.lexists(root + parent):
        missing.append(parent)
        parent = posixpath.dirname(parent)
    return missing


def _existing(lower: str, path: str) -> Optional[Attributes]:
    from respin.root.compare import attributes

    return attributes(lower + path) if os.path.lexists(lower + path) else None
