"""Minimum versions and the end of a trust store: what policy.toml may say, and what follows from it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from respin.errors import PolicyError, UsageError, VerificationError
from respin.formats.openpgp import Keyring, Verdict
from respin.trust import NODE, PLUGIN, Role, TrustStore, add_key, policyfile
from respin.trust.minimum import Minimum
from tests.support.forge import respin
from tests.support.keys import KeyWorld

DAY = 86_400


@pytest.mark.parametrize(
    ("lowest", "accepted", "refused"),
    [
        (("1.2", None), ["1.2-1", "1.2-0", "1.10-1", "2-1", "1.2.0-1"], ["1.1-9", "1.2~rc1-1", "0-1", "-", "-5"]),
        (("1.2", "3"), ["1.2-3", "1.2-10", "1.3-1"], ["1.2-2", "1.1-9", "1.2-3~a", "1.2-"]),
    ],
)
def test_versions_are_compared_as_rpm_does(
    lowest: "tuple[str, str | None]", accepted: "list[str]", refused: "list[str]"
) -> None:
    minimum = Minimum(PLUGIN, "exnic", *lowest)
    for label, wanted in [*((one, True) for one in accepted), *((one, False) for one in refused)]:
        version, _, release = label.partition("-")
        assert minimum.accepts(version, release) is wanted, label


def store(key_world: KeyWorld, path: Path, text: str) -> Path:
    """A trust store of the key world with ``text`` in front of its keys."""
    made = key_world.make_store(path, {role: [role] for role in ("base", "plugin", "rpm", "respin")})
    policy = made / "policy.toml"
    policy.write_text(policy.read_text().replace("version = 1", f"version = 1\n{text}", 1))
    return made


MINIMUMS = '[minimum.node.example-node]\nversion = "1.0"\nrelease = "3"\n[minimum.plugin.exnic]\nversion = "1.2"\n'


def test_a_store_says_what_is_too_old(key_world: KeyWorld, tmp_path: Path) -> None:
    trust = TrustStore.load(store(key_world, tmp_path / "trust", MINIMUMS))
    trust.require_recent(NODE, "example-node", "1.0", "3", where="x")
    trust.require_recent(NODE, "exnic", "0.1", "1", where="x")
    trust.require_recent(PLUGIN, "another", "0.1", "1", where="x")
    for kind, name, version, release in [(NODE, "example-node", "1.0", "2"), (PLUGIN, "exnic", "1.1", "9")]:
        with pytest.raises(PolicyError) as caught:
            trust.require_recent(kind, name, version, release, where="x")
        assert caught.value.finding == "too-old"


def test_the_digest_covers_minimums_and_end(key_world: KeyWorld, tmp_path: Path) -> None:
    texts = ["", MINIMUMS, MINIMUMS.replace("1.2", "1.3"), "expires = 2999-01-01\n", "expires = 2999-01-02\n"]
    digests = {TrustStore.load(store(key_world, tmp_path / str(n), text)).digest for n, text in enumerate(texts)}
    assert len(digests) == len(texts)


def test_adding_a_key_keeps_the_rest(key_world: KeyWorld, tmp_path: Path) -> None:
    path = store(key_world, tmp_path / "trust", "expires = 2999-01-01\n" + MINIMUMS)
    before = TrustStore.load(path).policy
    add_key(path, key_world.public("unknown"), Role.PLUGIN, tier="community")
    after = TrustStore.load(path).policy
    assert (after.minimums, after.expires) == (before.minimums, before.expires)
    assert len(after.entries) == len(before.entries) + 1


@pytest.mark.parametrize(
    "text",
    [
        'expires = "2027-01-01"',
        "expires = 2027-01-01T00:00:00Z",
        "expires = 2027",
        "minimum = 1",
        "[minimum.kernel.x]\nversion = '1'",
        "[minimum.plugin]\nexnic = '1'",
        "[minimum.plugin.exnic]",
        "[minimum.plugin.exnic]\nversion = 1.2",
        "[minimum.plugin.exnic]\nversion = '1-2'",
        "[minimum.plugin.exnic]\nversion = ''",
        "[minimum.plugin.exnic]\nversion = '1'\nepoch = '1'",
        "[minimum.plugin.'a b']\nversion = '1'",
    ],
)
def test_what_may_not_stand_there(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        policyfile.parse(f"version = 1\n{text}\n", where="policy.toml")
    assert caught.value.finding == "trust-store"


def test_an_expired_store_judges_nothing(key_world: KeyWorld, tmp_path: Path) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    path = store(key_world, tmp_path / "trust", f"expires = {today}\n")
    signature = key_world.detach_sign("respin", b"data")
    subject = {"where": "x", "tmpdir": tmp_path}
    with pytest.raises(VerificationError) as caught:
        TrustStore.load(path).verify_detached(Role.RESPIN, "x", signature, b"data", **subject)
    assert caught.value.finding == "trust-expired"
    assert today in caught.value.what
    before = int(time.time()) // DAY * DAY - 1
    store_then = TrustStore.load(path, at=before)
    with pytest.raises(VerificationError) as caught:
        store_then.verify_detached(Role.RESPIN, "x", signature, b"data", **subject)
    assert caught.value.finding != "trust-expired", "the store counts; the keys were not made yet"


def test_expiry_of_keys_is_judged_at_a_stated_time(key_world: KeyWorld, tmp_path: Path) -> None:
    """A key that has expired since counts by the time at which it had not."""
    signature = key_world.detach_sign("expired", b"data")
    with Keyring([key_world.public("expired")], tmp_path) as keyring:
        judged = keyring.verify_detached(signature, b"data")
    assert judged.verdict is Verdict.EXPKEY
    made = judged.created
    assert made is not None
    with Keyring([key_world.public("expired")], tmp_path, at=made + 1) as keyring:
        assert keyring.verify_detached(signature, b"data").verdict is Verdict.GOOD
        assert keyring.verify_detached(signature, b"other").verdict is Verdict.BADSIG


def test_what_was_signed_after_the_stated_time_does_not_count(key_world: KeyWorld, tmp_path: Path) -> None:
    now = int(time.time())
    signature = key_world.detach_sign("respin", b"data", "--faked-system-time", f"{now + DAY}!")
    with Keyring([key_world.public("respin")], tmp_path, at=now + 2 * DAY) as keyring:
        assert keyring.verify_detached(signature, b"data").verdict is Verdict.GOOD
    for at in (now + DAY - 1, now - 10 * DAY):  # the second is before the key was made, so GnuPG does not look at it
        with Keyring([key_world.public("respin")], tmp_path, at=at) as keyring:
            judged = keyring.verify_detached(signature, b"data")
        assert judged.verdict is Verdict.FUTURE
        assert "after the time of judging" in judged.detail


def test_list_shows_them(key_world: KeyWorld, tmp_path: Path) -> None:
    path = store(key_world, tmp_path / "trust", "expires = 2020-02-03\n" + MINIMUMS)
    done = respin("keys", "list", "--trust", path)
    assert done.code == 0, done.err
    assert "minimum node example-node: 1.0-3\nminimum plugin exnic: 1.2\n" in done.out
    assert "EXPIRED 2020-02-03" in done.out
    document = json.loads(respin("keys", "list", "--trust", path, "--json").out)
    assert document["expires"] == "2020-02-03"
    assert document["minimum"][1] == {"kind": "plugin", "name": "exnic", "version": "1.2", "release": None}
