"""What is read from a boot configuration, whatever its kind. Offsets count bytes of the file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Dict, FrozenSet, Iterator, List, Mapping, Tuple

# Programs that are started like a kernel and are none.
_NO_KERNEL = re.compile(r"(?:memtest|mt86|memdisk|ipxe|undionly|hdt|chain|reboot|poweroff|shell)", re.I)
_BLANK = re.compile(r"[ \t]*")


class Kind(str, Enum):
    """The syntaxes."""

    ISOLINUX = "isolinux"
    GRUB = "grub"
    GRUB_LEGACY = "grub-legacy"
    BLS = "boot-loader-specification"


@dataclass(frozen=True)
class Word:
    """A word from ``start`` to ``end``; ``text`` is without quotes, ``variables`` are the names that stand in it."""

    start: int
    end: int
    text: str
    variables: FrozenSet[str] = frozenset()


@dataclass(frozen=True)
class Entry:
    """What starts a Linux kernel: its title, the kernel as written, all words of its command line in order.

    Further words go to byte ``insert``, between ``before`` and ``after``. ``dash`` is an isolinux ``append -``, which
    they replace. ``line`` counts from 1.
    """

    title: str
    kernel: str
    line: int
    words: Tuple[Word, ...]
    insert: int
    before: str = " "
    after: str = ""
    dash: Tuple[int, int] = (0, 0)

    @property
    def arguments(self) -> Tuple[str, ...]:
        """The words as texts."""
        return tuple(word.text for word in self.words)


@dataclass(frozen=True)
class Config:
    """A file that was read. ``includes`` are the names of files that it reads, as written.

    ``variables`` are all values that it gives a variable. ``foreign`` are lines that start a kernel in a way in which
    its words cannot be told apart: (line, what).
    """

    name: str
    kind: Kind
    text: str
    entries: Tuple[Entry, ...]
    includes: Tuple[str, ...] = ()
    variables: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    foreign: Tuple[Tuple[int, str], ...] = ()


def is_kernel(path: str) -> bool:
    """Whether a file that is started is a Linux kernel, by its name."""
    return not _NO_KERNEL.match(path.replace("\\", "/").rpartition("/")[2])


def lines_of(text: str) -> Iterator[Tuple[int, int, str]]:
    """Number (from 1), offset and text of each line, without its end."""
    offset = 0
    for number, line in enumerate(text.split("\n"), 1):
        yield number, offset, line[:-1] if line.endswith("\r") else line
        offset += len(line) + 1


def plain_words(line: str, offset: int) -> List[Word]:
    """The words of a line in which nothing but blanks separates and nothing quotes."""
    return [Word(offset + m.start(), offset + m.end(), m[0]) for m in re.finditer(r"[^ \t\v\f\r]+", line)]


def indentation(line: str) -> str:
    """The blanks at the start of a line."""
    found = _BLANK.match(line)
    return found[0] if found else ""


def ending(text: str, offset: int) -> str:
    """The line end that the line at ``offset`` has."""
    at = text.find("\n", offset)
    return "\r\n" if at > 0 and text[at - 1] == "\r" else "\n"


def insertion(words: Tuple[Word, ...], start: int) -> int:
    """Where further words go: behind the last word in front of ``--``, which begins what is not for the kernel."""
    end = start
    for word in words:
        if word.text in ("--", "---"):
            break
        end = word.end
    return end


def collect(pairs: List[Tuple[str, str]]) -> Mapping[str, Tuple[str, ...]]:
    """The values of each name."""
    found: Dict[str, List[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in found.items()}
