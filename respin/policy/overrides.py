"""Rules on files that take the place of a vendor's file because they are found first.

Nothing of the vendor's changes then, and still something else runs: a unit of the same name in a directory that counts
more, a drop-in, a link that pulls a sleeping unit in, a library variant, a Python module that hides another.
"""

from __future__ import annotations

import re
import stat
from typing import Any, Dict, FrozenSet, Iterator, List, Sequence, Tuple

from respin.node.kernelfacts import firmware_paths
from respin.node.places import BUS_SERVICES, DROP_IN_DIRECTORIES, DROP_IN_ROOTS, LIBRARY_DIRECTORIES, RESERVED
from respin.node.profile import UNIT_DIRECTORIES
from respin.plan import InstallPlan
from respin.policy.findings import Finding
from respin.roottree import RootTree
from respin.safepath import first_match

_LINKS = ("wants", "requires", "upholds")
_OWN_NAME = "give it a name of its own"
_INSTANCE = re.compile(r"@.+(\.[a-z]+)$")
_PYTHON = re.compile(r"/usr/lib(?:64)?/python[^/]*")
_SITE = re.compile(r"(/usr/lib(?:64)?/python[^/]*/(?:site|dist)-packages)/(.+)")
_FIRMWARE = re.compile(r"(?:/usr)?/lib/firmware/(.+)", re.DOTALL)
# Where the dynamic linker looks for a library that fits the processor better; the second kind until glibc 2.36.
_VARIANT = re.compile(
    r".*/glibc-hwcaps/.*|/usr/lib(?:64|/[^/]+-linux-gnu)?/(?:tls|x86_64|haswell|avx512_1|xeon_phi)/.*"
)


def judge_overrides(plan: InstallPlan) -> Iterator[Finding]:
    """A finding for every file of a plugin that would be found instead of one of the vendor's."""
    vendor = _Vendor(plan.node.root)
    files = [path for path in sorted(plan.files) if not stat.S_ISDIR(plan.files[path].entry.mode)]
    own_units = frozenset(path.rpartition("/")[2] for path in files if path.rpartition("/")[0] in UNIT_DIRECTORIES)
    guarded = _directories_above(
        [*RESERVED, *(p for s in plan.node.profile.protected.values() for p in s.root_patterns)]
    )
    for path in files:
        if first_match(path, guarded):
            yield Finding(
                "shadows",
                path,
                f"{plan.files[path].nevra} brings a link or a file where programs look for a directory",
                "ship a real directory",
            )
        for problem, remedy in (*_problems(path, vendor, own_units), *_firmware(path, plan)):
            yield Finding("shadows", path, f"{plan.files[path].nevra} {problem}", remedy)


def _directories_above(patterns: Sequence[str]) -> Tuple[str, ...]:
    """The directories that rules speak of: a link in place of one would bring files there under other paths."""
    places = [*patterns, *(f"{directory}/*" for directory in (*UNIT_DIRECTORIES, *BUS_SERVICES))]
    places += [f"{top}/{name}/*" for top in DROP_IN_ROOTS for name in DROP_IN_DIRECTORIES]
    places += [f"{directory}/*.{kind}/*" for directory in UNIT_DIRECTORIES for kind in ("d", *_LINKS)]
    found = set()
    for place in places:
        parts = place.split("/")
        found |= {"/".join(parts[:number]) for number in range(2, len(parts)) if parts[number - 1] not in ("*", "**")}
    return tuple(sorted(found))


class _Vendor:
    """The names in the vendor's directories, each listed once."""

    def __init__(self, root: RootTree[Any]) -> None:
        self._root = root
        self._names: Dict[str, FrozenSet[str]] = {}
        self.units = frozenset(name for directory in UNIT_DIRECTORIES for name in self.names(directory))
        self.libraries = frozenset(name for directory in LIBRARY_DIRECTORIES for name in self.names(directory))
        lib = [f"{top}/{name}" for top in ("/usr/lib", "/usr/lib64") for name in self.names(top)]
        pythons = [path for path in lib if _PYTHON.fullmatch(path)]
        self.python_paths = [f"{path}{end}" for path in pythons for end in ("", "/site-packages", "/dist-packages")]

    def names(self, directory: str) -> FrozenSet[str]:
        """What is in ``directory``; nothing if there is none, or only a symbolic link."""
        if directory not in self._names:
            inode = self._root.lookup(directory)
            found = self._root.listdir(directory) if inode is not None and inode.is_directory else ()
            self._names[directory] = frozenset(found)
        return self._names[directory]


