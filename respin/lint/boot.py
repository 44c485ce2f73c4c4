"""The boot configurations: is everything there that an entry names, does every way of booting say the same?"""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import FrozenSet, Iterator, List, Optional, Sequence, Set, Tuple

from respin.formats.bootconfig import Config, Kind
from respin.formats.iso9660.image import IsoImage
from respin.lint.model import LintFinding, error, warning
from respin.medium.bootfiles import BootCopy, BootFiles
from respin.safepath import show

# dracut (live, CDLABEL), anaconda (hd:LABEL), kiwi and the kernel (LABEL); a label may be escaped as udev does.
_LABEL = re.compile(r"(?:[a-z0-9_.-]+=)(?:live:)?(?:hd:|CD)?LABEL=([^:]+)(?::.*)?", re.I)
_STAGE2_FILE = re.compile(r"inst\.ks=(?:hd:LABEL=[^:]+|cdrom):(/.+)")
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")
_SEARCH = re.compile(r"^[ \t]*search[ \t](.*)$", re.M)
_BY_LABEL, _BY_FILE = ("l", "label", "fs-label"), ("f", "file")
_INITRD = re.compile(r"^[ \t]*initrd(?:efi|16)?[ \t]+(.+?)[ \t\r]*$", re.M | re.I)
_DEVICE = re.compile(r"^(?:\([^)]*\)|\$\{?root\}?)")


def boot(iso: IsoImage, found: BootFiles) -> Iterator[LintFinding]:
    """Everything that is wrong with the boot configurations."""
    if iso.boot and not found.copies:
        yield warning(
            "boot-configuration", "ISO", "it boots, and no boot configuration is found on it", "boot it and see"
        )
    for where, what in found.closed:
        yield warning(
            "boot-configuration", show(where), f"it {what}, so nobody can say what it boots", "boot it and see"
        )
    for copy in found.copies:
        yield from _files(iso, copy)
        yield from _labels(iso, copy)
    yield from _agreement(found.copies)


def _files(iso: IsoImage, copy: BootCopy) -> Iterator[LintFinding]:
    initrds = [(0, name) for text in _INITRD.findall(copy.config.text) for name in _split(copy.config, text)]
    named = [("kernel-missing", "kernel", entry.line, entry.kernel) for entry in copy.config.entries]
    for entry in copy.config.entries:
        listed = [word[len("initrd=") :] for word in entry.arguments if word.startswith("initrd=")]
        initrds += [(entry.line, name) for text in listed for name in text.split(",")]
        kickstarts = filter(None, map(_STAGE2_FILE.fullmatch, entry.arguments))
        named += [("kickstart-missing", "kickstart", entry.line, one[1]) for one in kickstarts]
    named += [("initrd-missing", "initrd", line, name) for line, name in initrds]
    for finding, what, line, name in dict.fromkeys(named):
        if _is_there(iso, copy, name) is False:
            at = f"{show(copy.place)}, line {line}" if line else show(copy.place)
            yield error(
                finding, at, f"the {what} {show(name)} is not on the ISO", "correct the path, or put the file there"
            )


def _split(config: Config, text: str) -> List[str]:
    return text.split(",") if config.kind is Kind.ISOLINUX else text.split()


def _is_there(iso: IsoImage, copy: BootCopy, name: str) -> Optional[bool]:
    """Whether a file is on the ISO or in the EFI image; None when a variable decides."""
    path = _DEVICE.sub("", name)
    if "$" in path or "%" in path or not path:
        return None
    own = posixpath.dirname(copy.path)
    wanted = {posixpath.normpath(posixpath.join(base, path)).casefold() for base in (own, "/", "/isolinux")}
    if copy.image is not None and any(copy.image.volume.find(one) is not None for one in wanted):
        return True
    return any(path.casefold() in wanted for path in iso.files)


def _labels(iso: IsoImage, copy: BootCopy) -> Iterator[LintFinding]:
    wanted: Set[Tuple[int, str]] = set()
    for entry in copy.config.entries:
        for word in entry.arguments:
            match = _LABEL.fullmatch(word)
            if match is not None and "$" not in match[1]:
                wanted.add((entry.line, _ESCAPE.sub(lambda code: chr(int(code[1], 16)), match[1])))
    files: Set[str] = set()
    if copy.config.kind is Kind.GRUB:
        for arguments in _SEARCH.findall(copy.config.text):
            how, name = _searched(arguments)
            if "$" not in name and how in _BY_LABEL:
                wanted.add((0, name))
            elif how in _BY_FILE:
                files.add(name)
    for line, label in sorted(wanted):
        if label != iso.volume_id:
            at = f"{show(copy.place)}, line {line}" if line else show(copy.place)
            yield error(
                "label-mismatch",
                at,
                f"it looks for a volume called {show(label)}, and this one is called {show(iso.volume_id)}",
                "change the configuration, or keep the volume's name when the ISO is mastered",
            )
    for path in sorted(files):
        if _is_there(iso, copy, path) is False:
            yield error(
                "search-file-missing",
                show(copy.place),
                f"it looks for the volume that has {show(path)}, and this one has not",
                "correct the path, or put the file there",
            )


def _searched(arguments: str) -> Tuple[str, str]:
    """How GRUB's ``search`` looks, by the option's letter or word, and for what; empty for what is no such command."""
    try:
        words = shlex.split(arguments, comments=True)
    except ValueError:
        return "", ""
    how = [word.lstrip("-") for word in words if word.lstrip("-") in (*_BY_LABEL, *_BY_FILE) and word.startswith("-")]
    names = [word for word in words if not word.startswith("-")]
    return (how[-1], names[-1]) if how and names else ("", "")


def _agreement(copies: Sequence[BootCopy]) -> Iterator[LintFinding]:
    """Words that all entries of one copy have and no entry of another: an edit that did not reach every copy."""
    facts = [(copy, *_words(copy)) for copy in copies if copy.config.entries]
    for copy, common, _any in facts:
        for other, _common, every in facts:
            missing = sorted(common - every)
            if missing:
                yield warning(
                    "boot-configs-differ",
                    show(other.place),
                    f"no entry has {', '.join(map(show, missing))}, which every entry of {show(copy.place)} has",
                    "the ways of booting differ; `respin build --append-arg` reaches all of them",
                )


def _words(copy: BootCopy) -> Tuple[FrozenSet[str], FrozenSet[str]]:
    """The words that all entries have in common, and those that any has."""
    sets = [frozenset(word for word in entry.arguments if not _is_own(word)) for entry in copy.config.entries]
    return frozenset.intersection(*sets), frozenset.union(*sets)


def _is_own(word: str) -> bool:
    """Whether a word belongs to a boot loader, or is not told until it runs."""
    return word.startswith(("initrd=", "BOOT_IMAGE=", "--")) or "$" in word
