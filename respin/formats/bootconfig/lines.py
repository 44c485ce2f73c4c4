"""Configurations of one key a line: GRUB legacy's grub.conf, and entries after the Boot Loader Specification."""

from __future__ import annotations

from typing import List, Optional, Tuple

from respin.formats.bootconfig.model import (
    Config,
    Entry,
    Kind,
    Word,
    ending,
    indentation,
    insertion,
    is_kernel,
    lines_of,
    plain_words,
)


def parse_legacy(text: str, name: str) -> Config:
    """Read a grub.conf of GRUB legacy ("kernel /vmlinuz ARGUMENTS" below "title")."""
    entries: List[Entry] = []
    foreign: List[Tuple[int, str]] = []
    includes: List[str] = []
    title = ""
    for number, offset, line in lines_of(text):
        words = plain_words(line, offset)
        if not words or words[0].text.startswith("#"):
            continue
        key = words[0].text.lower()
        if key == "title":
            title = line.strip()[len("title") :].strip()
        elif key == "kernel":
            rest = [word for word in words[1:] if not word.text.startswith("--")]
            if rest and is_kernel(rest[0].text):
                arguments = tuple(words[words.index(rest[0]) + 1 :])
                insert = insertion(arguments, rest[0].end)
                entries.append(Entry(title, rest[0].text, number, arguments, insert))
        elif key == "module":
            foreign.append((number, "a module of a multiboot kernel"))
        elif key == "configfile" and len(words) > 1:
            includes.append(words[1].text)
    return Config(name, Kind.GRUB_LEGACY, text, tuple(entries), tuple(includes), {}, tuple(foreign))


def parse_bls(text: str, name: str) -> Config:
    """Read one boot entry (UAPI.1: "title", "linux", "options"); it is one entry, or none without a kernel."""
    title = ""
    kernel: Optional[Tuple[int, Word, str]] = None
    words: List[Word] = []
    last = -1
    for number, offset, line in lines_of(text):
        found = plain_words(line, offset)
        if not found or found[0].text.startswith("#"):
            continue
        key = found[0].text.lower()
        if key == "title":
            title = line.strip()[len("title") :].strip()
        elif key == "linux" and len(found) > 1:
            kernel = (number, found[1], indentation(line))
        elif key == "options":
            words += found[1:]
            last = insertion(tuple(found[1:]), found[0].end)
    if kernel is None:
        return Config(name, Kind.BLS, text, ())
    number, word, blanks = kernel
    if last >= 0:
        entry = Entry(title, word.text, number, tuple(words), last)
    else:
        entry = Entry(title, word.text, number, (), word.end, f"{ending(text, word.end)}{blanks}options ")
    return Config(name, Kind.BLS, text, (entry,))
