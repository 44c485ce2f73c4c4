"""File contexts as text, and looking a path up in them: selabel_file(5), file_contexts(5), in libselinux's semantics.

The last entry that matches a path and its type counts; entries without pattern characters count before all others. An
entry that names a first directory literally is only for paths below such a directory. Substitutions replace the
beginning of a path, local ones first, those of the distribution after. The compiled form (``.bin``) is not read.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from respin.errors import MalformedError
from respin.formats.selinux.pattern import Pattern, Steps
from respin.limits import LIMITS

XATTR = "security.selinux"
NONE = b"<<none>>"
_TYPES: Mapping[bytes, int] = {
    b"--": stat.S_IFREG,
    b"-d": stat.S_IFDIR,
    b"-l": stat.S_IFLNK,
    b"-c": stat.S_IFCHR,
    b"-b": stat.S_IFBLK,
    b"-s": stat.S_IFSOCK,
    b"-p": stat.S_IFIFO,
}
_CONTEXT = re.compile(rb"[!-9;-~]+(:[!-9;-~]+){2}(:[!-~]+)?")
_META = frozenset(b".^$?*+|[({")


@dataclass(frozen=True)
class Entry:
    """One line: ``stem`` is the first directory where it is literal, ``pattern`` what follows.

    ``type`` are bits of st_mode or 0. ``prefix`` is what the part behind the stem begins with in any case.
    ``context`` is None for ``<<none>>``.
    """

    stem: bytes
    pattern: bytes
    prefix: bytes
    type: int
    context: Optional[bytes]


class FileContexts:
    """The entries of several texts in order, and two texts of substitutions.

    ``texts`` maps names, for messages, to contents; raises MalformedError (finding ``selinux-contexts``). Patterns are
    compiled when a path needs them: :meth:`label` raises UnsupportedError (``selinux-pattern``) for what it cannot
    match.
    """

    def __init__(self, texts: Mapping[str, bytes], local_subs: bytes = b"", distribution_subs: bytes = b"") -> None:
        literal: List[Entry] = []
        entries: List[Entry] = []
        for name, text in texts.items():
            for number, line in enumerate(text.split(b"\n"), 1):
                entry, is_literal = _entry(line, f"{name}, line {number}")
                if entry is not None:
                    (literal if is_literal else entries).append(entry)
                if len(literal) + len(entries) > LIMITS.selinux_contexts:
                    raise _malformed("there are too many entries", name)
        self._entries = entries + literal
        self._places: Dict[Tuple[bytes, bytes], List[int]] = {}
        for place, entry in enumerate(self._entries):
            self._places.setdefault((entry.stem, entry.prefix), []).append(place)
        self._patterns: Dict[bytes, Pattern] = {}
        self._subs = _substitutions(local_subs), _substitutions(distribution_subs)

    def __len__(self) -> int:
        return len(self._entries)

    def label(self, path: bytes, mode: int) -> Optional[bytes]:
        """The context of ``path`` (absolute, normal), whose type is that of ``mode``, without a zero byte at its end.

        None if the policy leaves the path alone: by ``<<none>>``, or because nothing matches it.
        """
        for subs in self._subs:
            path = _substituted(path, subs)
        kind, steps = stat.S_IFMT(mode), Steps(LIMITS.selinux_steps)
        slash = path.find(b"/", 1)
        parts = [(b"", path), *([(path[:slash], path[slash:])] if slash > 0 else [])]
        places = [(place, rest) for stem, rest in parts for place in self._candidates(stem, rest)]
        for place, rest in sorted(places, reverse=True):
            entry = self._entries[place]
            if entry.type in (0, kind) and self._pattern(entry.pattern).matches(rest, steps):
                return entry.context
        return None

    def _candidates(self, stem: bytes, rest: bytes) -> List[int]:
        ends = range(len(rest) + 1)
        return [place for end in ends for place in self._places.get((stem, rest[:end]), ())]

    def _pattern(self, text: bytes) -> Pattern:
        found = self._patterns.get(text)
        if found is None:
            found = self._patterns[text] = Pattern(text)
        return found


def _entry(line: bytes, where: str) -> Tuple[Optional[Entry], bool]:
    """The entry on a line, and whether it has no pattern characters."""
    fields = line.split()
    if not fields or fields[0].startswith(b"#"):
        return None, False
    if len(fields) < 2 or not line.isascii():
        raise _malformed("an entry has a pattern, perhaps a type, and a context, in ASCII", where)
    text, kind, context = fields[0], fields[1] if len(fields) > 2 else b"", fields[min(len(fields) - 1, 2)]
    if kind and kind not in _TYPES:
        raise _malformed(f"{kind!r} is no type of file", where)
    if context != NONE and not _CONTEXT.fullmatch(context):
        raise _malformed(f"{context[:80]!r} is no security context", where)
    stem = _stem(text)
    rest = text[len(stem) :]
    entry = Entry(stem, rest, _prefix(rest), _TYPES.get(kind, 0), None if context == NONE else context)
    return entry, not _has_pattern_characters(text)


def _stem(text: bytes) -> bytes:
    """``/usr`` of ``/usr/lib(64)?``: up to the second slash, if no pattern character or backslash comes before it.

    With a backslash there libselinux before 3.8 takes it literally, and the entry never matches anything.
    """
    slash = text.find(b"/", 1)
    stem = text[: max(slash, 0)]
    return b"" if _META & set(stem) or b"\\" in stem else stem


def _has_pattern_characters(text: bytes) -> bool:
    at = 0
    while at < len(text):
        if text[at] in _META:
            return True
        at += 2 if text[at : at + 1] == b"\\" else 1
    return False


def _prefix(text: bytes) -> bytes:
    """Bytes that everything which the expression matches begins with; not always all of them."""
    if b"|" in text and _is_choice(text):
        return b""
    found, at = bytearray(), 0
    while at < len(text):
        width, byte = 1, text[at]
        if text[at : at + 1] == b"\\":
            width, byte = 2, text[at + 1] if at + 1 < len(text) else 0
            if not byte or chr(byte).isalnum():
                break
        elif byte in _META or byte == ord(")"):
            break
        if text[at + width : at + width + 1] in (b"?", b"*", b"{"):
            break
        found.append(byte)
        at += width
    return bytes(found)


def _is_choice(text: bytes) -> bool:
    """Whether there may be alternatives outside any group."""
    bare = re.sub(rb"\\.", b"", text, flags=re.DOTALL)
    if b"[" in bare:
        return True  # a bracket may hide parentheses; that only makes the prefix shorter
    depth = 0
    for byte in bare:
        depth += (byte == ord("(")) - (byte == ord(")"))
        if byte == ord("|") and depth <= 0:
            return True
    return False


def _substitutions(text: bytes) -> Sequence[Tuple[bytes, bytes]]:
    """The pairs of a file of substitutions, in the order in which they are tried: the last line first."""
    found = []
    for line in text.split(b"\n"):
        fields = line.split()
        if len(fields) > 1:
            found.append((fields[0], fields[1]))
    return tuple(reversed(found))


def _substituted(path: bytes, subs: Sequence[Tuple[bytes, bytes]]) -> bytes:
    for source, target in subs:
        if path.startswith(source) and path[len(source) : len(source) + 1] in (b"", b"/"):
            rest = path[len(source) :]
            return target + (rest[1:] if target == b"/" else rest)
    return path


def _malformed(what: str, where: str) -> MalformedError:
    return MalformedError(
        f"the file contexts cannot be read: {what}",
        where=where,
        remedy="the labels of new files cannot be computed on this Node; ask its vendor",
        finding="selinux-contexts",
    )
