"""Drivers in early boot: an archive behind the vendor's initrd, which stays as it is.

The kernel unpacks one archive after the other, later files over earlier ones (Linux,
Documentation/driver-api/early-userspace/buffer-format.rst). The archive holds the plugins' modules, the modules and the
firmware that they need and the initrd has not, and the index of all modules together, made anew by depmod: without that
nothing in early boot would find them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from respin import process
from respin.byteview import ByteView
from respin.errors import BuildError, PolicyError, UnsupportedError, VerificationError
from respin.formats import cpio
from respin.formats.iso9660.image import IsoImage
from respin.formats.kernelmodule import module_name, read_module
from respin.limits import LIMITS
from respin.medium.driverdisk import Packages, driver_disk
from respin.medium.edit import Edited, MediumEdit
from respin.medium.initrds import MODULES, Initrds
from respin.node.kernelfacts import KernelFacts, firmware_paths
from respin.node.paths import read_file, real_path
from respin.plan import InstallPlan, PlannedFile
from respin.roottree import RootTree
from respin.safepath import show
from respin.segments import Copy, Data

EARLY_BOOT = "early-boot"
_IN_ROOT = re.compile(r"/(?:usr/)?lib/modules/([^/]+)/(.+)", re.DOTALL)
_OPTIONS = "/usr/lib/modprobe.d/"
# What changes with the modules. depmod of another version makes further files, and who verifies has another depmod; of
# those the vendor's stay.
_INDEX = tuple(
    f"modules.{name}"
    for name in ("alias", "alias.bin", "dep", "dep.bin", "devname", "softdep", "symbols", "symbols.bin")
)
_ALIGNMENT = 4
_MOST_STEPS = 1000  # parts of a path, with those of the links on the way
_TIMEOUT = 300


def with_early_drivers(
    plan: InstallPlan, edit: MediumEdit, after: RootTree[Any], packages: Packages, initrds: Initrds, scratch: Path
) -> MediumEdit:
    """``edit`` with every initrd of the profile extended by the modules that the plugins want in early boot.

    ``after`` is the root with the plugins; what is taken of it must have the digest in a package's signed header.
    ``packages`` is asked for the packages of a driver update disk, ``initrds`` takes the vendor's initrds apart,
    ``scratch`` is a private directory. Raises UnsupportedError for an initrd that cannot be extended.
    """
    wanted = sorted(set(plan.declared("initrd_modules")))
    if not wanted:
        return edit
    iso = plan.node.iso
    paths = early_initrds(plan)
    if not paths:
        raise UnsupportedError(
            f"{', '.join(wanted)} shall be there in early boot, and the profile names no initrd on this ISO",
            where=iso.name,
            remedy="a profile of your own can name it; see docs/reference/profiles.md",
            finding="no-initrd",
        )
    files: Dict[str, Tuple[Any, ...]] = {}
    edited: List[Edited] = []
    disk = driver_disk(plan, packages)
    detail = " ".join([*wanted, *(f"/{name}" for name in disk)])
    for number, path in enumerate(paths):
        view = iso.file_view(path)
        work = scratch / f"early-boot-{number}"
        work.mkdir()
        archive = _Extension(plan, after, view, initrds, work).archive(wanted, disk)
        files[path] = (Copy(view.offset, view.size), Data(bytes(-view.size % _ALIGNMENT) + archive))
        edited.append(Edited(path, EARLY_BOOT, detail))
    return edit.joined(MediumEdit(files, {}, tuple(edited)))


def take_apart_early(plan: InstallPlan, initrds: Initrds, scratch: Path) -> None:
    """Have ``initrds`` take apart what :func:`with_early_drivers` will ask for, if it will ask for anything."""
    if plan.declared("initrd_modules"):
        for number, path in enumerate(early_initrds(plan)):
            initrds.take_apart(plan.node.iso.file_view(path), scratch / f"initrd-{number}")


def early_initrds(plan: InstallPlan) -> Tuple[str, ...]:
    """The initrds that the profile names on the vendor's ISO, without further names of the same file."""
    iso: IsoImage = plan.node.iso
    names: Dict[Optional[int], str] = {}
    for path in plan.node.identity.places.initrds:
        names.setdefault(iso.files[path].lba, path)
    return tuple(names.values())


