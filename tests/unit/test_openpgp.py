"""OpenPGP by GnuPG: framing, verdicts, clearsigned text, signing; checked against gpg and gpgv themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.errors import MalformedError, UnsupportedError, UsageError
from respin.formats.openpgp import (
    Keyring,
    PublicKey,
    Signer,
    Verdict,
    export_public,
    fingerprints,
    generate_key,
    read_keys,
)
from respin.formats.openpgp import packets as framing
from respin.formats.openpgp.cleartext import signature_packets
from respin.formats.openpgp.home import agent_is_running
from respin.limits import LIMITS
from tests.support.keys import KeyWorld

DATA = b"some data\n"
NAMES = ("plugin", "expired", "revoked", "weak", "subkey")
ARMOR = b"PGP SIGNATURE"


@pytest.fixture(scope="module")
def keyring(key_world: KeyWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyring]:
    tmpdir = tmp_path_factory.mktemp("keyring")
    with Keyring([key_world.public(name) for name in NAMES], tmpdir) as keyring:
        yield keyring


@pytest.fixture(scope="module")
def signature(key_world: KeyWorld) -> bytes:
    return key_world.detach_sign("plugin", DATA)


@pytest.fixture(scope="module")
def clearsigned(key_world: KeyWorld) -> bytes:
    return key_world.clearsign("plugin", b"first line\n- dashed\n\nlast line\n")


def key_named(keyring: Keyring, key_world: KeyWorld, name: str) -> PublicKey:
    return next(key for key in keyring.keys if key.fingerprint == key_world.fingerprints[name])


# keys


def test_keys_are_described(keyring: Keyring, key_world: KeyWorld) -> None:
    plugin = key_named(keyring, key_world, "plugin")
    assert plugin.user_ids == ("TEST plugin key <plugin@test.example>",)
    assert (plugin.algorithm, plugin.expires, plugin.revoked, plugin.subkeys) == ("rsa2048", None, False, ())
    assert key_named(keyring, key_world, "expired").expires == 1609459200
    assert key_named(keyring, key_world, "revoked").revoked
    assert len(key_named(keyring, key_world, "subkey").subkeys) == 1
    assert key_named(keyring, key_world, "weak").algorithm == "rsa1024"


def test_armored_keys_are_what_gpg_exports(keyring: Keyring, key_world: KeyWorld) -> None:
    for name in NAMES:
        ours = framing.dearmor(key_named(keyring, key_world, name).armored, b"PGP PUBLIC KEY BLOCK", where="x")
        assert ours == key_world.gpg("--dearmor", data=key_world.public(name))


def test_key_files_may_hold_comments_and_several_keys(key_world: KeyWorld, tmp_path: Path) -> None:
    text = b"The key of a vendor:\n" + key_world.public("rpm") + b"\nand another\n" + key_world.public("base")
    found = [key.fingerprint for key in read_keys(text, tmp_path)]
    assert found == [key_world.fingerprints["rpm"], key_world.fingerprints["base"]]
    assert fingerprints(text, where="x") == tuple(found)
    binary = key_world.gpg("--dearmor", data=key_world.public("rpm"))
    assert [key.fingerprint for key in read_keys(binary, tmp_path)] == found[:1]
    assert list(tmp_path.iterdir()) == []


def version_6_key() -> bytes:
    body = b"\x06" + bytes(4) + b"\x1b" + (32).to_bytes(4, "big") + bytes(32)
    return b"\xc6" + bytes([len(body)]) + body


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", MalformedError),
        (b"hello", MalformedError),
        (b"\x99", MalformedError),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n", MalformedError),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n????\n-----END PGP PUBLIC KEY BLOCK-----\n", MalformedError),
        (version_6_key(), UnsupportedError),
        (b"\xcd\x01x", MalformedError),
    ],
)
def test_what_is_no_key(data: bytes, error: type, tmp_path: Path) -> None:
    with pytest.raises(error):
        read_keys(data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_private_and_oversized_and_unbound_keys_are_refused(key_world: KeyWorld, tmp_path: Path) -> None:
    for armor in (["--armor"], []):
        secret = key_world.gpg(*armor, "--export-secret-keys", key_world.fingerprints["rpm"])
        with pytest.raises(MalformedError, match="private"):
            read_keys(secret, tmp_path)
    with pytest.raises(MalformedError, match="too large"):
        read_keys(b"\x99" + bytes(LIMITS.key_file), tmp_path)
    binary = key_world.gpg("--dearmor", data=key_world.public("rpm"))
    unbound = [packet.raw for packet in framing.packets(binary, where="x") if packet.tag != framing.SIGNATURE]
    with pytest.raises(MalformedError, match="self-signature"):
        read_keys(b"".join(unbound), tmp_path)


def test_a_lenient_keyring_skips_and_says_so(key_world: KeyWorld, tmp_path: Path) -> None:
    with Keyring([b"rubbish", key_world.public("rpm"), version_6_key()], tmp_path, strict=False) as keyring:
        assert [key.fingerprint for key in keyring.keys] == [key_world.fingerprints["rpm"]]
        assert len(keyring.skipped) == 2


# detached signatures


@pytest.mark.parametrize(
    ("name", "verdict", "validated"),
    [
        ("plugin", Verdict.GOOD, True),
        ("subkey", Verdict.GOOD, True),
        ("expired", Verdict.EXPKEY, True),
        ("revoked", Verdict.REVKEY, True),
        ("weak", Verdict.WEAK, True),
        ("unknown", Verdict.NOKEY, False),
    ],
)
def test_the_verdict_for_each_key(
    keyring: Keyring, key_world: KeyWorld, name: str, verdict: Verdict, validated: bool
) -> None:
    judged = keyring.verify_detached(key_world.detach_sign(name, DATA), DATA)
    assert (judged.verdict, judged.validated) == (verdict, validated)
    assert judged.primary == (key_world.fingerprints[name] if validated else None)
    assert judged.problems == (() if verdict is Verdict.GOOD else (verdict,))


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        (["--digest-algo", "SHA1"], Verdict.WEAK),
        (["--digest-algo", "RIPEMD160"], Verdict.WEAK),
        (["--digest-algo", "MD5", "--allow-weak-digest-algos"], Verdict.WEAK),
        (["--digest-algo", "SHA512"], Verdict.GOOD),
        (["--textmode"], Verdict.UNSUPPORTED),
    ],
)
def test_the_verdict_for_each_way_of_signing(
    keyring: Keyring, key_world: KeyWorld, options: List[str], verdict: Verdict
) -> None:
    judged = keyring.verify_detached(key_world.detach_sign("plugin", DATA, *options), DATA)
    assert judged.verdict is verdict
    if "MD5" in options:
        assert not judged.validated


def test_expired_signature_of_a_live_key(key_world: KeyWorld, keyring: Keyring) -> None:
    """The key lives, its signature had an end: EXPKEY, as there is no word of its own for it."""
    created = key_named(keyring, key_world, "plugin").created
    options = ["--default-sig-expire", "seconds=1", "--faked-system-time", f"{created + 1}"]
    signature = key_world.detach_sign("plugin", DATA, *options)
    while keyring.verify_detached(signature, DATA).verdict is Verdict.GOOD:
        pass
    judged = keyring.verify_detached(signature, DATA)
    assert judged.verdict is Verdict.EXPKEY
    assert "signature itself" in judged.detail


def test_pieces_views_files_and_offsets(keyring: Keyring, signature: bytes, tmp_path: Path) -> None:
    assert keyring.verify_detached(signature, [b"some", b" ", b"data\n"]).verdict is Verdict.GOOD
    assert keyring.verify_detached_view(signature, iter([DATA[:3], DATA[3:]])).verdict is Verdict.GOOD
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"prefix" + DATA)
        file.flush()
        file.seek(2)
        assert keyring.verify_detached_fd(signature, file.fileno(), 6).verdict is Verdict.GOOD
        assert keyring.verify_detached_fd(signature, file.fileno()).verdict is Verdict.BADSIG
        assert file.tell() == 2


def test_changed_data_is_badsig(keyring: Keyring, signature: bytes) -> None:
    for data in (b"", DATA[:-1], DATA + b"\n", b"Some data\n"):
        assert keyring.verify_detached(signature, data).verdict is Verdict.BADSIG


def test_structure_is_judged_before_gnupg_sees_it(keyring: Keyring, key_world: KeyWorld, signature: bytes) -> None:
    binary = framing.dearmor(signature, ARMOR, where="x")
    assert keyring.verify_detached(binary, DATA).verdict is Verdict.GOOD
    inline = key_world.gpg("--local-user", key_world.fingerprints["plugin"], "--sign", data=DATA)
    uncompressed = key_world.gpg(
        "--local-user", key_world.fingerprints["plugin"], "--compress-algo", "none", "--sign", data=DATA
    )
    for bad in (
        binary * 2,
        binary + b"\0",
        binary[:-1],
        signature * 2,
        b"hello\n" + signature,
        signature + b"hello\n",
        inline,
        uncompressed,
        key_world.public("plugin"),
        framing.armor(binary * 2, ARMOR),
    ):
        assert keyring.verify_detached(bad, DATA).verdict is Verdict.MALFORMED
    assert keyring.verify_detached(b"", DATA).verdict is Verdict.UNSIGNED
    assert keyring.verify_detached(bytes(LIMITS.signature + 1), DATA).verdict is Verdict.MALFORMED
    version_6 = b"\xc2\x03\x06\x00\x1b"
    assert keyring.verify_detached(version_6, DATA).verdict is Verdict.UNSUPPORTED


def test_every_flipped_bit_of_a_signature_is_refused_or_harmless(keyring: Keyring, signature: bytes) -> None:
    """Unhashed subpackets and the packet's framing are signed by nobody; everything else must hold."""
    binary = framing.dearmor(signature, ARMOR, where="x")
    for position in range(0, len(binary), 7):
        changed = binary[:position] + bytes([binary[position] ^ 0x10]) + binary[position + 1 :]
        judged = keyring.verify_detached(changed, DATA)
        assert judged.verdict is not Verdict.GOOD or judged.primary is not None
        assert keyring.verify_detached(changed, DATA + b"x").verdict is not Verdict.GOOD


