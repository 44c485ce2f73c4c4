"""The signature slot: one line of canonical JSON with the signatures over the statement, then zeros.

``{"payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":FPR,"sig":BASE64}, ...]}``; ``sig`` is an armored
detached OpenPGP signature over the DSSE pre-authentication encoding of the statement's exact bytes. An empty slot, all
zeros, is an unsigned respin.
"""

from __future__ import annotations

import base64
import re
from typing import Tuple

from respin import strictjson
from respin.errors import MalformedError, VerificationError
from respin.formats import dsse
from respin.provenance.layout import SLOT_SIZE

_DAMAGED = (
    "get the ISO again from its maker; if it is yours and signing it was interrupted, `respin sign --force` writes the"
    " slot anew, without what it holds"
)
_NAME = re.compile(rb'"keyid":"([0-9A-F]{40}|[0-9A-F]{64})"')


def encode(envelope: dsse.Envelope) -> bytes:
    """The slot's bytes for the signatures of ``envelope``; VerificationError when they don't fit."""
    line = strictjson.encode(
        {
            "payloadType": envelope.payload_type,
            "signatures": [
                {"keyid": s.keyid, "sig": base64.b64encode(s.sig).decode("ascii")} for s in envelope.signatures
            ],
        }
    )
    if len(line) + 1 > SLOT_SIZE:
        raise VerificationError(
            f"{len(envelope.signatures)} signatures need {len(line) + 1} bytes, the slot has {SLOT_SIZE}",
            finding="slot-full",
            remedy="keep further signatures beside the ISO, in its .intoto.jsonl",
        )
    return (line + b"\n").ljust(SLOT_SIZE, b"\0")


def decode(slot: bytes, statement: bytes, *, where: str) -> dsse.Envelope:
    """The envelope of ``statement`` with the signatures found in ``slot``; none for a slot of zeros.

    Raises MalformedError unless the slot is exactly what :func:`encode` writes: nothing else may hide in it.
    """
    try:
        return _decode(slot, statement, where)
    except MalformedError as error:
        raise MalformedError(error.what, where=error.where, remedy=_DAMAGED, finding=error.finding) from error


def names(slot: bytes) -> Tuple[str, ...]:
    """What the signatures in a slot are filed under, as far as that can be read in one that is damaged."""
    return tuple(dict.fromkeys(name.decode("ascii") for name in _NAME.findall(slot)))


def _decode(slot: bytes, statement: bytes, where: str) -> dsse.Envelope:
    unsigned = dsse.Envelope(statement, dsse.IN_TOTO)
    if slot == bytes(len(slot)):
        return unsigned
    line, newline, rest = slot.partition(b"\n")
    if not newline or rest.strip(b"\0"):
        raise MalformedError("the signature slot holds something besides signatures", where=where, finding="bad-slot")
    document = strictjson.decode(line, where=where, limit=SLOT_SIZE)
    if not isinstance(document, dict) or "payload" in document:
        raise MalformedError("the signature slot is not a slot", where=where, finding="bad-slot")
    whole = strictjson.encode({**document, "payload": base64.b64encode(statement).decode("ascii")})
    envelope = dsse.parse(whole, where=where, exact=True)
    if encode(envelope) != slot:
        raise MalformedError("the signature slot is not in its canonical form", where=where, finding="bad-slot")
    return envelope
