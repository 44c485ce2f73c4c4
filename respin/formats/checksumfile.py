"""Vendors' CHECKSUM files in the two styles of coreutils: ``SHA256 (NAME) = HEX`` and ``HEX  NAME`` / ``HEX *NAME``.

The text is what a signature verifier put out: no armour, no headers. Every line must be understood, since a line that
is skipped may be the one that says otherwise. coreutils' escaped names (a leading backslash) are not covered.
"""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, NamedTuple, Tuple

from respin.errors import MalformedError, UnsupportedError
from respin.limits import LIMITS
from respin.safepath import printable, show


class Checksum(NamedTuple):
    """A digest: algorithm as hashlib names it, lower-case hex digits."""

    algorithm: str
    hex: str


STRONG = ("sha256", "sha512")
"""Algorithms that count, the preferred one first."""

_LENGTHS: Mapping[str, int] = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
_ALGORITHMS = {length: algorithm for algorithm, length in _LENGTHS.items()}
_BSD = re.compile(r"(MD5|SHA1|SHA224|SHA256|SHA384|SHA512) \((.+)\) = ([0-9A-Fa-f]+)")
_GNU = re.compile(r"([0-9A-Fa-f]{32,128}) [ *](.+)")


def parse(text: bytes, *, where: str = "checksum file") -> Mapping[str, Checksum]:
    """The strong checksum of every file that ``text`` names; with several, SHA-256.

    Raises MalformedError for lines that are no checksum, blank line or comment, for unprintable text, and for one
    name with two digests; UnsupportedError when no file has a strong checksum.
    """
    if len(text) > LIMITS.checksum_file:
        raise MalformedError(f"more than {LIMITS.checksum_file} bytes", where=where)
    try:
        lines = text.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise MalformedError(f"byte {error.start} is not UTF-8", where=where) from None
    found: Dict[Tuple[str, str], str] = {}
    for number, line in enumerate(lines, 1):
        place = f"{where}, line {number}"
        if not printable(line):
            raise MalformedError(f"the line holds unprintable characters: {show(line)[:80]}", where=place)
        if not line or line.startswith("#"):
            continue
        name, checksum = _parse_line(line, place)
        if found.setdefault((name, checksum.algorithm), checksum.hex) != checksum.hex:
            raise MalformedError(f"{name} has two different {checksum.algorithm} digests", where=place)
    return _strongest(found, where)


def _parse_line(line: str, where: str) -> Tuple[str, Checksum]:
    bsd = _BSD.fullmatch(line)
    if bsd is not None:
        algorithm, name, digits = bsd[1].lower(), bsd[2], bsd[3].lower()
        if len(digits) == _LENGTHS[algorithm]:
            return name, Checksum(algorithm, digits)
    gnu = _GNU.fullmatch(line)
    if gnu is not None and len(gnu[1]) in _ALGORITHMS:
        return gnu[2], Checksum(_ALGORITHMS[len(gnu[1])], gnu[1].lower())
    raise MalformedError(
        f"the line is no checksum: {line[:80]}",
        where=where,
        remedy="lines look like `SHA256 (NAME) = HEX` or `HEX  NAME`; give the text that was signed, unchanged",
    )


def _strongest(found: Mapping[Tuple[str, str], str], where: str) -> Mapping[str, Checksum]:
    if not found:
        raise MalformedError("the file names no checksum at all", where=where)
    strong: Dict[str, Checksum] = {}
    for algorithm in reversed(STRONG):
        for (name, used), digits in found.items():
            if used == algorithm:
                strong[name] = Checksum(algorithm, digits)
    if not strong:
        weak: List[str] = sorted({algorithm for _, algorithm in found})
        raise UnsupportedError(
            f"the file has only {', '.join(weak)} checksums",
            where=where,
            remedy="ask the vendor for SHA-256 or SHA-512 checksums, or pin a digest with --base-sha256",
            finding="weak-checksum",
        )
    return strong