def test_an_empty_keyring_knows_nobody(tmp_path: Path, signature: bytes) -> None:
    with Keyring([], tmp_path) as keyring:
        assert keyring.keys == ()
        assert keyring.verify_detached(signature, DATA).verdict is Verdict.NOKEY


def test_nothing_is_left_of_a_keyring(key_world: KeyWorld, tmp_path: Path, signature: bytes) -> None:
    with Keyring([key_world.public("plugin")], tmp_path) as keyring:
        (home,) = tmp_path.iterdir()
        assert home.stat().st_mode & 0o777 == 0o700
        keyring.verify_detached(signature, DATA)
        assert not any(path.is_socket() for path in home.iterdir())
    assert list(tmp_path.iterdir()) == []


# clearsigned text


def test_clearsigned_text_comes_from_gnupg(keyring: Keyring, clearsigned: bytes) -> None:
    judged, text = keyring.verify_clearsigned(clearsigned)
    assert judged.verdict is Verdict.GOOD
    assert text == b"first line\n- dashed\n\nlast line\n"


def test_white_space_that_is_not_signed_is_not_returned(keyring: Keyring, clearsigned: bytes) -> None:
    judged, text = keyring.verify_clearsigned(clearsigned.replace(b"first line\n", b"first line \t \n"))
    assert judged.verdict is Verdict.GOOD
    assert text == b"first line\n- dashed\n\nlast line\n"


