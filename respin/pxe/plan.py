"""What starting from a network takes: the ISO's own boot menu, and what its profile says of the way."""

from __future__ import annotations

import re
from typing import List, Mapping, Sequence, Set, Tuple

from respin.errors import RespinError, UnsupportedError, UsageError
from respin.formats import cpio
from respin.formats.iso9660.image import IsoImage
from respin.node.profile import IsoPlace, Profile, PxeMode
from respin.node.recognise import matching, places
from respin.pxe.entries import network_entries, require_in_initrds
from respin.pxe.model import GRUB, IPXE, PXELINUX, NetworkPlan
from respin.pxe.request import PlanRequest, checked_name, checked_url, chosen_mode
from respin.safepath import show

_PATH = re.compile(r"/[A-Za-z0-9_./+~-]+")
# Boot loaders put initrds where all kernels find them (The Linux/x86 Boot Protocol, "initrd_addr_max").
LOW_MEMORY = 0x7FFFFFFF
# Where anaconda has its medium, and where a kickstart finds the payload.
_MEDIUM = b"/run/install/repo"


def plan_network_boot(iso: IsoImage, profile: Profile, request: PlanRequest) -> NetworkPlan:
    """What to write.

    Raises UsageError for a name, URL or mode that cannot be, UnsupportedError for an ISO that cannot start this way.
    """
    mode_name, mode = chosen_mode(profile, request.mode, iso.name)
    name = "" if mode.iso is IsoPlace.NOWHERE else checked_name(request.name)
    url, root = checked_url(request.url), places(iso, profile).root or ""
    kickstarts = matching(iso, (mode.kickstart,)) if mode.kickstart else ()
    values = {"iso": name, "root": root, "url": url, "kickstart": kickstarts[0] if len(kickstarts) == 1 else ""}
    for key, value in values.items():
        if not value and _wants(mode, key):
            raise _lacks(key, mode_name, iso.name)
    archive = f"{name}.cpio" if mode.iso is IsoPlace.INITRD else ""
    arguments = [_filled(one, values) for one in mode.arguments]
    entries, broken = network_entries(iso, profile, mode, arguments, archive)
    require_in_initrds(iso, entries, mode, mode_name)
    started = {f"/{path}" for one in entries for path in (one.kernel, *one.initrds) if path != archive}
    files = started | set(matching(iso, mode.files)) | ({root} if _wants(mode, "root") else set())
    _check_paths(sorted(files), {archive, name}, iso.name)
    warnings = list(broken)
    if archive:
        warnings += _check_size(iso, name, sum(iso.files[path].size for path in started))
    kickstart = _kickstart(iso, values["kickstart"], url, warnings)
    return NetworkPlan(
        title=f"{re.sub(r'[^A-Za-z0-9 .()-]', '_', profile.title)} from the network",
        mode=mode_name,
        url=url,
        entries=entries,
        files=tuple(sorted(files - {kickstart[0]})),
        iso_name=name,
        archive=archive,
        whole=name if mode.iso is IsoPlace.FILE else "",
        kickstart=kickstart,
        warnings=tuple(warnings),
    )


def _wants(mode: PxeMode, key: str) -> bool:
    return any(f"{{{key}}}" in one for one in mode.arguments)


def _lacks(key: str, mode: str, where: str) -> RespinError:
    if key == "url":
        return UsageError(
            f"starting by {mode} needs the URL under which the directory will be served",
            remedy="say --url http://SERVER/DIRECTORY",
            finding="no-url",
        )
    return UnsupportedError(
        f"starting by {mode} needs the {'root image' if key == 'root' else key} that the profile names, and it is not"
        " on this ISO",
        where=where,
        remedy="`respin inspect` shows what is; a profile of your own can name another",
        finding=f"no-{key}",
    )


def _filled(argument: str, values: Mapping[str, str]) -> str:
    for key, value in values.items():
        argument = argument.replace(f"{{{key}}}", value)
    return argument


def _check_paths(paths: Sequence[str], others: Set[str], where: str) -> None:
    own = {f"/{name}" for name in (PXELINUX, GRUB, IPXE, *others) if name}
    for path in paths:
        if not _PATH.fullmatch(path) or path in own:
            raise UnsupportedError(
                f"the path {show(path)} cannot be used by all boot loaders",
                where=where,
                remedy=f"letters, digits and _./+~- can, but for {', '.join(sorted(own))}",
                finding="odd-name",
            )


def _check_size(iso: IsoImage, name: str, started: int) -> List[str]:
    """UnsupportedError for an ISO that no archive takes, a warning for one that only some machines get loaded."""
    if iso.view.size > cpio.LARGEST:
        raise UnsupportedError(
            f"the ISO has {iso.view.size} bytes; in an initrd it can have at most {cpio.LARGEST} (4 GiB)",
            where=iso.name,
            remedy="choose a way that fetches it over http with --mode, if the profile has one",
            finding="too-large",
        )
    if iso.view.size + started > LOW_MEMORY:
        return [
            f"kernel and initrds with {name} have more than 2 GiB; by BIOS no boot loader can load them, by UEFI only"
            " some can"
        ]
    return []


def _kickstart(iso: IsoImage, path: str, url: str, warnings: List[str]) -> Tuple[str, bytes]:
    """The kickstart with the URL in place of the medium."""
    if not path:
        return "", b""
    data = iso.read(path).replace(b"file://" + _MEDIUM, url.encode("ascii"))
    if _MEDIUM in data:
        warnings.append(
            f"{show(path)} still speaks of {_MEDIUM.decode()}, which is no medium on a Node from the network"
        )
    return path, data
