"""Scriptlets and triggers of a main header."""

from __future__ import annotations

from typing import List, Tuple

from respin.errors import MalformedError
from respin.formats.rpmfile.header import Header
from respin.formats.rpmfile.model import Scriptlet

_SHELL = "/bin/sh"
# kind, tag of the body, tag of the interpreter
_SCRIPTLETS = (
    ("prein", 1023, 1085),
    ("postin", 1024, 1086),
    ("preun", 1025, 1087),
    ("postun", 1026, 1088),
    ("verify", 1079, 1091),
    ("pretrans", 1151, 1153),
    ("posttrans", 1152, 1154),
    ("preuntrans", 5104, 5106),
    ("postuntrans", 5105, 5107),
)
# prefix; tags of bodies, interpreters, names, index of the body for each name, flags for each name
_TRIGGERS = (
    ("", 1065, 1092, 1066, 1069, 1068),
    ("file", 5066, 5067, 5069, 5070, 5072),
    ("transfile", 5076, 5077, 5079, 5080, 5082),
)
# RPMSENSE flags
_SENSES = ((1 << 25, "triggerprein"), (1 << 16, "triggerin"), (1 << 17, "triggerun"), (1 << 18, "triggerpostun"))


def scriptlets(header: Header, *, where: str) -> Tuple[Scriptlet, ...]:
    """All code in the header. An interpreter alone (``%post -p /sbin/ldconfig``) is code too: its body is empty."""
    found: List[Scriptlet] = []
    for kind, body, program in _SCRIPTLETS:
        if body in header or program in header:
            found.append(Scriptlet(kind, header.strings(program) or (_SHELL,), header.string(body)))
    for prefix, bodies, programs, names, index, flags in _TRIGGERS:
        found += _triggers(header, prefix, (bodies, programs, names, index, flags), where)
    return tuple(found)


def _triggers(header: Header, prefix: str, tags: Tuple[int, int, int, int, int], where: str) -> List[Scriptlet]:
    bodies, programs, names = (header.strings(tag) for tag in tags[:3])
    index, flags = (header.integers(tag) for tag in tags[3:])
    if len(index) != len(names) or len(flags) != len(names) or (programs and len(programs) != len(bodies)):
        raise MalformedError("the lists that describe its triggers differ in length", where=where)
    conditions = set()
    for number, sense in zip(index, flags):
        if number >= len(bodies):
            raise MalformedError(f"trigger script {number} does not exist", where=where)
        conditions |= {(number, kind) for bit, kind in _SENSES if sense & bit}
    if {number for number, _ in conditions} != set(range(len(bodies))):
        raise MalformedError("a trigger script has no condition", where=where)
    return [
        Scriptlet(prefix + kind, (programs[number] if programs else _SHELL,), bodies[number])
        for number, kind in sorted(conditions)
    ]
