"""Words added to and taken from the command lines of a boot configuration; every other byte stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Tuple

from respin.errors import UnsupportedError
from respin.formats.bootconfig.model import Config, Entry

# What isolinux passes on (syslinux: MAX_CMDLINE_LEN) and x86 kernels take (COMMAND_LINE_SIZE), both with a NUL.
LONGEST = 2047


@dataclass(frozen=True)
class ArgumentEdit:
    """Arguments to append, in order, and to remove: a whole word, or a name with whatever value it has."""

    append: Tuple[str, ...] = ()
    remove: Tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.append or self.remove)


def matches(pattern: str, word: str) -> bool:
    """Whether ``pattern`` removes ``word``: "quiet" and "quiet=1" go by "quiet", only the latter by "quiet=1"."""
    return word == pattern or ("=" not in pattern and word.partition("=")[0] == pattern)


def edit_arguments(config: Config, edit: ArgumentEdit) -> bytes:
    """The configuration's bytes with the words of every entry edited. An argument that an entry has is not added again.

    Raises UnsupportedError where words can't be told apart: multiboot kernels, arguments that come out of variables,
    and command lines that become too long.
    """
    for line, what in config.foreign:
        raise _unsupported(config, line, f"{what} has a command line of another kind")
    changes: Dict[Tuple[int, int], str] = {}
    for entry in config.entries:
        _refuse_variables(config, entry, edit)
        words = [word for word in entry.words if not any(matches(one, word.text) for one in edit.remove)]
        for word in entry.words:
            if word not in words:
                changes[_with_blanks(config.text, word.start), word.end] = ""
        texts = [word.text for word in words]
        missing = [argument for argument in edit.append if argument not in texts]
        if len(" ".join([*texts, *missing])) > LONGEST:
            raise _unsupported(config, entry.line, f"the command line would be longer than {LONGEST} bytes")
        if missing:
            changes[entry.insert, entry.insert] = entry.before + " ".join(missing) + entry.after
            if entry.dash != (0, 0):
                changes[entry.dash] = ""
    return _apply(config.text, changes).encode("latin-1")


def _refuse_variables(config: Config, entry: Entry, edit: ArgumentEdit) -> None:
    for name in sorted({name for word in entry.words for name in word.variables}):
        for value in config.variables.get(name, ()):
            for word in value.split():
                if any(matches(one, word) for one in edit.remove):
                    raise _unsupported(config, entry.line, f"the argument {word} comes out of the variable {name}")


def _with_blanks(text: str, start: int) -> int:
    """Where the blanks in front of a word begin."""
    while start and text[start - 1] in " \t":
        start -= 1
    return start


def _apply(text: str, changes: Dict[Tuple[int, int], str]) -> str:
    pieces: List[str] = []
    position = 0
    # An insertion at the end of a word that goes away comes behind the removal.
    for (start, end), new in sorted(changes.items(), key=lambda one: (one[0][1], one[0][0])):
        pieces += [text[position : max(position, start)], new]
        position = max(position, end)
    return "".join([*pieces, text[position:]])


def _unsupported(config: Config, line: int, what: str) -> UnsupportedError:
    return UnsupportedError(
        what,
        where=f"{config.name}, line {line}",
        remedy="kernel arguments of this ISO cannot be changed this way; build without",
        finding="boot-configuration",
    )
