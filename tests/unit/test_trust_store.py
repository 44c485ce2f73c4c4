"""The trust store: what it refuses to load, and what it refuses to believe."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable

import pytest

from respin.errors import PolicyError, UsageError, VerificationError
from respin.trust import Role, TrustedSignature, TrustStore, add_key
from tests.support.keys import KeyWorld

TEXT = b"the manifest\n"


@pytest.fixture(scope="module")
def store(key_world: KeyWorld) -> TrustStore:
    return TrustStore.load(key_world.trust)


@pytest.fixture
def copied(key_world: KeyWorld, tmp_path: Path) -> Path:
    return Path(shutil.copytree(key_world.trust, tmp_path / "trust"))


def refusal(store: TrustStore, role: Role, signature: bytes, tmp_path: Path, data: bytes = TEXT) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        store.verify_detached(role, "subject", signature, data, where="manifest.json.asc", tmpdir=tmp_path)
    assert caught.value.exit_code == 3
    assert caught.value.where == "manifest.json.asc"
    assert caught.value.remedy
    return caught.value


def test_a_key_that_could_not_sign_in_a_role_is_told_beforehand(store: TrustStore, key_world: KeyWorld) -> None:
    store.require_key(Role.RESPIN, key_world.fingerprints["respin"])
    for name in ("base", "unknown"):
        with pytest.raises(VerificationError, match=key_world.fingerprints[name]) as caught:
            store.require_key(Role.RESPIN, key_world.fingerprints[name])
        assert caught.value.finding == "nokey"


def test_where_there_is_no_store_the_way_to_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no trust store") as caught:
        TrustStore.load(tmp_path / "trust")
    assert caught.value.remedy is not None
    assert "respin keys add" in caught.value.remedy


@pytest.mark.parametrize("role", list(Role))
def test_a_key_is_believed_in_its_own_role_only(
    store: TrustStore, key_world: KeyWorld, tmp_path: Path, role: Role
) -> None:
    signature = key_world.detach_sign(str(role), TEXT)
    trusted = store.verify_detached(role, "subject", signature, TEXT, where="x", tmpdir=tmp_path)
    assert trusted.key.public.fingerprint == key_world.fingerprints[str(role)]
    for other in Role:
        if other is not role:
            error = refusal(store, other, signature, tmp_path)
            assert error.finding == "nokey"
            assert f"trusted for {role}, not for {other}" in error.what


@pytest.mark.parametrize(
    ("name", "finding"), [("unknown", "nokey"), ("expired", "expkey"), ("revoked", "revkey"), ("weak", "weak")]
)
def test_a_bad_key_is_refused_with_its_word(
    store: TrustStore, key_world: KeyWorld, tmp_path: Path, name: str, finding: str
) -> None:
    assert refusal(store, Role.PLUGIN, key_world.detach_sign(name, TEXT), tmp_path).finding == finding


def test_a_weak_hash_changed_data_and_no_signature_are_refused(
    store: TrustStore, key_world: KeyWorld, tmp_path: Path
) -> None:
    weak = key_world.detach_sign("plugin", TEXT, "--digest-algo", "SHA1")
    good = key_world.detach_sign("plugin", TEXT)
    assert refusal(store, Role.PLUGIN, weak, tmp_path).finding == "weak"
    assert refusal(store, Role.PLUGIN, good, tmp_path, TEXT + b"\n").finding == "badsig"
    assert refusal(store, Role.PLUGIN, b"", tmp_path).finding == "unsigned"
    assert refusal(store, Role.PLUGIN, b"rubbish", tmp_path).finding == "malformed"


def test_a_signing_subkey_counts_as_its_primary_key(store: TrustStore, key_world: KeyWorld, tmp_path: Path) -> None:
    signature = key_world.detach_sign("subkey", TEXT)
    trusted = store.verify_detached(Role.PLUGIN, "subject", signature, TEXT, where="x", tmpdir=tmp_path)
    assert trusted.signature.primary == key_world.fingerprints["subkey"]
    assert trusted.signature.signing_key != trusted.signature.primary


def test_scope_is_policy_and_not_verification(store: TrustStore, key_world: KeyWorld, tmp_path: Path) -> None:
    signature = key_world.detach_sign("scoped", TEXT)
    store.verify_detached(Role.PLUGIN, "only-this-1", signature, TEXT, where="x", tmpdir=tmp_path)
    with pytest.raises(PolicyError) as caught:
        store.verify_detached(Role.PLUGIN, "another", signature, TEXT, where="x", tmpdir=tmp_path)
    assert caught.value.finding == "out-of-scope"
    assert "only-this*" in caught.value.what


@pytest.mark.parametrize(("name", "flag"), [("expired", "allow_expired"), ("weak", "allow_weak")])
def test_opt_in_is_per_problem_and_recorded(key_world: KeyWorld, tmp_path: Path, name: str, flag: str) -> None:
    signature = key_world.detach_sign(name, TEXT)
    right = TrustStore.load(key_world.make_store(tmp_path / "right", {name: ["plugin"]}, **{flag: True}))
    trusted = right.verify_detached(Role.PLUGIN, "s", signature, TEXT, where="x", tmpdir=tmp_path)
    assert [problem.value for problem in trusted.signature.problems] == ["EXPKEY" if name == "expired" else "WEAK"]
    refusal(right, Role.PLUGIN, signature, tmp_path, b"other text")
    other = {"allow_expired": "allow_weak", "allow_weak": "allow_expired"}[flag]
    wrong = TrustStore.load(key_world.make_store(tmp_path / "wrong", {name: ["plugin"]}, **{other: True}))
    refusal(wrong, Role.PLUGIN, signature, tmp_path)


def test_no_opt_in_accepts_what_gnupg_did_not_validate(key_world: KeyWorld, tmp_path: Path) -> None:
    """GnuPG does not check MD5 signatures at all: allow-weak must not turn that into a yes."""
    store = TrustStore.load(key_world.make_store(tmp_path / "t", {"plugin": ["plugin"]}, allow_weak=True))
    signature = key_world.detach_sign("plugin", TEXT, "--digest-algo", "MD5", "--allow-weak-digest-algos")
    assert refusal(store, Role.PLUGIN, signature, tmp_path).finding == "weak"
    assert refusal(store, Role.PLUGIN, signature, tmp_path, b"anything").finding == "weak"


def test_clearsigned_text(store: TrustStore, key_world: KeyWorld, tmp_path: Path) -> None:
    signed = key_world.clearsign("base", b"SHA256 (node.iso) = 00\n- dashed\n")
    trusted, content = store.verify_clearsigned(Role.BASE, "node.iso", signed, where="C", tmpdir=tmp_path)
    assert content == b"SHA256 (node.iso) = 00\n- dashed\n"
    assert trusted.key.role is Role.BASE
    with pytest.raises(VerificationError, match="BADSIG"):
        store.verify_clearsigned(Role.BASE, "n", signed.replace(b"= 00", b"= 01"), where="C", tmpdir=tmp_path)


def test_trusted_signatures_are_made_by_the_store_only(store: TrustStore, key_world: KeyWorld, tmp_path: Path) -> None:
    signature = key_world.detach_sign("rpm", TEXT)
    trusted = store.verify_detached(Role.RPM, "s", signature, TEXT, where="x", tmpdir=tmp_path)
    with pytest.raises(TypeError):
        TrustedSignature(trusted.key, trusted.signature)


def edited(old: str, new: str) -> Callable[[Path, KeyWorld], None]:
    def change(path: Path, world: KeyWorld) -> None:
        policy = path / "policy.toml"
        text = policy.read_text()
        assert old in text
        policy.write_text(text.replace(old, new, 1))

    return change


def second_key_in_file(path: Path, world: KeyWorld) -> None:
    file = path / "base" / f"{world.fingerprints['base']}.asc"
    file.write_bytes(file.read_bytes() + world.public("unknown"))


def secret_key_in_file(path: Path, world: KeyWorld) -> None:
    secret = world.gpg("--armor", "--export-secret-keys", world.fingerprints["base"])
    (path / "base" / f"{world.fingerprints['base']}.asc").write_bytes(secret)


@pytest.mark.parametrize(
    "damage",
    [
        edited("version = 1", "version = 2"),
        edited("version = 1", "version = true"),
        edited("version = 1", "version = 1\nkeys = 2"),
        edited('tier = "partner"', 'tier = "emperor"'),
        edited('role = "base"', 'role = "plugin"'),
        edited('role = "base"', 'role = "root"'),
        edited('scope = ["*"]', "scope = []"),
        edited('scope = ["*"]', 'scope = "*"'),
        edited('scope = ["*"]', 'scope = ["*"]\nallow-anything = true'),
        edited('scope = ["*"]', 'scope = ["*"]\nallow-weak = "yes"'),
        edited('fingerprint = "', 'fingerprint = "0'),
        edited("[[key]]", "[[key]"),
        edited("[[key]]", "[key]"),
        lambda path, world: (path / "policy.toml").unlink(),
        lambda path, world: (path / "policy.toml").write_bytes(b"\xff\xfe"),
        lambda path, world: (path / "base" / f"{world.fingerprints['base']}.asc").unlink(),
        lambda path, world: (path / "base" / f"{world.fingerprints['base']}.asc").write_bytes(b"no key"),
        lambda path, world: (path / "base" / f"{world.fingerprints['base']}.asc").write_bytes(world.public("rpm")),
        lambda path, world: (path / "base" / "extra.asc").write_bytes(world.public("unknown")),
        lambda path, world: (path / "stray.asc").write_bytes(world.public("unknown")),
        second_key_in_file,
        secret_key_in_file,
    ],
)
def test_a_broken_store_is_refused(
    copied: Path, key_world: KeyWorld, damage: Callable[[Path, KeyWorld], object]
) -> None:
    TrustStore.load(copied)
    damage(copied, key_world)
    with pytest.raises(UsageError) as caught:
        TrustStore.load(copied)
    assert caught.value.where
    assert str(copied) in caught.value.where


def test_the_digest_is_of_the_content_and_not_of_its_order(copied: Path, store: TrustStore) -> None:
    policy = copied / "policy.toml"
    head, *tables = policy.read_text().split("[[key]]")
    policy.write_text(head + "# a comment\n" + "".join(f"[[key]]{table}" for table in reversed(tables)))
    assert TrustStore.load(copied).digest == store.digest
    policy.write_text(policy.read_text().replace('tier = "partner"', 'tier = "vendor"', 1))
    assert TrustStore.load(copied).digest != store.digest


def test_keys_are_added_one_by_one(key_world: KeyWorld, tmp_path: Path) -> None:
    path = tmp_path / "new" / "trust"
    first = add_key(path, key_world.public("plugin"), Role.PLUGIN, tier="certified", scope=["exnic-*"])
    add_key(path, key_world.public("rpm"), Role.RPM, tier="community", comment='says "hello"')
    store = TrustStore.load(path)
    assert [(key.role, key.tier, key.scope) for key in store.keys] == [
        (Role.PLUGIN, "certified", ("exnic-*",)),
        (Role.RPM, "community", ("*",)),
    ]
    assert first == store.keys[0]
    with pytest.raises(UsageError, match="already"):
        add_key(path, key_world.public("rpm"), Role.RPM, tier="community")
    with pytest.raises(UsageError, match="no tier"):
        add_key(path, key_world.public("unknown"), Role.RPM, tier="emperor")
    with pytest.raises(UsageError, match="2 keys"):
        add_key(path, key_world.public("unknown") + key_world.public("base"), Role.RPM, tier="community")
    assert TrustStore.load(path).digest == store.digest


def test_adding_refuses_a_folder_that_is_no_store(key_world: KeyWorld, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("Dear all")
    with pytest.raises(UsageError):
        add_key(tmp_path / "letters", key_world.public("rpm"), Role.RPM, tier="community")
