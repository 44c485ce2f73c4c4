"""Every copy of the boot configuration on an ISO: files of the tree, files in the EFI images, what they include.

Firmware and boot loaders look in different places: isolinux.cfg for a BIOS, the FAT volume that El Torito names for
UEFI from a CD, the EFI partition for UEFI from a stick. The same image is often several of these, and is read once.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from respin.byteview import SubView
from respin.errors import UnsupportedError
from respin.formats.bootconfig import Config, Kind, kind_of, parse
from respin.formats.fat import FatVolume, is_fat
from respin.formats.iso9660.fields import BLOCK, SECTOR
from respin.formats.iso9660.image import IsoImage
from respin.limits import LIMITS
from respin.node.profile import Profile
from respin.node.recognise import matching
from respin.safepath import show

EFI_PLATFORM, EFI_PARTITION = 0xEF, 0xEF
EFI_SYSTEM = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
# What boot loaders read everywhere, whether a profile names it or not.
_USUAL = re.compile(
    r".*/(?:(?:isolinux|syslinux|extlinux|grub|loopback)\.(?:cfg|conf)|EFI/BOOT/[^/]*\.conf|loader/entries/[^/]*\.conf)",
    re.I,
)
_IN_IMAGES = re.compile(r".*\.(?:cfg|conf)", re.I)
_DEVICE = re.compile(r"^\([^)]*\)")


@dataclass(frozen=True)
class EfiImage:
    """A FAT volume that firmware boots from: where it begins on the ISO, what to call it, how it is reached."""

    offset: int
    name: str
    volume: FatVolume
    roads: Tuple[str, ...]


@dataclass(frozen=True)
class BootCopy:
    """One file of boot configuration; ``image`` is the EFI image that holds it, None for the ISO's own tree."""

    image: Optional[EfiImage]
    path: str
    config: Config

    @property
    def place(self) -> str:
        """What to call it."""
        return self.path if self.image is None else f"{self.image.name}:{self.path}"


@dataclass(frozen=True)
class BootFiles:
    """All copies, the images, and what cannot be looked into: (where, what)."""

    copies: Tuple[BootCopy, ...]
    images: Tuple[EfiImage, ...]
    closed: Tuple[Tuple[str, str], ...]


def find_boot_files(iso: IsoImage, profile: Optional[Profile]) -> BootFiles:
    """Every copy of the boot configuration on ``iso``, in the places of ``profile`` and in the usual ones."""
    closed: List[Tuple[str, str]] = []
    images = tuple(_images(iso, closed))
    patterns = () if profile is None else profile.boot_configurations
    paths = set(matching(iso, patterns)) | {path for path in iso.files if _USUAL.fullmatch(path)}
    found: Dict[Tuple[int, str], BootCopy] = {}
    waiting: List[Tuple[Optional[EfiImage], str, Optional[Kind]]] = [(None, path, None) for path in sorted(paths)]
    for one in images:
        waiting += [(one, path, None) for path in one.volume.files if _IN_IMAGES.fullmatch(path)]
    while waiting:
        image, path, kind = waiting.pop(0)
        key = (-1 if image is None else image.offset, path)
        if key in found:
            continue
        copy = _read(iso, image, path, kind)
        if copy is None:
            continue
        found[key] = copy
        for name in copy.config.includes:
            waiting += [(where, target, copy.config.kind) for where, target in _included(iso, copy, name, closed)]
    copies = tuple(found[key] for key in sorted(found))
    return BootFiles(_one_name_each(iso, copies), images, tuple(closed))


def _one_name_each(iso: IsoImage, copies: Sequence[BootCopy]) -> Tuple[BootCopy, ...]:
    """Without further names of the same file."""
    seen: Dict[object, BootCopy] = {}
    for copy in copies:
        key: Tuple[object, ...] = (-1 if copy.image is None else copy.image.offset, copy.path)
        if copy.image is None and iso.files[copy.path].size:
            key = (-1, iso.files[copy.path].lba)
        seen.setdefault(key, copy)
    return tuple(seen.values())


