"""The dynamic linker's cache: every vendor library is found where it was, new entries lead to files of plugins."""

from __future__ import annotations

from typing import Any, Container, Iterator

from respin.formats import ldcache
from respin.node.paths import read_file, real_parent
from respin.node.places import LINKER_CACHE
from respin.policy.findings import Finding
from respin.roottree import RootTree
from respin.safepath import show


def judge_linker_cache(before: RootTree[Any], after: RootTree[Any], own: Container[str]) -> Iterator[Finding]:
    """Findings on the cache in ``after``; ``own`` are the real paths of the plugins' files."""
    old_data, new_data = read_file(before, LINKER_CACHE), read_file(after, LINKER_CACHE)
    if old_data is None or new_data is None:
        return
    old, new = (ldcache.parse(data, LINKER_CACHE) for data in (old_data, new_data))
    if not ldcache.in_search_order(new):
        yield Finding("shadows", LINKER_CACHE, "its entries are not in the order in which the linker searches them")
    for entry in sorted(set(new) - set(old), key=lambda one: one.name):
        path = real_parent(after, entry.path.decode("utf-8", "surrogateescape"))
        name = path.rpartition("/")[2].encode("utf-8", "surrogateescape")
        if path not in own and (name != entry.name or before.lookup(path) is None):
            yield Finding(
                "undeclared-effect",
                LINKER_CACHE,
                f"{show(entry.name.decode('utf-8', 'replace'))} is found at {show(path)}, which no plugin ships",
            )
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
