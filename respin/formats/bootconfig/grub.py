"""grub.cfg (GNU GRUB Manual, "Shell-like scripting"): the commands that start kernels, read files, set variables.

Words are told apart as GRUB does: quotes, backslashes, comments, line continuation. Nothing is run, so every branch of
a condition counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import FrozenSet, Iterator, List, Mapping, Set, Tuple

from respin.formats.bootconfig.model import Config, Entry, Kind, Word, collect, insertion, is_kernel

_LINUX = frozenset({"linux", "linuxefi", "linux16", "linux32"})
_FOREIGN = frozenset({"multiboot", "multiboot2", "xen_hypervisor", "xnu_kernel", "xnu_kernel64", "kfreebsd", "knetbsd"})
_READS = frozenset({"source", "configfile", ".", "normal", "extract_entries_source", "extract_entries_configfile"})
_RESERVED = frozenset({"if", "then", "else", "elif", "do", "while", "until", "!", "{", "}", "time", "function", "fi"})
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z0-9_?#*@]+)\}|([A-Za-z0-9_?#*@]+))")
_BREAKS = " \t\r\n;"


@dataclass(frozen=True)
class _Command:
    """A command's words; ``line`` is that of the first, from 1."""

    line: int
    words: Tuple[Word, ...]


def parse(text: str, name: str) -> Config:
    """Read a grub.cfg."""
    commands = [_stripped(command) for command in _commands(text)]
    pairs = [pair for command in commands for pair in _assignments(command)]
    variables = collect(pairs)
    title = ""
    entries: List[Entry] = []
    includes: List[str] = []
    foreign: List[Tuple[int, str]] = []
    for command in commands:
        if not command.words:
            continue
        key, rest = command.words[0].text, command.words[1:]
        if key in ("menuentry", "submenu") and rest:
            title = rest[0].text
        elif key in _LINUX or _is_linux_variable(command.words[0], variables):
            words = [word for word in rest if not word.text.startswith("--") or word.text in ("--", "---")]
            if words and is_kernel(words[0].text):
                arguments = tuple(words[1:])
                insert = insertion(arguments, words[0].end)
                entries.append(Entry(title, words[0].text, command.line, arguments, insert))
        elif key in _READS and rest:
            includes.append(rest[0].text)
        elif key in _FOREIGN:
            foreign.append((command.line, f"a kernel that `{key}` starts"))
    return Config(name, Kind.GRUB, text, tuple(entries), tuple(includes), variables, tuple(foreign))


def _stripped(command: _Command) -> _Command:
    words = list(command.words)
    while words and words[0].text in _RESERVED:
        words.pop(0)
    return _Command(command.line, tuple(words))


def _assignments(command: _Command) -> Iterator[Tuple[str, str]]:
    """The variables that a command gives a value: ``set name=value``, or ``name=value`` by itself."""
    words = command.words[1:] if command.words and command.words[0].text in ("set", "export") else command.words[:1]
    for word in words:
        name, equals, value = word.text.partition("=")
        if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            yield name, value


def _is_linux_variable(word: Word, variables: Mapping[str, Tuple[str, ...]]) -> bool:
    """Whether a command is a variable that somewhere is set to the command which starts Linux."""
    match = _VARIABLE.fullmatch(word.text)
    return match is not None and any(value in _LINUX for value in variables.get(match[1] or match[2], ()))


def _commands(text: str) -> Iterator[_Command]:
    words: List[Word] = []
    line = first = 1
    at, size = 0, len(text)
    while at < size:
        letter = text[at]
        if letter in "\n;":
            if words:
                yield _Command(first, tuple(words))
            words = []
            line += letter == "\n"
            at += 1
        elif letter in " \t\r":
            at += 1
        elif letter == "\\" and text[at + 1 : at + 2] == "\n":
            line += 1
            at += 2
        elif letter == "#":
            at = text.find("\n", at)
            at = size if at < 0 else at
        else:
            word = _word(text, at)
            line_of_word = line
            line += text.count("\n", at, word.end)
            at = word.end
            if text[word.start : word.end] in ("{", "}"):
                if words:
                    yield _Command(first, tuple(words))
                words = []
                continue
            if not words:
                first = line_of_word
            words.append(word)
    if words:
        yield _Command(first, tuple(words))


def _word(text: str, start: int) -> Word:
    """The word that begins at ``start``."""
    said: List[str] = []
    variables: Set[str] = set()
    at, size, quote = start, len(text), ""
    while at < size:
        letter = text[at]
        if not quote and letter in _BREAKS:
            break
        if quote == "'":
            if letter == "'":
                quote = ""
            else:
                said.append(letter)
        elif letter == "\\" and at + 1 < size:
            at += 1
            if text[at] == "\n":
                if not quote:
                    at -= 1
                    break
            else:
                # Inside double quotes a backslash stays in front of what it need not protect.
                said.append(text[at] if not quote or text[at] in '$"\\' else "\\" + text[at])
        elif letter == '"':
            quote = "" if quote else '"'
        elif letter == "'" and not quote:
            quote = "'"
        else:
            if letter == "$":
                variables |= _names(text, at)
            said.append(letter)
        at += 1
    return Word(start, at, "".join(said), frozenset(variables))


def _names(text: str, at: int) -> FrozenSet[str]:
    match = _VARIABLE.match(text, at)
    return frozenset() if match is None else frozenset({match[1] or match[2]})
