"""The entries of the ISO's boot menu, as they start from a network: what names the medium replaced."""

from __future__ import annotations

import re
from typing import Dict, List, Sequence, Set, Tuple

from respin.errors import UnsupportedError
from respin.formats import cpio
from respin.formats.bootconfig import LONGEST, matches
from respin.formats.iso9660.image import IsoImage
from respin.medium.bootentries import StartEntry, start_entries
from respin.node.profile import Profile, PxeMode
from respin.pxe.model import NetworkEntry
from respin.safepath import first_match, show

# What all three boot loaders take for nothing but itself; GRUB gets it quoted where need be.
_WORD = re.compile(r"[A-Za-z0-9_.,:/=@%+~^!*?-]+")
_LABEL = re.compile(r"(?:^|[=:])(?:CD)?LABEL=", re.I)


def network_entries(
    iso: IsoImage, profile: Profile, mode: PxeMode, arguments: Sequence[str], archive: str
) -> Tuple[Tuple[NetworkEntry, ...], Tuple[str, ...]]:
    """The entries, and what is wrong with those that had to be left out.

    ``arguments`` are added unless one of that name stands there, ``archive`` is one more initrd (empty: none). Entries
    that come to the same, as one that only checks its medium first, are one. Raises UnsupportedError when none is left,
    and for arguments that cannot be handed on.
    """
    found = start_entries(iso, profile)
    entries: Dict[Tuple[object, ...], NetworkEntry] = {}
    for one in found.entries:
        words = _words(one, mode, arguments, f"{iso.name}:{found.place}")
        initrds = tuple(path[1:] for path in one.initrds) + ((archive,) if archive else ())
        if len(" ".join([*(f"initrd={name}" for name in initrds), *words])) > LONGEST:
            raise _unsupported(f"the command line would be longer than {LONGEST} bytes", f"{iso.name}:{found.place}")
        entry = NetworkEntry("", one.kernel[1:], initrds, words)
        key = (entry.kernel, entry.initrds, entry.arguments)
        if key not in entries:
            labels = {other.label for other in entries.values()}
            entries[key] = NetworkEntry(_label(one.title, labels), entry.kernel, initrds, words)
    return tuple(entries.values()), found.broken


def _words(entry: StartEntry, mode: PxeMode, arguments: Sequence[str], where: str) -> Tuple[str, ...]:
    kept = [word for word in entry.arguments if not any(matches(one, word) for one in mode.remove)]
    names = {word.partition("=")[0] for word in kept}
    added = [one for one in arguments if one.partition("=")[0] not in names]
    # What is behind "--" or "---" is not for the kernel
    end = next((number for number, word in enumerate(kept) if word in ("--", "---")), len(kept))
    words = (*added, *kept[:end], *kept[end:])
    for word in words:
        if word in entry.variables or not _WORD.fullmatch(word):
            raise _unsupported(f"the argument {show(word)} cannot be handed on to all boot loaders as it is", where)
        if _LABEL.search(word):
            raise _unsupported(f"the argument {show(word)} names a volume, and there will be none", where)
    return words


def _label(title: str, taken: Set[str]) -> str:
    """A word made of the title that is not among ``taken``."""
    stem = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40] or "linux"
    label, number = stem, 1
    while label in taken:
        number += 1
        label = f"{stem}-{number}"
    return label


def require_in_initrds(iso: IsoImage, entries: Sequence[NetworkEntry], mode: PxeMode, name: str) -> None:
    """UnsupportedError unless the initrds of every entry have what the mode needs."""
    if not mode.initrd_has:
        return
    members: Dict[str, List[str]] = {}
    for entry in entries:
        for path in entry.initrds:
            if path not in members:
                members[path] = [f"/{one.lstrip('./')}" for one in cpio.read(iso.file_view(f"/{path}"))]
        if not any(first_match(one, mode.initrd_has) for path in entry.initrds for one in members[path]):
            raise UnsupportedError(
                f"the initrd has none of {', '.join(mode.initrd_has)}, so the Node cannot start by {name}",
                where=f"{iso.name}:{', '.join(f'/{path}' for path in entry.initrds) or 'no initrd'}",
                remedy="ask its vendor for an initrd that can fetch its root, or choose another way with --mode",
                finding="initrd-lacks",
            )


def _unsupported(what: str, where: str) -> UnsupportedError:
    return UnsupportedError(
        what,
        where=where,
        remedy="a profile of your own can remove it: [pxe] in docs/reference/profiles.md",
        finding="medium-argument",
    )