def _read(iso: IsoImage, image: Optional[EfiImage], path: str, kind: Optional[Kind]) -> Optional[BootCopy]:
    if image is None:
        data = iso.read(path, LIMITS.boot_configuration)
    else:
        file = image.volume.files[path]
        if file.size > LIMITS.boot_configuration:
            return None
        data = image.volume.read(file)
    found = kind_of(path, data) or kind
    if found is None:
        return None
    name = f"{iso.name}:{show(path)}" if image is None else f"{iso.name}:{image.name}:{show(path)}"
    return BootCopy(image, path, parse(data, found, name))


def _images(iso: IsoImage, closed: List[Tuple[str, str]]) -> Iterator[EfiImage]:
    """The EFI images by their offsets, each once."""
    roads: Dict[int, List[str]] = {}
    for entry in iso.boot:
        if entry.platform == EFI_PLATFORM and entry.bootable:
            roads.setdefault(entry.lba * BLOCK, []).append("UEFI from CD")
    area = iso.system_area
    if area.gpt is not None:
        for partition in area.gpt.primary.partitions():
            if partition.type_guid == EFI_SYSTEM:
                roads.setdefault(partition.first * SECTOR, []).append("UEFI from disk (GPT)")
    for one in area.mbr.partitions if area.mbr is not None else ():
        if one.kind == EFI_PARTITION:
            roads.setdefault(one.start * SECTOR, []).append("UEFI from disk (MBR)")
    names: Mapping[int, str] = {
        (file.lba or 0) * BLOCK: path for path, file in sorted(iso.files.items(), reverse=True) if file.lba
    }
    for offset, ways in sorted(roads.items()):
        name = names.get(offset, f"EFI image at byte {offset}")
        if offset >= iso.view.size:
            closed.append((name, "lies behind the end of the ISO"))
            continue
        view = SubView(iso.view, offset, iso.view.size - offset, f"{iso.name}:{show(name)}")
        if is_fat(view):
            yield EfiImage(offset, name, FatVolume.open(view), tuple(ways))
        else:
            closed.append((name, "is no FAT volume"))


def _included(
    iso: IsoImage, copy: BootCopy, name: str, closed: List[Tuple[str, str]]
) -> Iterator[Tuple[Optional[EfiImage], str]]:
    """The files that an include can mean: in the same place, and in the ISO's tree. One that is missing is none."""
    own = posixpath.dirname(copy.path)
    path = _DEVICE.sub("", name)
    for variable, value in (("root", ""), ("prefix", None), ("config_directory", own), ("cmdpath", own)):
        for spelt in (f"${{{variable}}}", f"${variable}/"):
            if path.startswith(spelt):
                rest = path[len(f"${{{variable}}}") :] if spelt.endswith("}") else path[len(spelt) - 1 :]
                values = [value] if value is not None else [own, *copy.config.variables.get("prefix", ())]
                for one in values:
                    yield from _files(iso, copy, _DEVICE.sub("", one).replace("$root", "") + rest, own)
                return
    if "$" in path:
        closed.append((copy.place, f"reads a file whose name is in a variable: {show(name)}"))
        return
    yield from _files(iso, copy, path, own)


def _files(iso: IsoImage, copy: BootCopy, path: str, own: str) -> Iterator[Tuple[Optional[EfiImage], str]]:
    whole = posixpath.normpath(posixpath.join(own, path))
    if copy.image is not None:
        file = copy.image.volume.find(whole)
        if file is not None:
            yield copy.image, file.path
    wanted = whole.casefold()
    yield from ((None, found) for found in iso.files if found == whole or found.casefold() == wanted)


def refuse_closed(found: BootFiles, iso: IsoImage) -> None:
    """UnsupportedError when a part that boots cannot be looked into: an edit would miss it."""
    for where, what in found.closed:
        raise UnsupportedError(
            f"{show(where)} {what}",
            where=iso.name,
            remedy="a kernel argument could not be changed there, so that ways of booting would differ; build without",
            finding="boot-configuration",
        )
