"""RPMs against the trust store: one valid package, and one change to it in each test."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, Iterator, List

import pytest

from respin.byteview import BytesView
from respin.errors import PolicyError, VerificationError
from respin.formats.openpgp import Keyring, Verdict
from respin.trust import TrustStore
from respin.trust.rpmsig import RpmVerdict, verify_rpm_files
from tests.support import rpmsurgery as surgery
from tests.support.keys import KeyWorld
from tests.support.rpmsurgery import Entry, Parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rpms")


@pytest.fixture(scope="module")
def unsigned(key_world: KeyWorld, folder: Path) -> Path:
    return key_world.build_rpm(folder, "tiny", sections="%post\necho hello\n", preamble="Requires: other >= 2")


@pytest.fixture(scope="module")
def sign(key_world: KeyWorld, folder: Path, unsigned: Path) -> Callable[..., Path]:
    made: Dict[str, Path] = {}

    def signed(name: str = "rpm", **how: object) -> Path:
        kind = f"{name}-{sorted(how.items())}"
        if kind not in made:
            copy = folder / f"{len(made)}.rpm"
            shutil.copy(unsigned, copy)
            made[kind] = key_world.sign_rpm(copy, name, **how)  # type: ignore[arg-type]
        return made[kind]

    return signed


@pytest.fixture(scope="module")
def good(sign: Callable[..., Path]) -> bytes:
    return sign().read_bytes()


@pytest.fixture(scope="module")
def keyring(key_world: KeyWorld, folder: Path) -> Iterator[Keyring]:
    names = ("rpm", "expired", "revoked", "weak", "subkey")
    with Keyring([key_world.public(name) for name in names], folder) as keyring:
        yield keyring


def judge(data: bytes, keyring: Keyring) -> RpmVerdict:
    (verdict,) = verify_rpm_files([BytesView(data, "test.rpm")], keyring)
    return verdict


def old_style(key_world: KeyWorld, unsigned: Path) -> Parts:
    """A package as rpm 4.11 (EL7) made them: no payload digest; one signature on the header, one on everything."""
    parts = surgery.take_apart(unsigned.read_bytes())
    entries, _ = surgery.entries_of(parts.header, 0)
    kept = [entry for entry in entries if entry.tag not in surgery.PAYLOAD_DIGEST_TAGS]
    parts = replace(parts, header=surgery.build_header(kept, surgery.MAIN_REGION))
    return resigned(parts, key_world)


def resigned(parts: Parts, key_world: KeyWorld, name: str = "rpm") -> Parts:
    local = ["--local-user", key_world.fingerprints[name], "--digest-algo", "SHA256", "--detach-sign"]
    on_header = key_world.gpg(*local, data=parts.header)
    on_all = key_world.gpg(*local, data=parts.header + parts.payload)
    return parts.with_signature(
        Entry(surgery.RSAHEADER, 7, len(on_header), on_header), Entry(surgery.SIG_PGP, 7, len(on_all), on_all)
    ).with_right_digests()


def flipped(data: bytes, position: int, bit: int = 0) -> bytes:
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def test_a_good_package_is_verified_and_sealed(key_world: KeyWorld, sign: Callable[..., Path], tmp_path: Path) -> None:
    path = sign()
    rpm = TrustStore.load(key_world.trust).verify_rpm(path, where=str(path), tmpdir=tmp_path)
    assert rpm.header.nevra == "tiny-1.0-1.noarch"
    assert rpm.signer.key.public.fingerprint == key_world.fingerprints["rpm"]
    assert rpm.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert rpm.file_name == path.name
    assert os.pread(rpm.fd, rpm.size + 1, 0) == path.read_bytes()
    for forbidden in (lambda: os.pwrite(rpm.fd, b"x", 0), lambda: os.ftruncate(rpm.fd, 1)):
        with pytest.raises(PermissionError):
            forbidden()
    assert fcntl.fcntl(rpm.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SEAL
    assert path.read_bytes()[96:].startswith(rpm.signature_header)
    rpm.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(rpm.fd)
    assert [left.name.partition("-")[0] for left in tmp_path.iterdir()] == ["keyring"]  # goes with its directory


def test_rpmkeys_agrees_about_the_control(key_world: KeyWorld, sign: Callable[..., Path], tmp_path: Path) -> None:
    """Both controls, the new and the old style, are good by the independent program as well."""
    key = tmp_path / "key.asc"
    key.write_bytes(key_world.public("rpm"))
    database = ["--define", f"_dbpath {tmp_path / 'db'}", "--define", "_pkgverify_level all"]
    subprocess.run(["rpmkeys", *database, "--import", str(key)], check=True)
    subprocess.run(["rpmkeys", *database, "-K", str(sign()), str(sign(v3=True))], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("name", "how", "word"),
    [
        ("rpm", {}, "GOOD"),
        ("rpm", {"v3": True}, "GOOD"),
        ("rpm", {"digest": "sha512"}, "GOOD"),
        ("rpm", {"digest": "sha1"}, "WEAK"),
        ("weak", {}, "WEAK"),
        ("expired", {}, "EXPKEY"),
        ("revoked", {}, "REVKEY"),
        ("unknown", {}, "NOKEY"),
    ],
)
def test_the_word_for_each_key(
    sign: Callable[..., Path], keyring: Keyring, name: str, how: Dict[str, object], word: str
) -> None:
    verdict = judge(sign(name, **how).read_bytes(), keyring)
    assert verdict.verdict.value == word
    assert verdict.by_gpg.value == word


def test_what_rpm_cannot_check_is_unsupported_and_never_guessed(sign: Callable[..., Path], keyring: Keyring) -> None:
    verdict = judge(sign("subkey").read_bytes(), keyring)
    assert verdict.by_gpg is Verdict.GOOD
    # rpm 4.18 takes no subkeys from a keyring of its bindings; newer ones may
    assert verdict.verdict is (Verdict.GOOD if verdict.by_rpm == "GOOD" else Verdict.UNSUPPORTED)
    assert verdict.by_rpm in ("GOOD", "NOKEY")


@pytest.mark.parametrize("name", ["base", "plugin", "respin"])
def test_a_key_of_another_role_is_unknown(
    key_world: KeyWorld, sign: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    store = TrustStore.load(key_world.trust)
    with pytest.raises(VerificationError, match=f"trusted for {name}, not for rpm") as caught:
        store.verify_rpm(sign(name), where="x.rpm", tmpdir=tmp_path)
    assert caught.value.finding == "nokey"


def test_scope_is_judged_on_the_package_name(
    key_world: KeyWorld, sign: Callable[..., Path], folder: Path, tmp_path: Path
) -> None:
    store = TrustStore.load(key_world.trust)
    with pytest.raises(PolicyError) as caught:
        store.verify_rpm(sign("scoped"), where="x.rpm", tmpdir=tmp_path)
    assert caught.value.finding == "out-of-scope"
    allowed = key_world.sign_rpm(key_world.build_rpm(folder, "only-this-one"), "scoped")
    store.verify_rpm(allowed, where="x.rpm", tmpdir=tmp_path).close()


@pytest.mark.parametrize(("name", "flag"), [("expired", "allow_expired"), ("weak", "allow_weak")])
def test_opt_in(key_world: KeyWorld, sign: Callable[..., Path], tmp_path: Path, name: str, flag: str) -> None:
    without = TrustStore.load(key_world.make_store(tmp_path / "without", {name: ["rpm"]}))
    with pytest.raises(VerificationError):
        without.verify_rpm(sign(name), where="x.rpm", tmpdir=tmp_path)
    opted = TrustStore.load(key_world.make_store(tmp_path / "with", {name: ["rpm"]}, **{flag: True}))
    rpm = opted.verify_rpm(sign(name), where="x.rpm", tmpdir=tmp_path)
    assert rpm.signer.signature.verdict.value == {"expired": "EXPKEY", "weak": "WEAK"}[name]
    rpm.close()
    data = sign(name).read_bytes()
    for position in (len(data) - 20, data.index(surgery.MAGIC, 200) + 400):
        with pytest.raises(VerificationError):
            opted.verify_rpm(BytesView(flipped(data, position), "x.rpm"), where="x.rpm", tmpdir=tmp_path)


def test_no_signature_is_unsigned(unsigned: Path, good: bytes, keyring: Keyring) -> None:
    assert judge(unsigned.read_bytes(), keyring).verdict is Verdict.UNSIGNED
    stripped = surgery.take_apart(good).with_signature(without=[surgery.RSAHEADER]).join()
    assert judge(stripped, keyring).verdict is Verdict.UNSIGNED


def test_rebuilding_the_signature_header_alone_changes_nothing(good: bytes, keyring: Keyring) -> None:
    """The control for every test below that puts a package together again."""
    parts = surgery.take_apart(good)
    assert judge(parts.join(), keyring).verdict is Verdict.GOOD
    assert judge(parts.with_right_digests().join(), keyring).verdict is Verdict.GOOD


def test_payload_that_nothing_signed_covers(key_world: KeyWorld, unsigned: Path, keyring: Keyring) -> None:
    """The EL7 attack: drop the signature over everything, swap the payload, repair the unsigned digests."""
    parts = old_style(key_world, unsigned)
    control = judge(parts.join(), keyring)
    assert (control.verdict, control.by_rpm) == (Verdict.GOOD, "GOOD")
    assert [(item.tag, item.covers_payload) for item in control.signatures] == [("RSAHEADER", False), ("SIG_PGP", True)]
    stripped = parts.with_signature(without=[surgery.SIG_PGP])
    assert judge(stripped.join(), keyring).verdict is Verdict.PAYLOAD_NOT_COVERED
    swapped = replace(stripped, payload=flipped(parts.payload, 30)).with_right_digests()
    judged = judge(swapped.join(), keyring)
    assert judged.by_gpg is Verdict.PAYLOAD_NOT_COVERED
    assert judged.verdict is Verdict.PAYLOAD_NOT_COVERED
    kept = replace(parts, payload=flipped(parts.payload, 30)).with_right_digests()
    assert judge(kept.join(), keyring).verdict is Verdict.BADSIG


def test_two_halves_by_two_keys_are_not_one_whole(key_world: KeyWorld, unsigned: Path, keyring: Keyring) -> None:
    """An unknown key over everything does not cover the payload for a known key over the header."""
    parts = old_style(key_world, unsigned)
    other = resigned(parts, key_world, "unknown")
    mixed = parts.with_signature(*[entry for entry in other.signature if entry.tag == surgery.SIG_PGP])
    judged = judge(mixed.join(), keyring)
    assert judged.verdict is not Verdict.GOOD
    assert judged.signers == ()


def test_two_concatenated_signatures(good: bytes, keyring: Keyring) -> None:
    parts = surgery.take_apart(good)
    (signature,) = [entry for entry in parts.signature if entry.tag == surgery.RSAHEADER]
    double = replace(signature, count=2 * signature.count, data=signature.data * 2)
    judged = judge(parts.with_signature(double).join(), keyring)
    assert judged.by_gpg is Verdict.MALFORMED
    assert judged.verdict is Verdict.MALFORMED


def test_an_entry_outside_the_region(good: bytes, keyring: Keyring) -> None:
    """The dribble attack: a %preun that nobody signed, behind the signed region."""
    parts = surgery.take_apart(good)
    entries, _ = surgery.entries_of(parts.header, 0)
    assert surgery.build_header(entries, surgery.MAIN_REGION) == parts.header
    script = Entry(1025, 6, 1, b"touch /pwned\0")
    dribbled = replace(parts, header=surgery.build_header(entries, surgery.MAIN_REGION, outside=[script]))
    assert judge(dribbled.with_right_digests().join(), keyring).verdict is Verdict.MALFORMED
    inside = replace(parts, header=surgery.build_header([*entries, script], surgery.MAIN_REGION))
    assert judge(inside.with_right_digests().join(), keyring).verdict is Verdict.BADSIG


def test_bytes_behind_the_payload(good: bytes, keyring: Keyring) -> None:
    assert judge(good + b"X" * 10, keyring).verdict is Verdict.BADDIGEST
    parts = surgery.take_apart(good)
    longer = replace(parts, payload=parts.payload + b"X" * 10).with_right_digests()
    assert judge(longer.join(), keyring).verdict is Verdict.BADDIGEST
    assert judge(good[:-1], keyring).verdict is Verdict.BADDIGEST


@pytest.mark.parametrize("tag", [surgery.SHA1HEADER, surgery.SHA256HEADER, surgery.SIG_MD5, surgery.SIG_SIZE])
def test_every_digest_must_hold(good: bytes, keyring: Keyring, tag: int) -> None:
    parts = surgery.take_apart(good)
    (entry,) = [entry for entry in parts.with_right_digests().signature if entry.tag == tag]
    digits = flipped(entry.data, 3) if tag in (surgery.SIG_MD5, surgery.SIG_SIZE) else b"0" * 8 + entry.data[8:]
    assert judge(parts.with_signature(replace(entry, data=digits)).join(), keyring).verdict is Verdict.BADDIGEST


def test_every_flipped_bit_in_header_and_payload_is_refused(good: bytes, keyring: Keyring) -> None:
    parts = surgery.take_apart(good)
    first = len(good) - len(parts.payload) - len(parts.header)
    chance = random.Random(4711)
    positions = [chance.randrange(first, len(good)) for _ in range(60)]
    damaged = [BytesView(flipped(good, position, chance.randrange(8)), f"{position}") for position in positions]
    words = [verdict.verdict for verdict in verify_rpm_files(damaged, keyring)]
    assert len(words) == 60
    assert {word for word in words if word not in (Verdict.BADDIGEST, Verdict.MALFORMED)} == set()


def test_an_attacker_who_repairs_the_digests_is_refused_too(good: bytes, keyring: Keyring) -> None:
    parts = surgery.take_apart(good)
    chance = random.Random(42)
    changed: List[Parts] = []
    for _ in range(12):
        changed.append(replace(parts, header=flipped(parts.header, chance.randrange(16, len(parts.header)))))
        changed.append(replace(parts, payload=flipped(parts.payload, chance.randrange(len(parts.payload)))))
    views = [BytesView(item.with_right_digests().join(), "changed") for item in changed]
    words = {verdict.verdict for verdict in verify_rpm_files(views, keyring)}
    assert words <= {Verdict.BADSIG, Verdict.BADDIGEST, Verdict.MALFORMED}
    assert Verdict.BADSIG in words


def test_flips_outside_what_is_signed_change_nothing_that_is_used(good: bytes, keyring: Keyring) -> None:
    parts = surgery.take_apart(good)
    last = len(good) - len(parts.payload) - len(parts.header)
    chance = random.Random(7)
    views = [BytesView(flipped(good, chance.randrange(last), chance.randrange(8)), "lead") for _ in range(40)]
    for verdict in verify_rpm_files(views, keyring):
        if verdict.verdict is Verdict.GOOD:
            assert verdict.rpm is not None
            assert verdict.rpm.header.raw == parts.header


@pytest.mark.parametrize("length", [0, 3, 95, 96, 100, 112, 500, 1500])
def test_truncated_files(good: bytes, keyring: Keyring, length: int) -> None:
    assert judge(good[:length], keyring).verdict is Verdict.MALFORMED


def test_a_package_of_rpm_3_is_unsupported(good: bytes, keyring: Keyring) -> None:
    parts = surgery.take_apart(good)
    entries, _ = surgery.entries_of(parts.header, 0)
    old = replace(parts, header=surgery.build_header(entries, None))
    assert judge(old.with_right_digests().join(), keyring).verdict is Verdict.UNSUPPORTED


def test_the_host_has_no_say(
    key_world: KeyWorld, sign: Callable[..., Path], keyring: Keyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither ~/.gnupg nor ~/.rpmmacros of whoever runs respin makes an unknown key known."""
    (tmp_path / ".rpmmacros").write_text("%_pkgverify_level none\n%_pkgverify_flags 0xffffff\n")
    home = tmp_path / ".gnupg"
    home.mkdir(mode=0o700)
    key_world.gpg("--no-autostart", "--import", data=key_world.public("unknown"), home=home)
    for name, value in {"HOME": tmp_path, "GNUPGHOME": home, "RPM_CONFIGDIR": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    judged = judge(sign("unknown").read_bytes(), keyring)
    assert (judged.by_gpg.value, judged.by_rpm) == ("NOKEY", "NOKEY")


def test_a_huge_claim_costs_nothing(good: bytes, keyring: Keyring) -> None:
    first = 96
    claims = struct.pack(">II", 0xFFFF, 0x0FFFFFFF)
    assert judge(good[: first + 8] + claims + good[first + 16 :], keyring).verdict is Verdict.MALFORMED
