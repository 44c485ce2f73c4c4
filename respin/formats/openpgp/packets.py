"""OpenPGP packet framing and ASCII armor (RFC 4880, sections 4.2 and 6): structure only, no cryptography.

GnuPG is generous about what it reads: several signatures, compressed or literal data where a signature belongs, text
around an armor. Structure is therefore decided here, and GnuPG is given the very packets that were looked at.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Iterator, List, Tuple

from respin.errors import MalformedError

SIGNATURE, SECRET_KEY, PUBLIC_KEY, SECRET_SUBKEY, MARKER, TRUST, USER_ID, PUBLIC_SUBKEY, ATTRIBUTE = (
    2, 5, 6, 7, 10, 12, 13, 14, 17,
)  # fmt: skip
_HEADER_LINE = re.compile(rb"[A-Za-z][A-Za-z0-9-]*: [^\r\n]*")


@dataclass(frozen=True)
class Packet:
    """One packet: its type (``tag``), its content and the whole of it with its header (``raw``)."""

    tag: int
    body: bytes
    raw: bytes

    @property
    def version(self) -> int:
        """The first octet, which is the version of keys and signatures; -1 when there is none."""
        return self.body[0] if self.body else -1


def packets(data: bytes, *, where: str) -> Iterator[Packet]:
    """The packets that make up all of ``data``. Partial and indeterminate lengths belong to messages: refused."""
    position = 0
    while position < len(data):
        tag, header, length = _frame(data, position, where)
        start = position + header
        if start + length > len(data):
            raise _bad(f"the OpenPGP packet at byte {position} is truncated", where)
        yield Packet(tag, data[start : start + length], data[position : start + length])
        position = start + length


def _frame(data: bytes, position: int, where: str) -> Tuple[int, int, int]:
    """Type, header length and body length of the packet at ``position``."""
    first = data[position]
    if not first & 0x80:
        raise _bad(f"byte {position} does not start an OpenPGP packet", where)
    if first & 0x40:
        octets = data[position + 1 : position + 6]
        if octets and octets[0] < 192:
            return first & 0x3F, 2, octets[0]
        if len(octets) >= 2 and octets[0] < 224:
            return first & 0x3F, 3, ((octets[0] - 192) << 8) + octets[1] + 192
        if len(octets) == 5 and octets[0] == 255:
            return first & 0x3F, 6, int.from_bytes(octets[1:], "big")
    elif first & 3 != 3:
        width = 1 << (first & 3)
        octets = data[position + 1 : position + 1 + width]
        if len(octets) == width:
            return (first >> 2) & 0x0F, 1 + width, int.from_bytes(octets, "big")
    raise _bad(f"the OpenPGP packet at byte {position} has no definite length", where)


def dearmor(text: bytes, kind: bytes, *, where: str) -> bytes:
    """The bytes inside an armor that is all of ``text`` but white space at its ends.

    ``kind`` is what stands behind BEGIN, as ``PGP SIGNATURE``. The checksum may be missing, but not be wrong.
    """
    lines = [line.rstrip(b" \t\r") for line in text.strip(b" \t\r\n").split(b"\n")]
    if lines[0] != b"-----BEGIN " + kind + b"-----" or lines[-1] != b"-----END " + kind + b"-----" or len(lines) < 3:
        raise _bad(f"it is not one {kind.decode('ascii')} in ASCII armor and nothing else", where)
    body = lines[1:-1]
    if any(line.startswith(b"-") for line in body):
        raise _bad("there is more than one armor", where)
    while body and _HEADER_LINE.fullmatch(body[0]):
        body.pop(0)
    if not body or body.pop(0):
        raise _bad("the armor has no empty line behind its headers", where)
    checksum = body.pop()[1:] if body and body[-1].startswith(b"=") and len(body[-1]) == 5 else None
    try:
        data = base64.b64decode(b"".join(body), validate=True)
        if checksum is not None and base64.b64decode(checksum, validate=True) != crc24(data).to_bytes(3, "big"):
            raise _bad("the armor's checksum is wrong", where)
    except binascii.Error as error:
        raise _bad("the armor is not base64", where) from error
    return data


def armor(data: bytes, kind: bytes) -> bytes:
    """``data`` in ASCII armor."""
    text = base64.b64encode(data)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    checksum = b"=" + base64.b64encode(crc24(data).to_bytes(3, "big"))
    return b"\n".join([b"-----BEGIN " + kind + b"-----", b"", *lines, checksum, b"-----END " + kind + b"-----", b""])


def crc24(data: bytes) -> int:
    """The armor checksum of RFC 4880, section 6.1."""
    crc = 0xB704CE
    for octet in data:
        crc = ((crc << 8) & 0xFFFFFF) ^ _CRC_TABLE[(crc >> 16) ^ octet]
    return crc


def _crc_row(octet: int) -> int:
    crc = octet << 16
    for _ in range(8):
        crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    return crc & 0xFFFFFF


_CRC_TABLE = [_crc_row(octet) for octet in range(256)]


def key_material(data: bytes, *, where: str) -> bytes:
    """The packets of a key file: binary as they are, or those of every public key armor in it, comments left out."""
    if b"PRIVATE KEY BLOCK-----" in data:
        raise _bad("the file holds a private key", where, remedy="export the public key: gpg --armor --export FPR")
    if data[:1] and data[0] & 0x80:
        return data
    begin, end = b"-----BEGIN PGP PUBLIC KEY BLOCK-----", b"-----END PGP PUBLIC KEY BLOCK-----"
    blocks = []
    position = data.find(begin)
    while position >= 0:
        stop = data.find(end, position)
        if stop < 0:
            raise _bad("the armor has no end", where)
        blocks.append(dearmor(data[position : stop + len(end)], begin[11:-5], where=where))
        position = data.find(begin, stop)
    if not blocks:
        raise _bad("there is no OpenPGP public key in it", where, remedy="export one: gpg --armor --export FPR")
    return b"".join(blocks)


def split_keys(data: bytes, *, where: str) -> List[List[Packet]]:
    """The packets of a key file, one list for each key; a key starts with its primary key packet."""
    keys: List[List[Packet]] = []
    for packet in packets(data, where=where):
        if packet.tag in (SECRET_KEY, SECRET_SUBKEY):
            raise _bad("the file holds a private key", where, remedy="export the public key: gpg --armor --export FPR")
        if packet.tag in (MARKER, TRUST):
            continue
        if packet.tag == PUBLIC_KEY:
            keys.append([])
        elif not keys:
            raise _bad(f"the file starts with an OpenPGP packet of type {packet.tag}, not with a public key", where)
        keys[-1].append(packet)
    return keys


def fingerprint(packet: Packet) -> str:
    """The fingerprint of a version 4 (sub)key packet (RFC 4880, section 12.2); "" for other versions."""
    if packet.version != 4 or len(packet.body) > 0xFFFF:
        return ""
    digest = hashlib.sha1(usedforsecurity=False)  # the format's choice; FIPS hosts would refuse it otherwise
    digest.update(b"\x99" + len(packet.body).to_bytes(2, "big") + packet.body)
    return digest.hexdigest().upper()


def _bad(what: str, where: str, *, remedy: str = "get the file again from its author") -> MalformedError:
    return MalformedError(what, where=where, remedy=remedy)
