"""Several signatures over one statement: each is judged, one must count, a broken one is never tolerated."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

import pytest

from respin.errors import MalformedError, PolicyError, VerificationError
from respin.formats import dsse
from respin.provenance import sidecar
from respin.trust import TrustStore
from respin.verify.signatures import JudgedSignatures, judge_signatures
from tests.support.keys import KeyWorld

STATEMENT = b'{"a":"statement"}'


class By:
    """A signer for the sidecar's functions."""

    def __init__(self, keys: KeyWorld, name: str) -> None:
        self.keys, self.name, self.fingerprint = keys, name, keys.fingerprints[name]

    def sign_detached(self, data: bytes) -> bytes:
        return self.keys.detach_sign(self.name, data)


def signed(keys: KeyWorld, *names: str) -> dsse.Envelope:
    envelope = dsse.Envelope(STATEMENT, dsse.IN_TOTO)
    for name in names:
        envelope = sidecar.countersign(envelope, By(keys, name))
    return envelope


@pytest.fixture(scope="module")
def trust(key_world: KeyWorld, tmp_path_factory: pytest.TempPathFactory) -> TrustStore:
    odd = ("respin", "expired", "revoked", "weak", "subkey", "scoped")
    roles = {**{name: ["respin"] for name in odd}, "plugin": ["plugin"]}
    return TrustStore.load(key_world.make_store(tmp_path_factory.mktemp("odd") / "trust", roles))


def judge(envelope: dsse.Envelope, trust: TrustStore, tmp_path: Path) -> JudgedSignatures:
    return judge_signatures(envelope, "the-iso", trust, where="slot", tmpdir=tmp_path)


@pytest.mark.parametrize(
    ("name", "word", "finding"),
    [
        ("unknown", "unknown key", "nokey"),
        ("plugin", "unknown key", "nokey"),
        ("expired", "expired", "expkey"),
        ("revoked", "revoked key", "revkey"),
        ("weak", "weak", "weak"),
        ("scoped", "out of scope", "out-of-scope"),
    ],
)
def test_each_has_its_word_and_none_but_the_good_one_counts(
    key_world: KeyWorld, trust: TrustStore, tmp_path: Path, name: str, word: str, finding: str
) -> None:
    for order in ([name, "respin"], ["respin", name]):
        found = judge(signed(key_world, *order), trust, tmp_path)
        assert found.trusted.key.public.fingerprint == key_world.fingerprints["respin"]
        words: List[Tuple[str, bool]] = [(one.word, one.trusted is not None) for one in found.judged]
        assert words == [(word, False) if one == name else ("good", True) for one in order]
    with pytest.raises((VerificationError, PolicyError)) as refused:
        judge(signed(key_world, name), trust, tmp_path)
    assert refused.value.finding == finding
    assert isinstance(refused.value, PolicyError) == (name == "scoped")


def test_both_of_two_good_ones_count(key_world: KeyWorld, trust: TrustStore, tmp_path: Path) -> None:
    found = judge(signed(key_world, "respin", "subkey"), trust, tmp_path)
    assert [one.to_json()["counts"] for one in found.judged] == [True, True]
    assert found.judged[1].key == key_world.fingerprints["subkey"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("damage", ["other statement", "garbage"])
def test_a_broken_one_is_refused_wherever_it_stands(
    key_world: KeyWorld, trust: TrustStore, tmp_path: Path, damage: str, first: bool
) -> None:
    bad = key_world.detach_sign("subkey", b"another") if damage == "other statement" else b"garbage"
    good = signed(key_world, "respin").signatures
    broken = (dsse.EnvelopeSignature(key_world.fingerprints["unknown"], bad),)
    envelope = dsse.Envelope(STATEMENT, dsse.IN_TOTO, broken + good if first else good + broken)
    with pytest.raises(VerificationError, match=f"signature {1 if first else 2} of the slot") as refused:
        judge(envelope, trust, tmp_path)
    assert refused.value.finding == ("badsig" if damage == "other statement" else "malformed")


def test_an_unsigned_statement_is_refused(trust: TrustStore, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="not signed"):
        judge(dsse.Envelope(STATEMENT, dsse.IN_TOTO), trust, tmp_path)


def test_the_attestation_beside_the_iso_keeps_what_others_signed(key_world: KeyWorld) -> None:
    def keyids(bundle: bytes) -> List[List[str]]:
        return [[s.keyid for s in dsse.parse(line, where="x").signatures] for line in bundle.splitlines()]

    one, two = By(key_world, "respin"), By(key_world, "unknown")
    alone = sidecar.renewed(b"", STATEMENT, one, where="x")
    assert keyids(alone) == [[one.fingerprint]]
    both = sidecar.renewed(alone, STATEMENT, two, where="x")
    assert keyids(both) == [[one.fingerprint, two.fingerprint]], "the same statement: a further signature"
    later = sidecar.renewed(both, b'{"later":1}', two, where="x")
    assert keyids(later) == [[one.fingerprint, two.fingerprint], [two.fingerprint]]
    assert later.startswith(both)
    again = sidecar.renewed(later, b'{"later":2}', two, where="x")
    assert keyids(again) == keyids(later)
    assert dsse.parse(again.splitlines()[1], where="x").payload == b'{"later":2}'
    with pytest.raises(MalformedError, match="line 2"):
        sidecar.renewed(alone + b"garbage\n", STATEMENT, two, where="out.iso.intoto.jsonl")
