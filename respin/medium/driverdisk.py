"""A driver update disk in the initrd of anaconda: how drivers reach the installer's second stage, too.

anaconda's dracut module mounts the image that ``inst.dd=`` names, looks in it for a file ``rhdd3`` and for packages in
``rpms/ARCH``, takes those that provide ``kernel-modules`` in a version that the running kernel meets, and puts their
modules and firmware where the second stage has its own (dracut/README-driver-updates.md of anaconda). It unpacks their
programs and libraries, too, over the installer's; a package with such is left off. The disk has no metadata of a
repository: those are for installing the packages once more, and a Node's image has them already.
"""

from __future__ import annotations

import hashlib
import re
import stat
from typing import Callable, Iterator, List, Mapping, Tuple

from respin.bundle.fit import compare_versions
from respin.byteview import BytesView, ByteView, SubView
from respin.errors import UnsupportedError, VerificationError
from respin.formats import cpio
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.small import small_iso
from respin.formats.kernelmodule import module_name
from respin.formats.rpmfile import Dependency, RpmHeader
from respin.formats.rpmfile.model import EQUAL, GREATER, LESS
from respin.limits import LIMITS
from respin.plan import InstallPlan, Package
from respin.safepath import show

# Where the bytes of a package come from.
Packages = Callable[[Package], bytes]

_MODULE = re.compile(r"/lib/modules/([^/]+)/.+", re.DOTALL)
# What of a package lands in the installer, whatever it is; and what may, because it is judged as part of a driver.
_UNPACKED = re.compile(r"/(?:usr/)?(?:bin|sbin|lib|lib64)/")
_DRIVER = re.compile(r"/(?:usr/)?lib/(?:modules|firmware)/.+|/usr/lib/modprobe\.d/[^/]+\.conf", re.DOTALL)
_PROVIDES = "kernel-modules"
_MARK, _TEXT = "rhdd3", b"Driver Update Disk version 3"
_VOLUME = "OEMDRV"


def disk_packages(plan: InstallPlan) -> Tuple[Package, ...]:
    """The packages for the disk: of plugins that want modules in early boot, those that anaconda would take and that
    bring the installer nothing else.

    None where the profile has no place for a disk.
    """
    return tuple(package for package in _candidates(plan) if not _why_not(package.header))


def left_off(plan: InstallPlan) -> Tuple[str, ...]:
    """The other packages of such plugins that hold modules, each with the reason why it is not on the disk."""
    found = [(package.header.nevra, _why_not(package.header)) for package in _candidates(plan)]
    return tuple(f"{nevra} {reason}" for nevra, reason in found if reason)


def _candidates(plan: InstallPlan) -> Iterator[Package]:
    if plan.node.profile.driver_disk:
        for bundle in plan.bundles:
            if bundle.manifest.effects.initrd_modules:
                yield from (rpm for rpm in bundle.rpms if any(module_name(one.path) for one in rpm.header.files))


def _why_not(header: RpmHeader) -> str:
    matches = [_MODULE.fullmatch(one.path) for one in header.files if module_name(one.path)]
    releases = {match[1] for match in matches if match is not None}
    if not any(_meets(release, one) for release in releases for one in header.provides):
        return f"does not provide {_PROVIDES} = RELEASE for modules below /lib/modules, so anaconda would not take it"
    for one in header.files:
        plain = stat.S_ISREG(one.mode) and _DRIVER.fullmatch(one.path)
        if _UNPACKED.match(one.path) and not stat.S_ISDIR(one.mode) and not plain:
            return f"holds {show(one.path)}, which anaconda would put into the installer"
    return ""


def disk_arguments(plan: InstallPlan) -> Tuple[str, ...]:
    """The kernel argument that names the disk, if there is one."""
    return (f"inst.dd={plan.node.profile.driver_disk}",) if disk_packages(plan) else ()


def driver_disk(plan: InstallPlan, packages: Packages) -> Mapping[str, bytes]:
    """The disk by its name in the initrd; nothing if there is none.

    Raises VerificationError for a package that is not the one which the signed manifest names.
    """
    wanted = disk_packages(plan)
    if not wanted:
        return {}
    files = {_MARK: _TEXT}
    for package in wanted:
        content = packages(package)
        if hashlib.sha256(content).hexdigest() != package.sha256:
            raise _not_there(package.header.nevra, plan.node.iso.name)
        files[f"rpms/{plan.architecture}/{package.header.nevra.replace(':', '_')}.rpm"] = content
    return {plan.node.profile.driver_disk[1:]: small_iso(_VOLUME, files, plan.epoch)}


def packages_on_disk(plan: InstallPlan, initrd: ByteView, vendor_size: int) -> Packages:
    """The packages of the disk that is in what follows the vendor's initrd, its first ``vendor_size`` bytes.

    What it gives is not judged: :func:`driver_disk` compares digests. Raises VerificationError when there is no disk.
    """
    name = plan.node.profile.driver_disk[1:]
    start = min(vendor_size + -vendor_size % 4, initrd.size)
    pieces: List[bytes] = []

    def contents(member: str) -> "Callable[[bytes], object] | None":
        return pieces.append if member == name else None

    try:
        cpio.read(SubView(initrd, start, initrd.size - start, initrd.name), contents)
        disk = IsoImage.open(BytesView(b"".join(pieces), f"{initrd.name}:/{name}"))
        found = {path: disk.read(path, LIMITS.kernel_module) for path in disk.files if path.endswith(".rpm")}
    except UnsupportedError as error:
        raise VerificationError(
            f"there is no driver update disk {show(name)} behind the vendor's initrd: {error.what}",
            where=initrd.name,
            finding="driver-disk",
        ) from error
    by_digest = {hashlib.sha256(content).hexdigest(): content for content in found.values()}

    def content_of(package: Package) -> bytes:
        if package.sha256 not in by_digest:
            raise _not_there(package.header.nevra, disk.name)
        return by_digest[package.sha256]

    return content_of


def _meets(release: str, provide: Dependency) -> bool:
    """Whether anaconda takes a package with this capability on a kernel of that release."""
    if provide.name != _PROVIDES or not provide.version:
        return False
    sense = {-1: LESS, 0: EQUAL, 1: GREATER}[compare_versions(release, provide.version)]
    return bool(provide.flags & sense)


def _not_there(nevra: str, where: str) -> VerificationError:
    return VerificationError(
        f"the driver update disk does not hold {show(nevra)} as its plugin's signed manifest names it",
        where=where,
        remedy="this is not the vendor's Node plus the declared plugins; do not use it",
        finding="driver-disk",
    )