def test_carriage_returns_in_transit_do_no_harm(keyring: Keyring, clearsigned: bytes) -> None:
    judged, text = keyring.verify_clearsigned(clearsigned.replace(b"\n", b"\r\n"))
    assert judged.verdict is Verdict.GOOD
    assert text == b"first line\n- dashed\n\nlast line\n"


def tampered(text: bytes) -> List[Tuple[bytes, Verdict]]:
    head = b"-----BEGIN PGP SIGNED MESSAGE-----\n"
    return [
        (text.replace(b"last", b"lost"), Verdict.BADSIG),
        (text.replace(b"first", b" first"), Verdict.BADSIG),
        (b"x\n" + text, Verdict.MALFORMED),
        (b"\n" + text, Verdict.MALFORMED),
        (text + b"x\n", Verdict.MALFORMED),
        (text + text, Verdict.MALFORMED),
        (text.replace(b"Hash: SHA256", b"Hash: SHA256\nNotDashEscaped: yes"), Verdict.MALFORMED),
        (text.replace(b"Hash: SHA256", b"Hash: SHA256\nsecret: text"), Verdict.MALFORMED),
        (text.replace(head, head.rstrip() + b" \n"), Verdict.MALFORMED),
        (text.replace(b"last", b"la\0st"), Verdict.MALFORMED),
        (text.replace(b"last", b"x" * 20_000), Verdict.MALFORMED),
        (text[:-40], Verdict.MALFORMED),
        (b"SHA256 (node.iso) = 00\n", Verdict.UNSIGNED),
        (b"", Verdict.UNSIGNED),
        (bytes(LIMITS.checksum_file + 1), Verdict.UNSIGNED),
    ]