class _Extension:
    """What goes behind one initrd. ``directory`` is where the modules of its kernel lie in it."""

    def __init__(self, plan: InstallPlan, after: RootTree[Any], initrd: ByteView, initrds: Initrds, work: Path) -> None:
        self._plan, self._after, self._name = plan, after, initrd.name
        self._root, self._empty = work / "root", work / "depmod.d"
        self._modules = {name: one for one in plan.files.values() if (name := module_name(one.path))}
        apart = initrds.take_apart(initrd, work / "initrd")
        self._members = apart.members
        # depmod reads all modules in one directory, and writes there
        shutil.copytree(apart.directory, self._root, copy_function=os.link)
        found = {match[1]: match[2] for match in map(MODULES.fullmatch, self._members) if match is not None}
        self._directories = {release: directory for directory, release in sorted(found.items())}

    def archive(self, wanted: List[str], disk: Mapping[str, bytes]) -> bytes:
        """The archive: modules, firmware, index, the driver update disk."""
        releases = {self._release(name) for name in wanted}
        if len(releases) != 1 or not releases <= self._directories.keys():
            raise UnsupportedError(
                f"the modules are for the kernel {', '.join(sorted(releases))}, the initrd has"
                f" {', '.join(sorted(self._directories)) or 'no modules'}",
                where=self._name,
                remedy="get the plugin for the kernel that this ISO boots",
                finding="kernel-mismatch",
            )
        (release,) = releases
        files = {**self._options(), **self._closed(wanted, release), **disk}
        self._refuse_replaced(files, wanted)
        directory = self._directories[release]
        for path, content in files.items():
            if path.startswith(f"{directory}/"):
                _write(self._root / path, content)
        index = self._index(directory, release)
        everything = {**files, **{f"{directory}/{name}": content for name, content in index.items()}}
        return cpio.archive(self._with_directories(everything), self._plan.epoch)

    def _release(self, name: str) -> str:
        planned = self._modules.get(name)
        match = None if planned is None else _IN_ROOT.fullmatch(planned.path)
        if match is None:
            raise UnsupportedError(
                f"the module {show(name)} shall be there in early boot, and no package has it among a kernel's modules",
                where=self._name,
                finding="kernel-mismatch",
            )
        return match[1]

    def _closed(self, wanted: List[str], release: str) -> Dict[str, bytes]:
        """The modules and all that they need and the initrd has not, by their names in the initrd."""
        facts = KernelFacts(self._plan.node.root, release)
        there = {module_name(name) for name in self._members if name.startswith(self._directories[release] + "/")}
        found: Dict[str, bytes] = {}
        seen: Set[str] = set()
        todo = list(wanted)
        while todo:
            name = todo.pop(0)
            if name in seen or name in facts.builtin or (name in there and name not in wanted):
                continue
            seen.add(name)
            path, content = self._content(name, facts)
            match = _IN_ROOT.fullmatch(path)
            if match is None:
                continue
            found[f"{self._directories[release]}/{match[2]}"] = content
            module = read_module(content, path, f"{self._name}:{path}")
            todo += [one.replace("-", "_") for one in module.depends]
            for firmware in module.firmware:
                found.update(self._firmware(firmware, release, facts))
        return dict(sorted(found.items()))

    def _refuse_replaced(self, files: Mapping[str, bytes], wanted: List[str]) -> None:
        """PolicyError where the initrd has a file already that the kernel would put one of ``files`` over."""
        modules = {module_name(name): name for name in self._members if MODULES.fullmatch(name)}
        taken = [path for path in files if self._is_taken(path)] + [modules[one] for one in wanted if one in modules]
        for path in taken:
            raise PolicyError(
                f"{show(path)} would take the place of what the vendor's initrd has there",
                where=self._name,
                remedy="a plugin only adds, in early boot, too; give the file a name of its own",
                finding="initrd-override",
            )

    def _is_taken(self, path: str) -> bool:
        """Whether there is something at ``path``, links of the initrd followed on the way."""
        done: List[str] = []
        todo = path.split("/")[::-1]
        for _ in range(_MOST_STEPS):
            if not todo:
                return "/".join(done) in self._members
            part = todo.pop()
            if part in ("", ".", ".."):
                done = done[:-1] if part == ".." else done
                continue
            member = self._members.get("/".join([*done, part]))
            if member is None or member.target is None or not todo:
                done.append(part)
                continue
            done = [] if member.target.startswith("/") else done
            todo += member.target.split("/")[::-1]
        return True  # links in a circle

    def _options(self) -> Dict[str, bytes]:
        """The options that the plugins which reach early boot give modules."""
        return {
            planned.path[1:]: self._of_plugin(planned)
            for path, planned in sorted(self._plan.files.items())
            if path.startswith(_OPTIONS) and planned.entry.digest and planned.bundle.manifest.effects.initrd_modules
        }

    def _content(self, name: str, facts: KernelFacts) -> Tuple[str, bytes]:
        planned = self._modules.get(name)
        if planned is not None:
            return planned.path, self._of_plugin(planned)
        path = facts.modules.get(name)
        if path is None:
            return "", b""  # judged by respin.policy.drivers, and accepted there
        return path, read_file(self._plan.node.root, path) or b""

    def _of_plugin(self, planned: PlannedFile) -> bytes:
        content = read_file(self._after, planned.path) or b""
        if hashlib.new(planned.entry.digest_algorithm, content).hexdigest() != planned.entry.digest:
            raise VerificationError(
                f"{show(planned.path)} is not what the header of {planned.nevra} says",
                where=self._after.view.name,
                finding="content",
            )
        return content

    def _firmware(self, name: str, release: str, facts: KernelFacts) -> Mapping[str, bytes]:
        """The firmware at the same place as in the root, unless the initrd has it."""
        root = self._plan.node.root
        for place in firmware_paths(name, release):
            planned = self._plan.files.get(place) or self._plan.files.get(f"/usr{place}")
            if planned is not None:
                return {planned.path[1:]: self._of_plugin(planned)}
        path = facts.firmware(name)
        if path is None:
            return {}
        where = real_path(root, path)[1:]
        return (
            {} if where in self._members or path[1:] in self._members else {where: read_file(root, f"/{where}") or b""}
        )

    def _index(self, directory: str, release: str) -> Mapping[str, bytes]:
        """What depmod makes of all modules together."""
        base = self._root / directory[: -len(f"lib/modules/{release}")]
        self._empty.mkdir()  # else this machine's configuration would count
        command = ["depmod", "-C", str(self._empty), "-b", str(base), release]
        done = process.run(command, check=False, timeout=_TIMEOUT)
        if done.returncode != 0:
            raise BuildError(done.explain(), where=self._name, finding="depmod-failed")
        made = ((name, self._root / directory / name) for name in _INDEX)
        return {name: path.read_bytes() for name, path in made if path.exists()}

    def _with_directories(self, files: Mapping[str, bytes]) -> Mapping[str, Optional[bytes]]:
        """The files, each behind the directories that the initrd has not."""
        found: Dict[str, Optional[bytes]] = {}
        for path, content in files.items():
            parts = path.split("/")
            for end in range(1, len(parts)):
                parent = "/".join(parts[:end])
                if parent not in self._members:
                    found.setdefault(parent, None)
            if len(content) > LIMITS.kernel_module:
                raise UnsupportedError(f"{show(path)} is too large for an initrd", where=self._name)
            found[path] = content
        return found


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
