"""The indexes of kernel modules: what modprobe finds for the vendor's modules stays, and plugins add what theirs say.

Nobody vouches for these files. So each of them is read, texts and binary indexes alike, and every entry that is not the
vendor's has to follow from a module that a plugin ships; those by which that is found have to be there. Depends on
nothing that depmod does in its own order.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Set, Tuple

from respin.formats.kernelmodule import KernelModule, module_name, read_module
from respin.formats.kmodindex import is_indexable, normal, read_index
from respin.node.paths import read_file
from respin.plan import InstallPlan
from respin.policy.findings import Finding
from respin.roottree import RootTree
from respin.safepath import show

_DEVNAME = re.compile(r"devname:([A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*)")
_DEVICE = re.compile(r"(char|block)-major-([0-9]+)-([0-9]+)")
_REMEDY = "depmod makes it from the modules alone; nothing else may write it"
_FINDING = "modules"

Items = Set[Tuple[bytes, ...]]
"""Lines of a text, or keys with values of an index."""
Values = Callable[[KernelModule], Iterable[str]]
Allowed = Callable[[Mapping[str, KernelModule]], Items]


def judge_module_index(path: str, plan: InstallPlan, after: RootTree[Any]) -> Iterator[Finding]:
    """Findings on the index at ``path``, which differs from the vendor's. Raises MalformedError for what is none."""
    directory, _, name = path.rpartition("/")
    files = [read_file(root, path) for root in (plan.node.root, after)]
    before, now = (_items(data, f"{root.view.name}:{path}") for data, root in zip(files, (plan.node.root, after)))
    if files[0] is None and name in _BUILTIN:
        before = _BUILTIN[name](plan.node.root, directory)
    for item in sorted(before - now)[:1]:
        yield Finding(_FINDING, path, f"it no longer has the vendor's entry {_shown(item)}", _REMEDY)
    own = own_modules(plan, after, directory)
    listed = read_file(after, f"{directory}/modules.dep") or b""
    allowed = _ALLOWED[name](own) if name in _ALLOWED else set()
    if name == "modules.dep.bin":
        allowed = _dependencies(own, directory, listed)
        keys = [item[0] for item in now]
        if len(set(keys)) != len(keys):
            yield Finding(_FINDING, path, "it names several places for one module", _REMEDY)
    for item in sorted(now - before - allowed)[:1]:
        yield Finding(_FINDING, path, f"it has the entry {_shown(item)}, which no plugin's module calls for", _REMEDY)
    if name in _WANTED:
        # Of two modules of one name depmod lists one.
        lines = {line.partition(b":")[0] for line in listed.split(b"\n")}
        there = {one: own[one] for one in own if _bytes(one[len(directory) + 1 :]) in lines}
        wanted = (
            allowed if name == "modules.dep.bin" else {item for item in _ALLOWED[name](there) if _WANTED[name](item)}
        )
        for item in sorted(wanted - now)[:1]:
            what = f"it lacks the entry {_shown(item)}, which a plugin's module calls for"
            yield Finding(_FINDING, path, what, _REMEDY)


def own_modules(plan: InstallPlan, after: RootTree[Any], directory: str) -> Mapping[str, KernelModule]:
    """What the plugins' modules below ``directory`` say, by path. Raises MalformedError for what is none."""
    return {
        one: read_module(read_file(after, one) or b"", one, f"{after.view.name}:{one}")
        for one in plan.files
        if one.startswith(f"{directory}/") and module_name(one)
    }


def _items(data: "bytes | None", where: str) -> Items:
    if data is None:
        return set()
    if where.endswith(".bin"):
        return set(read_index(data, where))
    return {(line,) for line in data.split(b"\n") if line and not line.startswith(b"#")}


def _dependencies(own: Mapping[str, KernelModule], directory: str, text: bytes) -> Items:
    """What the text, which is judged for itself, says of the plugins' modules."""
    found: Items = set()
    for line in text.split(b"\n"):
        name = line.partition(b":")[0].decode("utf-8", "surrogateescape")
        if f"{directory}/{name}" in own:
            found.add((_bytes(module_name(name)), line))
    return found


def _lines(form: str, values: Values) -> Allowed:
    """For a text: a line for each value of each module."""
    return lambda own: {
        (_bytes(form.format(name=module_name(path), value=value)),)
        for path, one in own.items()
        for value in values(one)
    }


def _pairs(values: Values) -> Allowed:
    """For an index: a key for each value of each module."""
    return lambda own: {
        (normal(_bytes(value)), _bytes(module_name(path))) for path, one in own.items() for value in values(one)
    }


def _symbols(module: KernelModule) -> List[str]:
    return [f"symbol:{name}" for name in module.exports]


def _devices(module: KernelModule) -> Iterator[str]:
    names = [match[1] for match in map(_DEVNAME.fullmatch, module.aliases) if match]
    numbers = [match for match in map(_DEVICE.fullmatch, module.aliases) if match]
    return (f"{name} {one[1][0]}{int(one[2])}:{int(one[3])}" for name in names for one in numbers)


def _builtin(root: RootTree[Any], directory: str) -> Items:
    text = read_file(root, f"{directory}/modules.builtin") or b""
    names = (module_name(line.decode("utf-8", "surrogateescape")) for line in text.split(b"\n"))
    return {(_bytes(name), b"") for name in names if name}


def _builtin_aliases(root: RootTree[Any], directory: str) -> Items:
    found: Items = set()
    for entry in (read_file(root, f"{directory}/modules.builtin.modinfo") or b"").split(b"\0"):
        key, _, value = entry.partition(b"=")
        name, _, kind = key.rpartition(b".")
        if kind == b"alias":
            found.add((normal(value), name))
    return found


_BUILTIN: Dict[str, Callable[[RootTree[Any], str], Items]] = {
    "modules.builtin.bin": _builtin,
    "modules.builtin.alias.bin": _builtin_aliases,
}
_ALLOWED: Dict[str, Allowed] = {
    "modules.alias": _lines("alias {value} {name}", lambda module: module.aliases),
    "modules.alias.bin": _pairs(lambda module: module.aliases),
    "modules.symbols": _lines("alias {value} {name}", _symbols),
    "modules.symbols.bin": _pairs(_symbols),
    "modules.softdep": _lines("softdep {name} {value}", lambda module: module.softdeps),
    "modules.weakdep": _lines("weakdep {name} {value}", lambda module: module.weakdeps),
    "modules.devname": _lines("{name} {value}", _devices),
}
# What there must be: of exported symbols and devices depmod takes one module's where several have them.
_WANTED: Dict[str, Callable[[Tuple[bytes, ...]], bool]] = {
    "modules.alias": lambda item: b"\n" not in item[0],
    "modules.alias.bin": lambda item: is_indexable(item[0]),
    "modules.dep.bin": lambda item: True,
    "modules.softdep": lambda item: b"\n" not in item[0],
}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _shown(item: Tuple[bytes, ...]) -> str:
    return show(" ".join(part.decode("utf-8", "surrogateescape") for part in item))[:200]