def test_everything_around_or_inside_a_clearsigned_text_is_refused(keyring: Keyring, clearsigned: bytes) -> None:
    for changed, verdict in tampered(clearsigned):
        judged, text = keyring.verify_clearsigned(changed)
        assert (judged.verdict, text) == (verdict, b""), changed[:200]


def test_two_signers_of_one_text_are_refused(keyring: Keyring, key_world: KeyWorld) -> None:
    both = key_world.clearsign("plugin", DATA, "--local-user", key_world.fingerprints["rpm"])
    judged, text = keyring.verify_clearsigned(both)
    assert (judged.verdict, text) == (Verdict.MALFORMED, b"")


def test_text_is_shown_for_expired_and_weak_but_not_for_revoked_keys(keyring: Keyring, key_world: KeyWorld) -> None:
    for name, verdict in (("expired", Verdict.EXPKEY), ("weak", Verdict.WEAK), ("revoked", Verdict.REVKEY)):
        judged, text = keyring.verify_clearsigned(key_world.clearsign(name, DATA))
        assert judged.verdict is verdict
        assert text == (b"" if name == "revoked" else DATA)


def test_a_detached_signature_is_no_clearsigned_text(keyring: Keyring, signature: bytes) -> None:
    assert keyring.verify_clearsigned(signature)[0].verdict is Verdict.MALFORMED


# signing


def test_gpgv_accepts_what_a_signer_makes(key_world: KeyWorld, tmp_path: Path) -> None:
    signer = Signer(key_world.gnupg_home, key_world.fingerprints["respin"])
    (tmp_path / "key.gpg").write_bytes(key_world.gpg("--dearmor", data=key_world.public("respin")))
    (tmp_path / "data").write_bytes(DATA)
    (tmp_path / "data.asc").write_bytes(signer.sign_detached(DATA))
    (tmp_path / "clear.asc").write_bytes(signer.clearsign(DATA))
    gpgv = ["gpgv", "--keyring", str(tmp_path / "key.gpg"), "--status-fd", "1"]
    for files in (["data.asc", "data"], ["clear.asc"]):
        done = subprocess.run([*gpgv, *files], cwd=tmp_path, capture_output=True, check=True)
        (valid,) = [line.split() for line in done.stdout.splitlines() if b" VALIDSIG " in line]
        assert valid[9] == b"10"  # SHA-512
        assert valid[11].decode() == key_world.fingerprints["respin"]


def test_signing_leaves_no_agent_but_spares_the_users_own(key_world: KeyWorld, tmp_path: Path) -> None:
    home = tmp_path / "gnupg"
    fingerprint = generate_key(home, "TEST agent <agent@test.example>", key_length=2048)
    assert not agent_is_running(home)
    Signer(home, fingerprint).sign_detached(DATA)
    assert not agent_is_running(home)
    subprocess.run(["gpg-connect-agent", "--homedir", str(home), "/bye"], check=True, capture_output=True)
    try:
        Signer(home, fingerprint).sign_detached(DATA)
        assert agent_is_running(home)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


def test_an_agent_ends_when_all_signatures_are_made(tmp_path: Path) -> None:
    home = tmp_path / "gnupg"
    signer = Signer(home, generate_key(home, "TEST agent <agent@test.example>", key_length=2048))
    with signer.ready():
        signer.sign_detached(DATA)
        assert agent_is_running(home)
        signer.done()
        deadline = time.monotonic() + 30
        while agent_is_running(home) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not agent_is_running(home)
    signer.sign_detached(DATA)
    assert not agent_is_running(home)


