"""Files that name digests of other files, and where in them each digest stands, so that it can follow a change.

Covered: the section ``[checksums]`` of ``.treeinfo`` (productmd, all versions), ``liveimg --checksum=`` of kickstarts
(pykickstart), and the lists of coreutils' ``sha256sum`` and its kin. Whatever is not understood is left alone.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Iterator, Mapping, Sequence, Tuple
from urllib.parse import unquote

ALGORITHMS: Mapping[str, int] = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
_BY_LENGTH = {length: name for name, length in ALGORITHMS.items()}
_SECTION = re.compile(r"[ \t]*\[([^\]\n]*)\]")
_TREEINFO = re.compile(r"[ \t]*([^=:\s;#][^=\n]*?)[ \t]*=[ \t]*([a-z0-9]+):([0-9a-fA-F]+)[ \t]*")
_LISTED = re.compile(r"([0-9a-fA-F]+) [ *](.+)")
_OPTION = re.compile(r"""--(url|checksum)(?:=|[ \t]+)("[^"]*"|'[^']*'|\S+)""")
_REPOSITORY = re.compile(r"file:///(?:run|mnt)/install/(?:repo|source)/(.+)")
_HEX = re.compile(r"[0-9a-fA-F]+")


@dataclass(frozen=True)
class PlacedDigest:
    """The digest of the file at the absolute ``path``: its hex digits stand from byte ``start`` to ``end``."""

    path: str
    algorithm: str
    start: int
    end: int


def in_treeinfo(data: bytes) -> Tuple[PlacedDigest, ...]:
    """The digests of a .treeinfo."""
    found = []
    section = ""
    for offset, line in _lines(data):
        match = _SECTION.match(line)
        if match:
            section = match[1].strip()
        entry = _TREEINFO.fullmatch(line)
        if section == "checksums" and entry and len(entry[3]) == ALGORITHMS.get(entry[2]):
            found.append(PlacedDigest(_absolute(entry[1]), entry[2], offset + entry.start(3), offset + entry.end(3)))
    return tuple(found)


def in_kickstart(data: bytes) -> Tuple[PlacedDigest, ...]:
    """The digests of live images on the installation medium in a kickstart."""
    found = []
    script = False
    for offset, line in _lines(data):
        words = line.split()
        if words and words[0].startswith("%") and words[0] not in ("%include", "%ksappend"):
            script = words[0] != "%end"
        if script or not words or words[0] != "liveimg":
            continue
        values = {match[1]: match for match in _OPTION.finditer(line)}
        if "url" in values and "checksum" in values:
            place = _REPOSITORY.fullmatch(unquote(values["url"][2].strip("\"'")))
            digits = _HEX.search(line, values["checksum"].start(2), values["checksum"].end(2))
            if place and digits and len(digits[0]) == ALGORITHMS["sha256"]:
                where = offset + digits.start(), offset + digits.end()
                found.append(PlacedDigest(_absolute(place[1]), "sha256", *where))
    return tuple(found)


def in_list(data: bytes) -> Tuple[PlacedDigest, ...]:
    """The digests of a list of coreutils; which algorithm it is, the number of digits says."""
    found = []
    for offset, line in _lines(data):
        match = _LISTED.fullmatch(line)
        if match and len(match[1]) in _BY_LENGTH:
            found.append(PlacedDigest(_absolute(match[2]), _BY_LENGTH[len(match[1])], offset, offset + match.end(1)))
    return tuple(found)


def with_digests(data: bytes, digests: Sequence[Tuple[PlacedDigest, str]]) -> bytes:
    """The file with other digests (lower-case hex) in the places of those that stand there; upper case stays."""
    changed = bytearray(data)
    for place, digits in digests:
        old = data[place.start : place.end].decode("ascii")
        upper = old == old.upper() and old != old.lower()
        changed[place.start : place.end] = (digits.upper() if upper else digits).encode("ascii")
    return bytes(changed)


def _absolute(path: str) -> str:
    return posixpath.normpath("/" + path.strip())


def _lines(data: bytes) -> Iterator[Tuple[int, str]]:
    """Byte offset and text of each line, without its end."""
    offset = 0
    for line in data.split(b"\n"):
        yield offset, line.rstrip(b"\r").decode("latin-1")
        offset += len(line) + 1
