"""The cleartext signature framework (RFC 4880, section 7), strictly: one signed text and nothing around it."""

from __future__ import annotations

import re
from typing import List

from respin.errors import MalformedError
from respin.formats.openpgp.packets import dearmor

_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----"
_END = b"-----END PGP SIGNATURE-----"
_HASH = re.compile(rb"Hash: [A-Za-z0-9,/ -]+")
# GnuPG cuts lines beyond 19,995 characters
_LONGEST_LINE = 16_384


def signature_packets(text: bytes, *, where: str) -> bytes:
    """Check the framing of a clearsigned ``text`` and return the packets of its signature armor.

    Refused: anything before or behind it, more than one message or signature, armor headers but ``Hash`` (so no
    ``NotDashEscaped``), NUL bytes and overlong lines.
    """
    lines = [line.rstrip(b"\r") for line in text.rstrip(b"\r\n").split(b"\n")]
    markers = [line.rstrip(b" \t") for line in lines if line.startswith(b"-----")]
    if markers != [_BEGIN, _SIGNATURE, _END]:
        raise _bad(_describe(markers), where)
    if lines[0] != _BEGIN or lines[-1] != _END:
        raise _bad("there is text before or behind the signed message, which nobody signed", where)
    if b"\0" in text or any(len(line) > _LONGEST_LINE for line in lines):
        raise _bad("the signed text holds NUL bytes or overlong lines", where)
    try:
        blank = lines.index(b"")
    except ValueError:
        blank = len(lines)
    split = lines.index(_SIGNATURE) if _SIGNATURE in lines else 0
    if blank >= split or not all(_HASH.fullmatch(line) for line in lines[1:blank]):
        raise _bad("the armor headers of the signed message are not acceptable: only Hash may stand there", where)
    return dearmor(b"\n".join(lines[split:]), b"PGP SIGNATURE", where=where)


def signed_text(output: bytes) -> bytes:
    """What was signed, from what GnuPG gives out: white space at the end of a line is not covered, so it is dropped."""
    return b"\n".join(line.rstrip(b" \t\r") for line in output.split(b"\n"))


def _describe(markers: List[bytes]) -> str:
    if not markers:
        return "it is not signed: there is no PGP SIGNED MESSAGE in it"
    return "it is not exactly one clearsigned message"


def _bad(what: str, where: str) -> MalformedError:
    return MalformedError(what, where=where, remedy="get the file again, unedited, from its author")
