"""The install plan: what the plugins would put where on this Node, worked out before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Protocol, Sequence, Tuple, TypeVar

from respin.bundle import Manifest
from respin.errors import PolicyError
from respin.formats.rpmfile import FileEntry, PackageInfo, RpmHeader
from respin.node import rpmdb
from respin.node.image import NodeImage
from respin.node.paths import real_parent
from respin.node.rpmdb import RpmDatabase
from respin.node.selinux import SelinuxPolicy, read_policy
from respin.safepath import show
from respin.trust import TrustedSignature


class Package(Protocol):
    """A package whose header somebody trusted signed: a whole RPM, or the evidence of one."""

    @property
    def header(self) -> RpmHeader: ...

    @property
    def sha256(self) -> str: ...

    @property
    def signer(self) -> TrustedSignature: ...


class Bundle(Protocol):
    """A bundle whose manifest somebody trusted signed: a whole one, or the evidence of one."""

    @property
    def path(self) -> Path: ...

    @property
    def manifest(self) -> Manifest: ...

    @property
    def sha256(self) -> str: ...

    @property
    def signer(self) -> TrustedSignature: ...

    @property
    def rpms(self) -> Sequence[Package]: ...


@dataclass(frozen=True)
class PlannedFile:
    """One file of a plugin at the path where it really lands; ``entry`` is what its RPM's header says of it."""

    path: str
    entry: FileEntry
    nevra: str
    bundle: Bundle


@dataclass(frozen=True)
class InstallPlan:
    """What is to be installed. ``files`` by real path; a directory that several packages share appears once.

    ``selinux`` is the Node's policy, if it has one.
    """

    node: NodeImage
    bundles: Tuple[Bundle, ...]
    files: Mapping[str, PlannedFile]
    database: RpmDatabase
    vendor_packages: Tuple[PackageInfo, ...]
    epoch: int
    architecture: str
    selinux: Optional[SelinuxPolicy]

    @property
    def rpms(self) -> Tuple[Package, ...]:
        """All RPMs, in the order of the bundles on the command line and of the manifest."""
        return tuple(rpm for bundle in self.bundles for rpm in bundle.rpms)

    @property
    def owned_mtimes(self) -> Mapping[str, int]:
        """Modification times from the RPM headers, by real path."""
        return {path: planned.entry.mtime for path, planned in self.files.items()}

    def declared(self, effect: str) -> Tuple[str, ...]:
        """The union of one kind of declared effect (``users``, ``units``, ...) over all bundles."""
        return tuple(value for bundle in self.bundles for value in getattr(bundle.manifest.effects, effect))


def make_plan(
    node: NodeImage,
    bundles: Tuple[Bundle, ...],
    epoch: int,
    architecture: str,
    scratch: Path,
    vendor_packages: Optional[Tuple[PackageInfo, ...]] = None,
) -> InstallPlan:
    """Work out where every file lands. ``scratch`` is a private directory.

    ``vendor_packages`` are those that the Node's database records, if somebody has read it before.

    Raises PolicyError when two plugins want the same path, UnsupportedError when the RPM database or the SELinux
    policy cannot be used.
    """
    names = [bundle.manifest.name for bundle in bundles]
    for name in names:
        if names.count(name) > 1:
            what = f"the plugin {name} is given more than once"
            raise PolicyError(what, remedy="give one bundle of each name", finding="conflict")
    database = rpmdb.locate(node.root, node.profile.rpm_databases)
    rpmdb.require_writable(node.root, database)
    if vendor_packages is None:
        blobs = rpmdb.records(node.root, database, scratch)
        vendor_packages = rpmdb.packages(blobs.values(), f"{node.root.view.name}:{database.file}")
    files: Dict[str, PlannedFile] = {}
    # In the order of the statement, so that the plan made from the evidence is the same one.
    in_order = ordered(bundles)
    for bundle in in_order:
        for rpm in bundle.rpms:
            for entry in rpm.header.files:
                planned = PlannedFile(real_parent(node.root, entry.path), entry, rpm.header.nevra, bundle)
                _add(files, planned)
    selinux = read_policy(node.root)
    return InstallPlan(node, in_order, files, database, vendor_packages, epoch, architecture, selinux)


B = TypeVar("B", bound=Bundle)


def ordered(bundles: Sequence[B]) -> Tuple[B, ...]:
    """The bundles in the order given, each behind those it names in ``after``. Raises PolicyError on a circle."""
    done: List[B] = []
    waiting = list(bundles)
    while waiting:
        names = {bundle.manifest.name for bundle in waiting}
        ready = next((bundle for bundle in waiting if not names & set(bundle.manifest.after)), None)
        if ready is None:
            raise PolicyError(
                f"the plugins {', '.join(sorted(names))} each want to be installed after another", finding="conflict"
            )
        waiting.remove(ready)
        done.append(ready)
    return tuple(done)


def _add(files: Dict[str, PlannedFile], planned: PlannedFile) -> None:
    other = files.setdefault(planned.path, planned)
    if other is planned:
        return
    mine, theirs = planned.entry, other.entry
    shared: List[bool] = [mine.mode == theirs.mode, mine.user == theirs.user, mine.group == theirs.group]
    if (mine.mode & 0o170000) != 0o040000 or not all(shared):
        raise PolicyError(
            f"both {other.nevra} and {planned.nevra} own this path",
            where=show(planned.path),
            remedy="ask the makers of the plugins which one should ship it",
            finding="conflict",
        )
