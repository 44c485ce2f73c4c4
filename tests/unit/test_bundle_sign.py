"""Signing: by a GnuPG home, by a program of the user's, again, and never what could not be verified."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any, Dict

import pytest

from respin.bundle import CommandSigner, sign
from respin.bundle.signer import canonical_signature
from respin.errors import BuildError, MalformedError, PolicyError, UsageError, VerificationError
from respin.formats.openpgp import Signer
from tests.support.bundles import BundleWorld, bundle_world, offsets, spell
from tests.support.keys import KeyWorld


@pytest.fixture(scope="module")
def world(key_world: KeyWorld) -> BundleWorld:
    return bundle_world(key_world)


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "sign it"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return shlex.quote(str(path))


def gpg_script(world: BundleWorld, tmp_path: Path, options: str = "--armor --detach-sign") -> str:
    home, key = world.keys.gnupg_home, world.keys.fingerprints["plugin"]
    return script(tmp_path, f"exec gpg --homedir '{home}' --batch --quiet --local-user {key} {options}")


def signed_members(world: BundleWorld, source: Path, signer: Any, tmp_path: Path) -> Dict[str, bytes]:
    draft = sign(source, signer, tmp_path)
    target = tmp_path / "out.plugin.tar"
    with target.open("wb") as file:
        draft.write(file.fileno())
    draft.bundle.close()
    return world.members(target)


def check(world: BundleWorld, members: Dict[str, bytes], tmp_path: Path, key: str = "plugin") -> None:
    """gpgv is the judge."""
    for name in ("manifest.json", "manifest.json.asc"):
        (tmp_path / name).write_bytes(members[name])
    (tmp_path / "ring").write_bytes(world.keys.gpg("--export", world.keys.fingerprints[key]))
    arguments = [str(tmp_path / "manifest.json.asc"), str(tmp_path / "manifest.json")]
    world.keys.run(["gpgv", "--keyring", str(tmp_path / "ring"), *arguments])


def test_by_a_gnupg_home(world: BundleWorld, tmp_path: Path) -> None:
    signer = Signer(world.keys.gnupg_home, world.keys.fingerprints["plugin"])
    members = signed_members(world, world.unsigned, signer, tmp_path)
    check(world, members, tmp_path)
    signature = members.pop("manifest.json.asc")
    assert members == world.members(world.unsigned)
    assert canonical_signature(signature, where="x") == signature


def test_by_a_command_in_the_callers_environment(
    world: BundleWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSM_HOME", str(world.keys.gnupg_home))
    key = world.keys.fingerprints["plugin"]
    command = script(tmp_path, f'exec gpg --homedir "$HSM_HOME" --batch --quiet --local-user {key} --armor -b')
    check(world, signed_members(world, world.unsigned, CommandSigner(command), tmp_path), tmp_path)


def test_by_hand_on_another_machine(world: BundleWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = world.members(world.unsigned)["manifest.json"]
    (tmp_path / "manifest.json.asc").write_bytes(world.keys.detach_sign("plugin", manifest))
    monkeypatch.chdir(tmp_path)
    signer = CommandSigner('sh -c "cat > /dev/null; cat manifest.json.asc"')
    check(world, signed_members(world, world.unsigned, signer, tmp_path), tmp_path)


def test_a_comment_in_the_armor_is_left_out(world: BundleWorld, tmp_path: Path) -> None:
    command = gpg_script(world, tmp_path, "--comment 'made by hand' --armor --detach-sign")
    members = signed_members(world, world.unsigned, CommandSigner(command), tmp_path)
    assert b"made by hand" not in members["manifest.json.asc"]
    check(world, members, tmp_path)


def test_signing_again_replaces(world: BundleWorld, tmp_path: Path) -> None:
    signer = Signer(world.keys.gnupg_home, world.keys.fingerprints["respin"])
    members = signed_members(world, world.signed, signer, tmp_path)
    check(world, members, tmp_path, "respin")
    assert list(members) == list(world.members(world.signed))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (BuildError, "cat >/dev/null; exit 3"),
        (BuildError, "exec cat"),
        (BuildError, "cat >/dev/null"),
        (BuildError, "exit 0"),
        (BuildError, "head -c 3000000 /dev/zero"),
        (BuildError, "kill -9 $$"),
    ],
)
def test_a_command_that_does_not_sign(world: BundleWorld, tmp_path: Path, kind: "type[Exception]", text: str) -> None:
    with pytest.raises(kind):
        sign(world.unsigned, CommandSigner(script(tmp_path, text)), tmp_path)


@pytest.mark.parametrize(
    "options", ["--detach-sign", "--armor --sign", "--clearsign", "--textmode --armor --detach-sign"]
)
def test_a_command_that_makes_another_kind_of_signature(world: BundleWorld, tmp_path: Path, options: str) -> None:
    with pytest.raises(BuildError, match="no signature"):
        sign(world.unsigned, CommandSigner(gpg_script(world, tmp_path, options)), tmp_path)


@pytest.mark.parametrize("command", ["", "  ", "'", "/nonexistent/program --sign"])
def test_a_command_that_is_none(world: BundleWorld, tmp_path: Path, command: str) -> None:
    with pytest.raises(UsageError):
        sign(world.unsigned, CommandSigner(command), tmp_path)


def test_what_could_not_be_verified_is_not_signed(world: BundleWorld, tmp_path: Path) -> None:
    def never(data: bytes) -> bytes:
        raise AssertionError("asked to sign")

    class Never:
        sign_detached = staticmethod(never)

    bad = tmp_path / "bad.plugin.tar"
    data = bytearray(world.unsigned.read_bytes())
    data[offsets(bytes(data))["README"][0]] ^= 1
    bad.write_bytes(data)
    with pytest.raises(VerificationError, match="README"):
        sign(bad, Never(), tmp_path)
    members = world.members(world.unsigned)
    manifest = json.loads(members["manifest.json"])
    manifest["effects"]["setuid"] = []
    members["manifest.json"] = spell(manifest)
    bad.write_bytes(world.pack(members))
    with pytest.raises(PolicyError, match="helper"):
        sign(bad, Never(), tmp_path)
    del members["manifest.json"]
    bad.write_bytes(world.pack(members))
    with pytest.raises(MalformedError, match=r"no manifest\.json"):
        sign(bad, Never(), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["bad.plugin.tar"]


def test_a_directory_is_signed_too(world: BundleWorld, tmp_path: Path) -> None:
    directory = tmp_path / "exnic"
    for name, data in world.members(world.unsigned).items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    members = signed_members(world, directory, CommandSigner(gpg_script(world, tmp_path)), tmp_path)
    check(world, members, tmp_path)
    shutil.rmtree(directory)
