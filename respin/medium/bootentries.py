"""What a boot menu starts, whichever boot loader shows it: kernel, initrds, arguments, as files of the ISO.

One copy of the configuration is read, the first that starts something: the copies agree in what they start, or
``respin inspect --lint`` says so.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import List, Optional, Tuple

from respin.errors import UnsupportedError
from respin.formats.bootconfig import Config, Entry, Kind
from respin.formats.iso9660.image import IsoImage
from respin.medium.bootfiles import BootCopy, find_boot_files
from respin.node.profile import Profile
from respin.safepath import first_match, show

_INITRD = re.compile(r"^[ \t]*initrd(?:efi|16)?[ \t]+(.+?)[ \t\r]*$", re.M | re.I)
_DEVICE = re.compile(r"^(?:\([^)]*\)|\$\{?root\}?)")
# Words that the boot loader means for itself, or that it adds.
_OWN = ("initrd=", "BOOT_IMAGE=", "--")


@dataclass(frozen=True)
class StartEntry:
    """An entry of a boot menu: ``kernel`` and ``initrds`` are paths on the ISO, ``arguments`` are the kernel's.

    ``variables`` are the arguments whose value is known only when a boot loader runs.
    """

    title: str
    kernel: str
    initrds: Tuple[str, ...]
    arguments: Tuple[str, ...]
    variables: Tuple[str, ...] = ()


@dataclass(frozen=True)
class StartEntries:
    """All entries of one copy of the boot configuration, called ``place``.

    ``broken`` says of each further one what it lacks.
    """

    place: str
    entries: Tuple[StartEntry, ...]
    broken: Tuple[str, ...]


def start_entries(iso: IsoImage, profile: Profile) -> StartEntries:
    """The entries of the first copy that has some, in the profile's order of its places.

    Raises UnsupportedError when no entry of the ISO starts a Linux kernel that is on it.
    """
    broken: List[str] = []
    for copy in sorted(find_boot_files(iso, profile).copies, key=lambda one: _rank(one, profile)):
        found = _of_copy(iso, copy)
        if found.entries:
            return found
        broken += found.broken
    raise UnsupportedError(
        "no boot entry of this ISO starts a Linux kernel that is on it",
        where=iso.name,
        remedy="`respin inspect --lint` says what is wrong with its boot configuration",
        finding="kernel-missing" if broken else "boot-configuration",
        also=broken,
    )


def _rank(copy: BootCopy, profile: Profile) -> Tuple[bool, int]:
    """The ISO's own tree first, in the profile's order."""
    covering = [
        number for number, pattern in enumerate(profile.boot_configurations) if first_match(copy.path, (pattern,))
    ]
    return copy.image is not None, covering[0] if covering else len(profile.boot_configurations)


def _of_copy(iso: IsoImage, copy: BootCopy) -> StartEntries:
    entries: List[StartEntry] = []
    broken: List[str] = []
    for entry in copy.config.entries:
        kernel = _on_iso(iso, copy, entry.kernel)
        names = _initrds(copy.config, entry)
        initrds = [(name, _on_iso(iso, copy, name)) for name in names]
        missing = [name for name, path in [(entry.kernel, kernel), *initrds] if path is None]
        if kernel is None or missing:
            lost = " and ".join(show(name) for name in missing)
            broken.append(f"{show(copy.place)}, line {entry.line}: {lost} is not on the ISO")
            continue
        words = [word for word in entry.words if not word.text.startswith(_OWN)]
        entries.append(
            StartEntry(
                title=entry.title,
                kernel=kernel,
                initrds=tuple(path for _, path in initrds if path is not None),
                arguments=tuple(word.text for word in words),
                variables=tuple(word.text for word in words if word.variables),
            )
        )
    return StartEntries(copy.place, tuple(entries), tuple(broken))


def _initrds(config: Config, entry: Entry) -> List[str]:
    """The initrds that an entry names: as a word of the command line, or on a line of their own."""
    words = [word[len("initrd=") :] for word in entry.arguments if word.startswith("initrd=")]
    if not words:
        words = [names for names in _INITRD.findall(_part(config, entry))][:1]
    return [name for text in words for name in re.split(r"[ \t,]+", text) if name]


def _part(config: Config, entry: Entry) -> str:
    """The lines that belong to an entry: from its own to the next one's, for a file of one entry all."""
    if config.kind is Kind.BLS:
        return config.text
    following = [one.line for one in config.entries if one.line > entry.line]
    return "\n".join(config.text.split("\n")[entry.line - 1 : min(following) - 1 if following else None])


def _on_iso(iso: IsoImage, copy: BootCopy, name: str) -> Optional[str]:
    """The file of the ISO that a boot loader finds under a name, whatever the letters' case."""
    path = _DEVICE.sub("", name)
    bases = (posixpath.dirname(copy.path), "/", "/isolinux")
    wanted = [posixpath.normpath(posixpath.join(base, path)) for base in bases]
    for one in wanted:
        if one in iso.files:
            return one
    folded = {one.casefold() for one in wanted}
    return next((found for found in sorted(iso.files) if found.casefold() in folded), None)