def test_looking_for_a_secret_key_starts_no_agent(key_world: KeyWorld, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(key_world.gnupg_home, home, ignore=shutil.ignore_patterns("S.*"))
    fingerprint = key_world.fingerprints["respin"]
    (home / "gpg-agent.conf").write_text("an agent that reads this does not start\n")
    assert Signer(home, fingerprint).fingerprint == fingerprint
    (home / "gpg-agent.conf").unlink()
    shutil.rmtree(home / "private-keys-v1.d")
    with pytest.raises(UsageError, match="no secret key"):
        Signer(home, fingerprint)


def test_homes_too_deep_for_a_socket(tmp_path: Path) -> None:
    home = tmp_path / ("a" * 60) / ("b" * 60) / "gnupg"
    fingerprint = generate_key(home, "TEST deep <deep@test.example>", key_length=2048, expires_days=30)
    assert home.stat().st_mode & 0o777 == 0o700
    signature = Signer(home, fingerprint).sign_detached(DATA)
    public = export_public(home, fingerprint)
    (key,) = read_keys(public, tmp_path)
    assert key.expires == key.created + 30 * 86400
    with Keyring([public], tmp_path) as keyring:
        assert keyring.verify_detached(signature, DATA).verdict is Verdict.GOOD


def test_public_operations_work_on_a_read_only_home(key_world: KeyWorld, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("pubring.kbx",):
        (home / name).write_bytes((key_world.gnupg_home / name).read_bytes())
    home.chmod(0o500)
    before = sorted(path.name for path in home.iterdir())
    fingerprint = key_world.fingerprints["rpm"]
    arguments = ["--homedir", str(home), "--armor", "--export", fingerprint]
    assert export_public(home, fingerprint)
    assert read_keys(export_public(home, fingerprint), tmp_path)[0].fingerprint == fingerprint
    assert sorted(path.name for path in home.iterdir()) == before or os.geteuid() == 0, arguments


def test_signers_need_a_full_fingerprint_and_a_secret_key(key_world: KeyWorld, tmp_path: Path) -> None:
    fingerprint = key_world.fingerprints["rpm"]
    for wrong in (fingerprint[-16:], "rpm@test.example", "", fingerprint + "0", "-" + fingerprint[1:]):
        with pytest.raises(UsageError, match="full fingerprint"):
            Signer(key_world.gnupg_home, wrong)
    with pytest.raises(UsageError, match="no secret key"):
        Signer(key_world.gnupg_home, "0" * 40)
    with pytest.raises(UsageError, match="does not exist"):
        Signer(tmp_path / "nowhere", fingerprint)
    with pytest.raises(UsageError, match="no public key"):
        export_public(key_world.gnupg_home, "0" * 40)
    assert Signer(key_world.gnupg_home, fingerprint.lower()).fingerprint == fingerprint


@pytest.mark.parametrize("user_id", ["", "a", "x\nKey-Type: DSA", "two <a@b> <c@d>", "name <no mail>"])
def test_user_ids_cannot_smuggle_parameters(user_id: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        generate_key(tmp_path / "home", user_id)


# framing, for any bytes


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_packet_framing_never_fails_otherwise(data: bytes) -> None:
    try:
        found = list(framing.packets(data, where="x"))
    except MalformedError:
        return
    assert b"".join(packet.raw for packet in found) == data


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_armor_round_trip(data: bytes) -> None:
    armored = framing.armor(data, ARMOR)
    assert framing.dearmor(armored, ARMOR, where="x") == data
    assert framing.dearmor(armored.replace(b"\n", b"\r\n"), ARMOR, where="x") == data


def test_armor_is_what_gpg_reads(key_world: KeyWorld) -> None:
    data = bytes(range(256))
    assert key_world.gpg("--dearmor", data=framing.armor(data, ARMOR)) == data
    theirs = key_world.gpg("--enarmor", data=data)
    assert framing.dearmor(theirs, b"PGP ARMORED FILE", where="x") == data


def test_a_wrong_armor_checksum_is_refused() -> None:
    armored = framing.armor(b"hello", ARMOR)
    checksum = next(line for line in armored.splitlines() if line.startswith(b"="))
    assert framing.dearmor(armored.replace(checksum + b"\n", b""), ARMOR, where="x") == b"hello"
    with pytest.raises(MalformedError, match="checksum"):
        framing.dearmor(armored.replace(checksum, b"=AAAA"), ARMOR, where="x")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([
    b"-----BEGIN PGP SIGNED MESSAGE-----", b"Hash: SHA256", b"", b"text", b"- dash", b"-----BEGIN PGP SIGNATURE-----",
    b"AAAA", b"=AAAA", b"-----END PGP SIGNATURE-----", b"Comment: x", b"\xff\x00",
]), max_size=14))  # fmt: skip
def test_cleartext_framing_never_fails_otherwise(lines: List[bytes]) -> None:
    try:
        signature_packets(b"\n".join(lines), where="x")
    except MalformedError:
        pass


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_key_files_never_fail_otherwise(data: bytes, armored: bool) -> None:
    if armored:
        data = framing.armor(data, b"PGP PUBLIC KEY BLOCK")
    try:
        fingerprints(data, where="x")
    except (MalformedError, UnsupportedError):
        pass
