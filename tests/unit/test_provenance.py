"""The masked digest against a plain one over edited bytes; the slot's canonical form."""

from __future__ import annotations

import hashlib
from typing import Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.errors import MalformedError, VerificationError
from respin.formats import dsse
from respin.provenance import slot
from respin.provenance.layout import SLOT_SIZE, Mask, MaskedDigest
from respin.provenance.medium import parse_medium
from respin.strictjson import Fields

STATEMENT = b'{"a":"statement"}'


@settings(max_examples=80, deadline=None)
@given(
    data=st.binary(min_size=40, max_size=400),
    cuts=st.lists(st.integers(1, 50), max_size=20),
    first=st.tuples(st.integers(0, 10), st.integers(1, 8)),
    second=st.tuples(st.integers(20, 30), st.integers(1, 10)),
)
def test_masked_ranges_count_as_their_fill_however_the_stream_is_cut(
    data: bytes, cuts: "list[int]", first: Tuple[int, int], second: Tuple[int, int]
) -> None:
    digest = MaskedDigest((Mask(*first, b" "), Mask(*second, b"\0")))
    position = 0
    for cut in [*cuts, len(data)]:
        digest.update(data[position : position + cut])
        position += cut
    edited = bytearray(data)
    edited[first[0] : sum(first)] = b" " * first[1]
    edited[second[0] : sum(second)] = bytes(min(sum(second), len(data)) - second[0])
    assert digest.hexdigest() == hashlib.sha256(edited[:position]).hexdigest()


def envelope(count: int) -> dsse.Envelope:
    found = dsse.Envelope(STATEMENT, dsse.IN_TOTO)
    for index in range(count):
        found = found.with_signature(dsse.EnvelopeSignature(f"{index:040X}", b"signature %d" % index))
    return found


def test_a_slot_gives_back_its_signatures_over_the_same_statement() -> None:
    encoded = slot.encode(envelope(3))
    assert len(encoded) == SLOT_SIZE
    assert slot.decode(encoded, STATEMENT, where="slot") == envelope(3)
    assert slot.decode(bytes(SLOT_SIZE), STATEMENT, where="slot").signatures == ()


def test_too_many_signatures_are_refused() -> None:
    with pytest.raises(VerificationError, match="slot has"):
        slot.encode(dsse.Envelope(STATEMENT, dsse.IN_TOTO, (dsse.EnvelopeSignature("A" * 40, bytes(SLOT_SIZE)),)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: good[:-1] + b"x",
        lambda good: b" " + good[:-1],
        lambda good: good.replace(b'"signatures"', b'"x":1,"signatures"', 1)[:SLOT_SIZE],
        lambda good: good.replace(b"\n", b"", 1) + b"\0",
        lambda good: good.replace(b'{"payloadType"', b'{"payload":"","payloadType"', 1)[:SLOT_SIZE],
        lambda good: b"\0" + good[:-1],
    ],
)
def test_anything_besides_signatures_in_the_slot_is_refused(damage: "object") -> None:
    damaged = damage(slot.encode(envelope(1)))  # type: ignore[operator]
    with pytest.raises(MalformedError):
        slot.decode(damaged, STATEMENT, where="slot")


def test_files_left_out_of_the_protected_sets_without_a_change() -> None:
    """Nothing would tell of it where the vendor's ISO is not at hand."""
    document = {"respin_medium": {"edited": [], "files": ["/EFI/BOOT/BOOTX64.EFI"]}}
    with pytest.raises(MalformedError, match="names no change"):
        parse_medium({}, Fields(document, where="statement", finding="bad-statement"), "statement")
