"""The DSSE envelope: encoding, pre-authentication encoding, strict reading; gpgv is the oracle for what is signed."""

from __future__ import annotations

import base64
import json
from typing import Any, Dict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.errors import MalformedError
from respin.formats import dsse
from respin.formats.dsse import Envelope, EnvelopeSignature

ONE = EnvelopeSignature("A" * 40, b"signature one")
TWO = EnvelopeSignature("B" * 40, b"signature two")
ENVELOPE = Envelope(b'{"hello":"world"}', dsse.IN_TOTO, (ONE, TWO))


def document() -> Dict[str, Any]:
    value: Dict[str, Any] = json.loads(ENVELOPE.encode())
    return value


def parse(value: Any, **options: Any) -> Envelope:
    return dsse.parse(value if isinstance(value, bytes) else json.dumps(value).encode(), where="x.jsonl", **options)


def test_the_pre_authentication_encoding_of_the_protocol() -> None:
    # the example of protocol.md
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("", b"") == b"DSSEv1 0  0 "
    assert dsse.pae("é", b"\xff") == b"DSSEv1 2 \xc3\xa9 1 \xff"


@given(st.tuples(st.text(), st.binary()), st.tuples(st.text(), st.binary()))
@settings(max_examples=100, deadline=None)
def test_the_pre_authentication_encoding_tells_everything_apart(a: "tuple[str, bytes]", b: "tuple[str, bytes]") -> None:
    def encodable(pair: "tuple[str, bytes]") -> bool:
        return not any("\ud800" <= c <= "\udfff" for c in pair[0])

    if encodable(a) and encodable(b):
        assert (dsse.pae(*a) == dsse.pae(*b)) == (a == b)


def test_the_envelope_is_one_line_of_plain_json() -> None:
    data = ENVELOPE.encode()
    assert b"\n" not in data
    assert json.loads(data) == {
        "payload": base64.b64encode(ENVELOPE.payload).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [
            {"keyid": "A" * 40, "sig": base64.b64encode(b"signature one").decode()},
            {"keyid": "B" * 40, "sig": base64.b64encode(b"signature two").decode()},
        ],
    }


@given(st.binary(min_size=1), st.lists(st.binary(min_size=1), max_size=3))
@settings(max_examples=50, deadline=None)
def test_round_trip(payload: bytes, signatures: "list[bytes]") -> None:
    envelope = Envelope(payload, dsse.IN_TOTO, tuple(EnvelopeSignature("", one) for one in signatures))
    assert parse(envelope.encode(), exact=True) == envelope


def test_signing_again_replaces_and_countersigning_adds() -> None:
    again = ENVELOPE.with_signature(EnvelopeSignature("A" * 40, b"new"))
    assert again.signatures == (TWO, EnvelopeSignature("A" * 40, b"new"))
    third = ENVELOPE.with_signature(EnvelopeSignature("C" * 40, b"new"))
    assert third.signatures[:2] == (ONE, TWO)
    assert len(third.signatures) == 3
    assert third.signed_bytes == ENVELOPE.signed_bytes


def test_unknown_members_are_skipped_as_the_protocol_says_unless_exact() -> None:
    value = {**document(), "extra": 1}
    assert parse(value) == ENVELOPE
    with pytest.raises(MalformedError, match="besides"):
        parse(value, exact=True)
    with pytest.raises(MalformedError, match="canonical"):
        parse(json.dumps(document()).encode(), exact=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("payloadType", "application/json"),
        ("payloadType", None),
        ("payload", ""),
        ("payload", "e30"),  # padding missing
        ("payload", "e31="),  # unused bits set
        ("payload", "e3 0="),
        ("payload", "e30=\n"),
        ("payload", "e30-"),
        ("payload", "\u00e9"),
        ("payload", 1),
        ("payload", "A" * (22_369_628)),
        ("signatures", {}),
        ("signatures", [1]),
        ("signatures", [{"keyid": "A" * 40}]),
        ("signatures", [{"keyid": "A" * 40, "sig": "!"}]),
        ("signatures", [{"keyid": "a" * 40, "sig": "e30="}]),
        ("signatures", [{"keyid": "A" * 16, "sig": "e30="}]),
        ("signatures", [{"keyid": "A" * 40, "sig": "e30="}] * 65),
    ],
)
def test_refused(key: str, value: Any) -> None:
    with pytest.raises(MalformedError):
        parse({**document(), key: value})


@pytest.mark.parametrize("key", ["payload", "payloadType", "signatures"])
def test_every_member_is_needed(key: str) -> None:
    value = document()
    del value[key]
    with pytest.raises(MalformedError):
        parse(value)


@given(st.integers(0), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_damage_is_refused_or_leaves_a_well_formed_envelope(position: int, byte: int) -> None:
    data = bytearray(ENVELOPE.encode())
    data[position % len(data)] = byte
    try:
        envelope = parse(bytes(data), exact=True)
    except MalformedError:
        return
    assert envelope.encode() == bytes(data)
