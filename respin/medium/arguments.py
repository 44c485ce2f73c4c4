"""Kernel arguments added and removed, in every copy of the boot configuration alike."""

from __future__ import annotations

import re
from typing import Dict, List, Tuple

from respin.errors import PolicyError, UsageError
from respin.formats.bootconfig import ArgumentEdit, edit_arguments, matches
from respin.formats.fat import replace_files
from respin.formats.iso9660.image import IsoImage
from respin.medium.bootfiles import BootCopy, EfiImage, find_boot_files, refuse_closed
from respin.medium.edit import NOTHING, Edited, MediumEdit
from respin.node.profile import Profile
from respin.safepath import show
from respin.segments import Data

ARGUMENTS = "kernel-arguments"
# What no boot loader's syntax takes for anything but itself.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:/=@%+~^-]*")


def check_arguments(edit: ArgumentEdit, profile: Profile, volume_id: str) -> None:
    """Refuse what must not be changed: UsageError for what is no plain word, PolicyError for what finds the medium.

    What the profile keeps, and whatever names the volume, can neither be removed nor given a second time: the last one
    counts.
    """
    for argument in (*edit.append, *edit.remove):
        if not _PLAIN.fullmatch(argument):
            raise UsageError(
                f"{show(argument)!r} is no plain kernel argument",
                remedy="letters, digits and _.,:/=@%+~^- are; boot loaders read anything else each in its own way",
            )
        name = argument.partition("=")[0]
        if name in profile.kept_arguments or _names_volume(argument, volume_id):
            raise PolicyError(
                f"the argument {argument} is one by which the Node finds its medium",
                remedy=f"{', '.join(profile.kept_arguments) or 'the volume label'} stay as the vendor made them",
                finding="kept-argument",
            )
    for argument in edit.append:
        if any(matches(one, argument) for one in edit.remove):
            raise UsageError(f"{argument} is to be appended and removed", remedy="decide for one of them")


def edit_medium(iso: IsoImage, profile: Profile, edit: ArgumentEdit) -> MediumEdit:
    """The changes that give every entry which starts Linux the edited arguments.

    Raises UnsupportedError where that is not possible for every copy, UsageError when an argument to remove stands
    nowhere.
    """
    if not edit:
        return NOTHING
    found = find_boot_files(iso, profile)
    refuse_closed(found, iso)
    entries = [entry for copy in found.copies for entry in copy.config.entries]
    if not entries:
        raise UsageError("no boot configuration of this ISO starts a Linux kernel", where=iso.name)
    for one in edit.remove:
        words = [word for entry in entries for word in entry.arguments if matches(one, word)]
        if not words:
            raise UsageError(
                f"no boot entry has the argument {one}",
                where=iso.name,
                remedy="`respin inspect --json` lists the arguments of every entry",
                finding="no-such-argument",
            )
        _refuse_volume(words, iso.volume_id)
    return _medium_edit(found.copies, edit)


def _refuse_volume(words: List[str], volume_id: str) -> None:
    """A name without its value is removed whatever the value is, so also where it names the volume."""
    for word in words:
        if _names_volume(word, volume_id):
            raise PolicyError(
                f"the argument {show(word)} names the volume by which the Node finds its medium",
                finding="kept-argument",
            )


def _names_volume(word: str, volume_id: str) -> bool:
    """Whether the volume's label stands in a word; blanks in it are escaped as udev does, GRUB takes the backslash."""
    plain = re.escape(volume_id).replace("\\ ", r"(?: |\\?x20|_)")
    return bool(volume_id) and re.search(rf"(?<![A-Za-z0-9]){plain}(?![A-Za-z0-9])", word) is not None


def _medium_edit(copies: Tuple[BootCopy, ...], edit: ArgumentEdit) -> MediumEdit:
    files: Dict[str, Tuple[Data, ...]] = {}
    images: Dict[int, Tuple[EfiImage, Dict[str, bytes]]] = {}
    edited: List[Edited] = []
    for copy in copies:
        after = edit_arguments(copy.config, edit)
        if after == copy.config.text.encode("latin-1"):
            continue
        edited.append(Edited(copy.place, ARGUMENTS))
        if copy.image is None:
            files[copy.path] = (Data(after),)
        else:
            images.setdefault(copy.image.offset, (copy.image, {}))[1][copy.path] = after
    patches: Dict[int, bytes] = {}
    for offset, (image, contents) in images.items():
        patches.update({offset + at: data for at, data in replace_files(image.volume, contents).items()})
    return MediumEdit(dict(files), patches, tuple(edited))
