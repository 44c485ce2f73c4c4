"""The files of the ISO tree: size, content, mode and recording date; boot configurations by line, initrds by member."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import chain
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from respin.byteview import ByteView, SubView, chunks
from respin.diff.lines import changed_lines
from respin.diff.model import Difference, Facts, Section, facts_differ
from respin.digest import sha256_chunks
from respin.errors import MalformedError, RespinError
from respin.formats import cpio
from respin.formats.iso9660.fields import BLOCK
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.names import Extent
from respin.limits import KiB
from respin.node.profile import Profile
from respin.progress import Progress
from respin.safepath import first_match

# A text beyond this is compared by its digest only.
_LARGEST_TEXT = 256 * KiB
# Where no profile names them: boot configurations and initrds go by these names everywhere.
_CONFIGURATION = re.compile(r".*/(?:(?:isolinux|syslinux|extlinux|grub|refind)\.(?:cfg|conf)|loader/.*\.conf)", re.I)
_INITRD = re.compile(r".*/(?:initrd|initramfs)[^/]*", re.I)


def compare_iso_files(old: IsoImage, new: IsoImage, progress: Progress) -> Section:
    """Every path of the ISO tree that differs: files by content, directories, symbolic links."""
    found: List[Difference] = []
    with progress.step("comparing the files of the two ISOs"), ThreadPoolExecutor(2, thread_name_prefix="iso") as pool:
        facts = list(pool.map(_files, (old, new)))
    for path in sorted({*old.files, *new.files}):
        found += facts_differ(path, facts[0].get(path), facts[1].get(path))
    others = _others(old), _others(new)
    for path in sorted({*others[0], *others[1]}):
        found += facts_differ(path, others[0].get(path), others[1].get(path))
    return Section("iso", tuple(sorted(found, key=lambda one: one.name)))


def compare_boot(old: IsoImage, new: IsoImage, iso: Section, profiles: Sequence[Optional[Profile]]) -> Section:
    """The boot configurations among what differs in the ISO tree, line by line."""
    named = [path for profile in profiles if profile is not None for path in profile.boot_configurations]
    found = []
    for one in iso.differences:
        if first_match(one.name, named) or _CONFIGURATION.fullmatch(one.name):
            texts = [_text(image, one.name) for image in (old, new)]
            lines = changed_lines(*texts) if None not in texts else None  # type: ignore[arg-type]
            found.append(Difference(one.name, one.old, one.new, {"lines": lines}))
    return Section("boot", tuple(found))


def compare_initrds(old: IsoImage, new: IsoImage, iso: Section, profiles: Sequence[Optional[Profile]]) -> Section:
    """The initrds among what differs in the ISO tree, with the members that differ where both can be read."""
    named = [path for profile in profiles if profile is not None for path in profile.initrds]
    found = []
    for one in iso.differences:
        if not first_match(one.name, named) and not _INITRD.fullmatch(one.name):
            continue
        detail: Dict[str, Any] = {}
        if "sha256" in one.differs:
            try:
                members = [_members(image, one.name) for image in (old, new)]
                detail["members"] = [member.to_json() for member in _differing(*members)]
            except RespinError as error:
                detail["members_not_compared"] = str(error)
        found.append(Difference(one.name, one.old, one.new, detail))
    return Section("initrds", tuple(found))


def _files(iso: IsoImage) -> Mapping[str, Facts]:
    """The facts of every file; what several names share is read once, and no more in all than the ISO can hold."""
    left = 2 * iso.view.size
    digests: Dict[Tuple[Extent, ...], str] = {}
    found: Dict[str, Facts] = {}
    for path, file in iso.files.items():
        if file.extents not in digests:
            left -= file.size
            if left < 0:
                raise MalformedError("its files overlap: together they have more bytes than it", where=iso.view.name)
            pieces = (chunks(iso.view, extent.lba * BLOCK, extent.size) for extent in file.extents)
            digests[file.extents] = sha256_chunks(chain.from_iterable(pieces))
        recorded = file.records[0].raw[18:24]
        date = "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}".format(1900 + recorded[0], *recorded[1:])
        digest = digests[file.extents]
        found[path] = {"kind": "file", "size": file.size, "sha256": digest, "mode": file.mode, "recorded": date}
    return found


def _others(iso: IsoImage) -> Mapping[str, Facts]:
    found: Dict[str, Facts] = {path: {"kind": "directory"} for path in iso.listing.directories}
    found.update({path: {"kind": "symlink", "target": target} for path, target in iso.listing.symlinks.items()})
    found.update({path: {"kind": "special"} for path in iso.listing.others})
    return found


def _view(iso: IsoImage, path: str) -> Optional[ByteView]:
    file = iso.files.get(path)
    if file is None or not file.contiguous:
        return None
    return SubView(iso.view, (file.lba or 0) * BLOCK, file.size, f"{iso.view.name}:{path}")


def _text(iso: IsoImage, path: str) -> Optional[List[str]]:
    """The lines of a text; none for a file that isn't there, None for one that is too long to be one."""
    if path not in iso.files:
        return []
    view = _view(iso, path)
    if view is None or view.size > _LARGEST_TEXT:
        return None
    return view.read(0, view.size).decode("utf-8", "surrogateescape").splitlines()


def _members(iso: IsoImage, path: str) -> Mapping[str, cpio.Member]:
    view = _view(iso, path)
    return {} if view is None else cpio.read(view)


def _differing(old: Mapping[str, cpio.Member], new: Mapping[str, cpio.Member]) -> List[Difference]:
    found: List[Difference] = []
    for name in sorted({*old, *new}):
        sides = [None if side.get(name) is None else asdict(side[name]) for side in (old, new)]
        found += facts_differ(name, sides[0], sides[1])
    return found
