"""isolinux.cfg (the Syslinux wiki's "Config" page): labels with KERNEL and APPEND lines, includes, help texts."""

from __future__ import annotations

from dataclasses import dataclass, field
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

# Files of these kinds are not kernels (syslinux: "KERNEL file").
_OTHER = (".c32", ".com", ".cbt", ".bs", ".bin", ".bss", ".0", ".img", ".lkrn", ".e32")
_MULTIBOOT = ("mboot.c32",)


@dataclass
class _Label:
    """A label while it is read; ``kernel`` is the first word behind KERNEL, ``options`` are the others."""

    title: str
    line: int
    kernel: Optional[Word] = None
    linux: bool = False
    options: List[Word] = field(default_factory=list)
    append: Optional[Tuple[int, List[Word]]] = None
    initrd: bool = False
    end: int = 0
    indentation: str = ""


def parse(text: str, name: str) -> Config:
    """Read an isolinux.cfg."""
    everywhere = _Label("", 0)
    labels: List[_Label] = []
    includes: List[str] = []
    default: List[Word] = []
    default_line, helping = 0, False
    for number, offset, line in lines_of(text):
        words = plain_words(line, offset)
        if not words or words[0].text.startswith("#"):
            continue
        key = words[0].text.lower()
        if helping:
            helping = key != "endtext"
            continue
        label = labels[-1] if labels else everywhere
        second = words[1].text.lower() if len(words) > 1 else ""
        if key == "text" and second == "help":
            helping = True
        elif key == "label" and second:
            labels.append(_Label(words[1].text, number))
        elif key == "default":
            default, default_line = words[1:], number
        elif key == "append":
            label.append = (words[0].end, words[1:])
        elif key in ("kernel", "linux") and second:
            label.kernel, label.options, label.linux = words[1], words[2:], key == "linux"
            label.end, label.indentation = words[-1].end, indentation(line)
        elif key == "initrd":
            label.initrd = True
        elif key == "include" and second:
            includes.append(words[1].text)
        elif key == "menu" and second == "include" and len(words) > 2:
            includes.append(words[2].text)
        elif key == "config" and second:
            includes.append(words[1].text)
    if everywhere.append is not None:
        for label in labels:
            label.append = label.append or everywhere.append
    entries = [_entry(label, text) for label in labels if _starts_linux(label)]
    names = {label.title for label in labels}
    if len(default) > 1 and default[0].text not in names and is_kernel(default[0].text):
        words_of_default = tuple(default[1:])
        insert = insertion(words_of_default, default[0].end)
        entries.append(Entry("default", default[0].text, default_line, words_of_default, insert))
    foreign = [
        (label.line, "a multiboot kernel")
        for label in labels
        if label.kernel is not None and label.kernel.text.lower().rpartition("/")[2] in _MULTIBOOT
    ]
    return Config(name, Kind.ISOLINUX, text, tuple(entries), tuple(includes), {}, tuple(foreign))


def _starts_linux(label: _Label) -> bool:
    if label.kernel is None or not is_kernel(label.kernel.text):
        return False
    appended = [word.text for word in label.append[1]] if label.append else []
    has_initrd = label.initrd or any(word.startswith("initrd=") for word in appended)
    return label.linux or has_initrd or not label.kernel.text.lower().endswith(_OTHER)


def _entry(label: _Label, text: str) -> Entry:
    assert label.kernel is not None
    options = tuple(label.options)
    if label.append is None:
        before = f"{ending(text, label.end)}{label.indentation}append "
        at = text.find("\n", label.end)
        insert = len(text) if at < 0 else at - (1 if text[at - 1] == "\r" else 0)
        return Entry(label.title, label.kernel.text, label.line, options, insert, before)
    start, words = label.append
    if [word.text for word in words] == ["-"]:
        dash = (words[0].start, words[0].end)
        return Entry(label.title, label.kernel.text, label.line, options, words[0].end, "", "", dash)
    appended = tuple(words)
    return Entry(label.title, label.kernel.text, label.line, options + appended, insertion(appended, start))
