"""DSSE, the Dead Simple Signing Envelope, version 1.0.2 (github.com/secure-systems-lab/dsse, protocol.md, envelope.md).

Covered: the JSON envelope, the pre-authentication encoding, any number of signatures. ``sig`` holds an armored detached
OpenPGP signature over the pre-authentication encoding, so that a plain ``gpgv`` can check it; ``keyid`` is the full
fingerprint of its key and nothing more than a hint: it is not covered by the signature. Making and checking signatures
is done elsewhere, over exactly the bytes of :attr:`Envelope.payload`.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, replace
from typing import Any, Tuple

from respin import strictjson
from respin.errors import MalformedError
from respin.limits import LIMITS

IN_TOTO = "application/vnd.in-toto+json"

MAX_SIGNATURES = 64
_KEYID = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
_PAYLOAD_TYPE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class EnvelopeSignature:
    """One signature: ``keyid`` is a hint (full fingerprint in upper-case hex, or empty), ``sig`` its bytes."""

    keyid: str
    sig: bytes


@dataclass(frozen=True)
class Envelope:
    """A payload exactly as it was signed, its type, and the signatures over both."""

    payload: bytes
    payload_type: str
    signatures: Tuple[EnvelopeSignature, ...] = ()

    @property
    def signed_bytes(self) -> bytes:
        """What the signatures cover."""
        return pae(self.payload_type, self.payload)

    def with_signature(self, signature: EnvelopeSignature) -> "Envelope":
        """The same envelope with one signature more; one of the same key is replaced."""
        others = tuple(s for s in self.signatures if not s.keyid or s.keyid != signature.keyid)
        return replace(self, signatures=(*others, signature))

    def encode(self) -> bytes:
        """The canonical JSON of the envelope: one line without white space and without a newline."""
        return strictjson.encode(
            {
                "payload": base64.b64encode(self.payload).decode("ascii"),
                "payloadType": self.payload_type,
                "signatures": [
                    {"keyid": s.keyid, "sig": base64.b64encode(s.sig).decode("ascii")} for s in self.signatures
                ],
            }
        )


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: ``DSSEv1 SP LEN(type) SP type SP LEN(body) SP body``; lengths in bytes."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def parse(data: bytes, *, where: str, payload_type: str = IN_TOTO, exact: bool = False) -> Envelope:
    """The envelope in ``data``, which must carry ``payload_type``. It may have no signature at all: that is for the
    caller to judge.

    The protocol has readers ignore members they don't know; with ``exact`` the bytes must be what
    :meth:`Envelope.encode` writes, so that nothing unsigned can hide in them. Raises MalformedError.
    """
    value = strictjson.decode(data, where=where, limit=2 * LIMITS.statement)
    fields = strictjson.Fields(value, where=where, finding="bad-envelope")
    kind = fields.text("payloadType", pattern=_PAYLOAD_TYPE)
    if kind != payload_type:
        raise fields.bad(f"is {kind!r} where {payload_type!r} is expected", "payloadType")
    payload = _base64(fields, "payload", LIMITS.statement)
    signatures = tuple(_signature(one) for one in fields.objects("signatures", limit=MAX_SIGNATURES))
    envelope = Envelope(payload, kind, signatures)
    if exact and envelope.encode() != data:
        raise MalformedError(
            "the envelope holds something besides payload and signatures, or is not in its canonical form",
            where=where,
            finding="bad-envelope",
        )
    return envelope


def _signature(fields: strictjson.Fields) -> EnvelopeSignature:
    keyid = fields.text("keyid", pattern=_KEYID, limit=64, empty=True) if fields.has("keyid") else ""
    return EnvelopeSignature(keyid, _base64(fields, "sig", LIMITS.signature))


def _base64(fields: strictjson.Fields, key: str, limit: int) -> bytes:
    text: Any = fields.take(key)
    if not isinstance(text, str) or len(text) > limit * 4 // 3 + 4:
        raise fields.bad(f"is not base64 of at most {limit} bytes", key)
    try:
        decoded = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise fields.bad("is not base64", key) from error
    # RFC 4648, section 3.5: other spellings of the same bytes differ in unused bits or in padding
    if not decoded or base64.b64encode(decoded).decode("ascii") != text:
        raise fields.bad("is empty or not canonical base64", key)
    return decoded
