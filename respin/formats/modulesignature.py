"""Who signed a kernel module: the signer's identity in the appended PKCS #7 message (RFC 2315, DER).

Only the identity is read, to tell keys apart. Whether the signature is good, the kernel decides when it loads the
module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Optional, Tuple

_COMMON_NAME = bytes.fromhex("0603550403")  # OBJECT IDENTIFIER 2.5.4.3
_LARGEST = 1 << 16
_SEQUENCE, _SET, _INTEGER, _EXPLICIT, _KEY_ID = 0x30, 0x31, 0x02, 0xA0, 0x80


@dataclass(frozen=True)
class ModuleSigner:
    """``issuer`` is the common name in the certificate's issuer (empty if only a key id is there), ``key`` a serial
    number or key id in hex.
    """

    issuer: str
    key: str

    def __str__(self) -> str:
        return f"{self.issuer or 'a key'} ({self.key})"


def signer(message: bytes) -> Optional[ModuleSigner]:
    """The first signer of a PKCS #7 SignedData message; None where it cannot be made out."""
    if len(message) > _LARGEST:
        return None
    try:
        content = _inside(message, _SEQUENCE)
        _oid, (_, explicit) = _values(content, 2)
        data = _inside(explicit, _SEQUENCE)
        infos = [value for tag, value in _each(data) if tag == _SET][-1]
        info = list(_each(_inside(infos, _SEQUENCE)))
        tag, who = info[1]
        if tag == _KEY_ID:
            return ModuleSigner("", who.hex())
        (_, name), (number_tag, number) = _values(who, 2)
        return ModuleSigner(_common_name(name), number.hex()) if tag == _SEQUENCE and number_tag == _INTEGER else None
    except (IndexError, ValueError, StopIteration):
        return None


def _common_name(name: bytes) -> str:
    at = name.find(_COMMON_NAME)
    if at < 0:
        return ""
    _tag, text = next(_each(name[at + len(_COMMON_NAME) :]))
    return "".join(letter if letter.isprintable() else "?" for letter in text.decode("utf-8", "replace"))[:200]


def _inside(data: bytes, wanted: int) -> bytes:
    tag, value = next(_each(data))
    if tag != wanted:
        raise ValueError(tag)
    return value


def _values(data: bytes, count: int) -> Tuple[Tuple[int, bytes], ...]:
    found = tuple(_each(data))
    if len(found) < count:
        raise ValueError(count)
    return found[:count]


def _each(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """(tag, value) of each element; ValueError or IndexError for what is no DER."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            width = length & 0x7F
            if not 0 < width <= 4:
                raise ValueError(length)
            length = int.from_bytes(data[at : at + width], "big")
            at += width
        if at + length > len(data):
            raise ValueError(length)
        yield tag, data[at : at + length]
        at += length