def _problems(path: str, vendor: _Vendor, own_units: FrozenSet[str]) -> Iterator[Tuple[str, str]]:
    directory, _, name = path.rpartition("/")
    if directory in UNIT_DIRECTORIES and {name, template(name)} & vendor.units:
        yield f"brings a unit that takes the place of the vendor's {name}", _OWN_NAME
    parent, _, folder = directory.rpartition("/")
    if parent in UNIT_DIRECTORIES:
        yield from _unit_directory(folder, name, own_units)
    for directories in _drop_in_groups(directory):
        others = [other for other in directories if other != directory and name in vendor.names(other)]
        if others:
            yield f"brings a file that takes the place of the vendor's {others[0]}/{name}", _OWN_NAME
    if _VARIANT.fullmatch(path) and name in vendor.libraries:
        yield f"brings another variant of the vendor's library {name}", _OWN_NAME
    if _PYTHON.match(path):
        yield from _python(path, vendor)


def _unit_directory(folder: str, name: str, own_units: FrozenSet[str]) -> Iterator[Tuple[str, str]]:
    unit, _, kind = folder.rpartition(".")
    if kind == "d" and unit not in own_units:
        yield f"changes the unit {unit}, which is not its own", "make a unit instead that is ordered as it is needed"
    elif kind in _LINKS and not {name, template(name)} & own_units:
        yield f"has {unit} start {name}, which is not a unit of its own", "link only units that the plugin ships"


def template(unit: str) -> str:
    """The unit file behind an instance: ``getty@.service`` for ``getty@tty1.service``."""
    return _INSTANCE.sub(r"@\1", unit)


def _drop_in_groups(directory: str) -> Iterator[Sequence[str]]:
    if directory in BUS_SERVICES:
        yield BUS_SERVICES
    for name in DROP_IN_DIRECTORIES:
        group = [f"{top}/{name}" for top in DROP_IN_ROOTS]
        if directory in group:
            yield group


def _firmware(path: str, plan: InstallPlan) -> Iterator[Tuple[str, str]]:
    """Firmware is looked for in several places, and packed and unpacked in each; a link there can be a directory."""
    match = _FIRMWARE.fullmatch(path)
    if match is None:
        return
    name = re.sub(r"\.(?:xz|zst)$", "", match[1])
    for release in plan.node.kernel_releases:
        places = (f"updates/{release}", "updates", release)
        if match[1] in places:
            yield "brings a link or a file where the kernel looks for firmware", "ship a real directory"
            return
        for one in {name, *(name[len(place) + 1 :] for place in places if name.startswith(f"{place}/"))}:
            found = next((place for place in firmware_paths(one, release) if plan.node.root.resolve(place)), None)
            if found is not None:
                yield f"brings firmware that hides or is hidden by the vendor's {found}", _OWN_NAME
                return


def _python(path: str, vendor: _Vendor) -> Iterator[Tuple[str, str]]:
    """Modules of one name: a directory counts before name.*.so, that before name.py, that before name.pyc."""
    match = _SITE.fullmatch(path)
    if match is None:
        yield "brings a file for Python's own library", "ship Python modules below site-packages or dist-packages"
        return
    parts = [part for part in match[2].split("/") if part != "__pycache__"]
    place = match[1]
    for number, part in enumerate(parts):
        module = part.split(".", 1)[0]
        places: List[str] = vendor.python_paths if number == 0 else [place]
        for other in places:
            same_package = other == place and number + 1 < len(parts) and part in vendor.names(place)
            hidden = [] if same_package else [n for n in vendor.names(other) if n.split(".", 1)[0] == module]
            if module.isidentifier() and hidden:
                yield f"brings a Python module that competes with the vendor's {other}/{min(hidden)}", _OWN_NAME
                return
        place = f"{place}/{part}"
