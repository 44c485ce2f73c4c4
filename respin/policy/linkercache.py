"""The dynamic linker's cache: every vendor library is found where it was, new entries lead to libraries of plugins.

An entry says what ldconfig would: a library in a directory that it scans, under the name that the library has.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from respin.formats import ldcache
from respin.formats.ldcache import CacheEntry
from respin.formats.sharedobject import SharedObject, read_shared_object
from respin.node.paths import read_file, real_parent, real_path
from respin.node.places import LIBRARY_DIRECTORIES, LINKER_CACHE
from respin.plan import InstallPlan
from respin.policy.findings import Finding
from respin.roottree import RootTree
from respin.safepath import show

_CONFIGURATION = "/etc/ld.so.conf"
_MOST_INCLUDES = 1000
_NAME = re.compile(r"(?:lib|ld-).*\.so")
_LATER_KERNEL = 0x40000  # of what libraries ask for; glibc's own notes name 3.10 at most
# Where ldconfig goes into directories that it scans: variants for some processors, the second kind until glibc 2.36.
_VARIANTS = "glibc-hwcaps"
_OLD_VARIANTS = frozenset(("tls", "x86_64", "haswell", "avx512_1", "xeon_phi", "i586", "i686", "sse2", "atomics"))


def judge_linker_cache(plan: InstallPlan, after: RootTree[Any]) -> Iterator[Finding]:
    """Findings on the cache in ``after``."""
    before = plan.node.root
    old_data, new_data = read_file(before, LINKER_CACHE), read_file(after, LINKER_CACHE)
    if old_data is None or new_data is None:
        return
    old, new = (ldcache.parse(data, LINKER_CACHE) for data in (old_data, new_data))
    if not ldcache.in_search_order(new):
        yield Finding("shadows", LINKER_CACHE, "its entries are not in the order in which the linker searches them")
    known_places = {real_path(after, _text(entry.path).rpartition("/")[0]) for entry in old if not entry.hwcap}
    scanned = known_places | _configured(after)
    for entry in sorted(set(new) - set(old), key=lambda one: one.name):
        problem = _problem(entry, plan, after, scanned)
        if problem:
            what = f"{show(_text(entry.name))} is found at {show(_text(entry.path))}, {problem}"
            yield Finding("undeclared-effect", LINKER_CACHE, what)
    yield from _lacking(old, new, plan, after, scanned)
    first = {(entry.name, entry.flags, entry.hwcap, entry.osversion): entry.path for entry in reversed(new)}
    # A variant for some processors is searched before the plain library, whatever its place in the cache.
    known = {(entry.name, entry.flags, entry.path) for entry in old}
    names = {(entry.name, entry.flags) for entry in old}
    for entry in new:
        if (entry.name, entry.flags) in names and (entry.name, entry.flags, entry.path) not in known:
            yield Finding(
                "shadows",
                LINKER_CACHE,
                f"{entry.path.decode('utf-8', 'replace')} competes with the vendor's library"
                f" {entry.name.decode('utf-8', 'replace')}",
                "give the plugin's library a name of its own",
            )
    for entry in old:
        found = first.get((entry.name, entry.flags, entry.hwcap, entry.osversion))
        if found != entry.path:
            yield Finding(
                "shadows",
                LINKER_CACHE,
                f"the vendor's library {entry.name.decode('utf-8', 'replace')} would no longer be found at"
                f" {entry.path.decode('utf-8', 'replace')}",
                "give the plugin's library a name of its own",
            )


def _problem(entry: CacheEntry, plan: InstallPlan, after: RootTree[Any], scanned: Set[str]) -> str:
    """What is wrong with a new entry, if anything."""
    path = real_parent(after, _text(entry.path))
    directory, _, name = path.rpartition("/")
    if path not in plan.files and (name != _text(entry.name) or plan.node.root.lookup(path) is None):
        return "which no plugin ships"
    if not any(directory == one or _is_variant(directory, one) for one in {*scanned, *LIBRARY_DIRECTORIES}):
        return "where ldconfig does not look"
    found = _library(after, path, plan)
    if found is None:
        return "which is no shared library that somebody signed"
    if _text(entry.name) not in (name, _text(found.soname)):
        return f"whose own name is {show(_text(found.soname) or name)}"
    return ""


def _is_variant(directory: str, scanned: str) -> bool:
    if not directory.startswith(f"{scanned}/"):
        return False
    parts = directory[len(scanned) + 1 :].split("/")
    return set(parts) <= _OLD_VARIANTS or (parts[0] == _VARIANTS and len(parts) == 2)


def _library(root: RootTree[Any], path: str, plan: InstallPlan) -> Optional[SharedObject]:
    """The library at ``path`` or where that leads, if it is one whose content is the vendor's or a plugin's."""
    real = real_path(root, path)
    inode, planned = root.lookup(real), plan.files.get(real)
    if inode is None or not inode.is_file or (planned is not None and planned.entry.is_ghost):
        return None
    return read_shared_object(root.file_view(inode))


def _lacking(
    old: Sequence[CacheEntry], new: Sequence[CacheEntry], plan: InstallPlan, after: RootTree[Any], scanned: Set[str]
) -> Iterator[Finding]:
    """A finding for each library of a plugin that ldconfig finds by its own name, and the cache does not have."""
    kinds: Dict[Tuple[int, ...], Set[int]] = {}
    for entry in {entry.flags: entry for entry in reversed(old)}.values():
        vendors = _library(plan.node.root, _text(entry.path), plan)
        if vendors is not None:
            kinds.setdefault(vendors.kind, set()).add(entry.flags)
    plain = [entry for entry in new if not entry.hwcap and entry.osversion < _LATER_KERNEL]
    there = {(real_parent(after, _text(entry.path)), entry.flags) for entry in plain}
    for path in sorted(plan.files):
        directory, _, name = path.rpartition("/")
        # Names with these are those of files that rpm and prelink have not finished.
        if directory not in scanned or not _NAME.match(name) or {";", "#"} & set(name):
            continue
        found = _library(after, path, plan)
        if found is None or found.kind not in kinds or _text(found.soname) != name:
            continue
        if not any((path, flags) in there for flags in kinds[found.kind]):
            yield Finding("undeclared-effect", LINKER_CACHE, f"{show(path)} is not in it, so nothing would find it")


def _configured(root: RootTree[Any]) -> Set[str]:
    """The directories that ld.so.conf and what it includes name (ldconfig(8))."""
    found: Set[str] = set()
    done: Set[str] = set()
    todo: List[str] = [_CONFIGURATION]
    while todo and len(done) < _MOST_INCLUDES:
        path = real_path(root, todo.pop())
        if path in done:
            continue
        done.add(path)
        for line in _text(read_file(root, path) or b"").split("\n"):
            words = line.partition("#")[0].split()
            if len(words) > 1 and words[0] == "include":
                for pattern in words[1:]:
                    todo += _matching(root, pattern if pattern[0] == "/" else f"{path.rpartition('/')[0]}/{pattern}")
            elif words and words[0][0] == "/":
                found.add(real_path(root, words[0].partition("=")[0]))
    return found


def _matching(root: RootTree[Any], pattern: str) -> List[str]:
    directory, _, names = pattern.rpartition("/")
    inode = root.lookup(real_path(root, directory))
    if inode is None or not inode.is_directory:
        return []
    listed = root.listdir(real_path(root, directory))
    return [f"{directory}/{name}" for name in listed if fnmatchcase(name, names)]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
