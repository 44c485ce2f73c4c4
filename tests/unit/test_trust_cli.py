"""``respin keys`` as a user runs it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from respin.trust import Role, TrustStore
from tests.support import warm
from tests.support.keys import KeyWorld


def respin(*arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = warm.run(["keys", *map(str, arguments)], None, None, timeout=120)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "try"
    said = respin("generate", "--test", path)
    assert "TEST keys" in said.stderr
    assert str(path / "trust") in said.stdout
    return path


def test_generate_makes_private_keys_a_store_and_a_list(generated: Path) -> None:
    listed = json.loads((generated / "keys.json").read_text())
    assert sorted(listed) == sorted(str(role) for role in Role)
    assert stat.S_IMODE((generated / "gnupg").stat().st_mode) == 0o700
    store = TrustStore.load(generated / "trust")
    assert {str(key.role): key.public.fingerprint for key in store.keys} == listed
    assert all("TEST" in key.public.user_ids[0] for key in store.keys)
    home = ["gpg", "--homedir", str(generated / "gnupg"), "--batch", "--no-autostart", "--with-colons", "--list-keys"]
    fingerprints = subprocess.run(home, capture_output=True, text=True, check=True).stdout
    assert all(fingerprint in fingerprints for fingerprint in listed.values())


def test_generate_leaves_no_agent(generated: Path) -> None:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            assert not (b"gpg-agent" in command and os.fsencode(generated) in command)


def test_generate_overwrites_nothing(generated: Path, tmp_path: Path) -> None:
    before = (generated / "keys.json").read_bytes()
    assert "exists already" in respin("generate", "--test", generated, code=2).stderr
    assert (generated / "keys.json").read_bytes() == before
    (tmp_path / "trust").mkdir()
    respin("generate", "--test", tmp_path, code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trust"]
    respin("generate", code=2)


def test_generated_keys_sign_packages_that_rpm_accepts(generated: Path, key_world: KeyWorld, tmp_path: Path) -> None:
    fingerprint = json.loads((generated / "keys.json").read_text())["rpm"]
    package = key_world.build_rpm(tmp_path, "generated")
    defines = {"_gpg_path": generated / "gnupg", "_gpg_name": fingerprint, "__gpg": "/usr/bin/gpg"}
    options = [part for name, value in defines.items() for part in ("--define", f"{name} {value}")]
    key_world.run(["rpmsign", *options, "--addsign", str(package)])
    key_world.run(["gpgconf", "--homedir", str(generated / "gnupg"), "--kill", "all"])
    said = respin("verify", package, "--keys", generated / "trust" / "rpm")
    assert said.stdout.startswith("GOOD ")
    assert "(GnuPG: GOOD, rpm: GOOD)" in said.stdout


def test_add_and_list(key_world: KeyWorld, tmp_path: Path) -> None:
    file = tmp_path / "ihv.asc"
    file.write_bytes(key_world.public("plugin"))
    trust = tmp_path / "trust"
    respin("add", file, "--trust", trust, "--role", "plugin", "--tier", "partner", "--scope", "a*", "--scope", "b")
    respin("add", file, "--trust", trust, "--role", "base", "--allow-expired", "--allow-weak")
    document = json.loads(respin("list", "--trust", trust, "--json").stdout)
    assert document["schema"] == "respin.keys/1"
    assert document["digest"]["sha256"] == TrustStore.load(trust).digest
    wanted = ("fingerprint", "role", "tier", "scope", "allow_expired", "allow_weak")
    fingerprint = key_world.fingerprints["plugin"]
    assert [tuple(key[name] for name in wanted) for key in document["keys"]] == [
        (fingerprint, "plugin", "partner", ["a*", "b"], False, False),
        (fingerprint, "base", "vendor", ["*"], True, True),
    ]
    human = respin("list", "--trust", trust).stdout
    assert fingerprint in human
    assert "scope a* b" in human
    again = respin("add", file, "--trust", trust, "--role", "base", code=2).stderr
    assert "in the role base already" in again
    other = json.loads(respin("add", file, "--trust", trust, "--role", "rpm", "--json").stdout)
    assert (other["schema"], other["key"]["fingerprint"]) == ("respin.keys-add/1", fingerprint)


def test_a_file_of_several_keys_is_named(key_world: KeyWorld, tmp_path: Path) -> None:
    file = tmp_path / "all.asc"
    file.write_bytes(key_world.public("plugin") + key_world.public("rpm"))
    said = respin("add", file, "--trust", tmp_path / "trust", "--role", "rpm", code=2).stderr
    assert f"{file}: the file holds 2 keys" in said


def test_list_warns_of_expired_and_revoked_keys(key_world: KeyWorld) -> None:
    lines = respin("list", "--trust", key_world.trust).stdout.splitlines()
    assert any("EXPIRED 2021-01-01" in line and key_world.fingerprints["expired"] in line for line in lines)
    assert any("REVOKED" in line and key_world.fingerprints["revoked"] in line for line in lines)


def test_adding_what_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear all\n")
    respin("add", tmp_path / "letter", "--trust", tmp_path / "trust", "--role", "rpm", code=3)
    respin("add", tmp_path / "nothing", "--trust", tmp_path / "trust", "--role", "rpm", code=2)
    respin("add", tmp_path / "letter", "--trust", tmp_path / "trust", "--role", "emperor", code=2)
    respin("list", "--trust", tmp_path / "trust", code=2)


@pytest.fixture(scope="module")
def packages(key_world: KeyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    for name in ("rpm", "unknown", "expired"):
        key_world.sign_rpm(key_world.build_rpm(folder, name), name)
    key_world.build_rpm(folder, "unsigned")
    return folder


def test_verify_says_a_word_for_each_file(packages: Path, key_world: KeyWorld) -> None:
    files = [packages / f"{name}-1.0-1.noarch.rpm" for name in ("rpm", "unknown", "expired", "unsigned")]
    said = respin("verify", *files, "--keys", key_world.trust, code=3).stdout
    words = [line.split()[0] for line in said.splitlines() if not line.startswith(" ")]
    assert words == ["GOOD", "NOKEY", "EXPKEY", "UNSIGNED"]
    document = json.loads(respin("verify", *files, "--keys", key_world.trust, "--json", code=3).stdout)
    assert (document["schema"], document["ok"]) == ("respin.keys-verify/1", False)
    assert [file["verdict"] for file in document["files"]] == words
    assert document["files"][0]["nevra"] == "rpm-1.0-1.noarch"
    assert document["files"][0]["signatures"][0]["primary"] == key_world.fingerprints["rpm"]
    # rpm's own word on an expired key is why it is not asked alone
    assert document["files"][2]["by_gpg"] == "EXPKEY"


def test_verify_with_files_that_are_none(packages: Path, key_world: KeyWorld, tmp_path: Path) -> None:
    good = packages / "rpm-1.0-1.noarch.rpm"
    (tmp_path / "key").write_bytes(key_world.public("rpm"))
    (tmp_path / "text").write_text("no package, no key\n")
    assert respin("verify", tmp_path / "text", "--keys", tmp_path / "key", code=3).stdout.startswith("MALFORMED")
    respin("verify", good, "--keys", tmp_path, code=0)
    respin("verify", good, "--keys", tmp_path / "text", code=3)
    respin("verify", good, "--keys", tmp_path / "nothing", code=2)
    respin("verify", tmp_path / "nothing", "--keys", tmp_path / "key", code=2)
    respin("verify", tmp_path, "--keys", tmp_path / "key", code=2)
    (tmp_path / "empty").mkdir()
    assert "no public key" in respin("verify", good, "--keys", tmp_path / "empty", code=2).stderr
