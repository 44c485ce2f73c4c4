"""``respin bundle`` as scripts see it: exit codes, what goes to stdout, what is left on the disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Tuple

import click
import pytest
from click.testing import CliRunner

from respin.cli import bundle as bundle_cli
from respin.cli.common import Group, Session, report_failure
from tests.support.bundles import SPEC, BundleWorld, bundle_world, offsets
from tests.support.keys import KeyWorld


@pytest.fixture(scope="module")
def world(key_world: KeyWorld) -> BundleWorld:
    return bundle_world(key_world)


def respin(*arguments: Any, env: "dict[str, str] | None" = None) -> Tuple[int, str, str]:
    """Exit code, stdout and stderr of ``respin bundle ARGUMENTS``, through the same error handling as the real one."""
    status = 0

    @click.command("run", context_settings={"ignore_unknown_options": True})
    def run() -> None:
        nonlocal status
        session = Session()
        root = Group("respin")
        root.add_command(bundle_cli.bundle)
        try:
            root.main(["bundle", *map(str, arguments)], prog_name="respin", standalone_mode=False, obj=session)
        except BaseException as error:
            status = report_failure(session, error)

    result = CliRunner().invoke(run, env=env)
    assert result.exception is None, result.output
    return status, result.stdout, result.stderr


def create(tmp_path: Path, world: BundleWorld) -> Path:
    shutil.copytree(world.path / "rpms", tmp_path / "rpms")
    shutil.copy(world.path / "README", tmp_path)
    (tmp_path / "exnic.toml").write_text(SPEC)
    (tmp_path / "dist").mkdir()
    status, out, _ = respin("create", tmp_path / "exnic.toml", "-o", tmp_path / "dist", "-q")
    assert status == 0
    assert "NOT VERIFIED: it is not signed" in out
    return tmp_path / "dist" / "exnic-1.2-1.x86_64.plugin.tar"


def test_the_release_engineers_way(world: BundleWorld, tmp_path: Path) -> None:
    path = create(tmp_path, world)
    assert path.read_bytes() == world.unsigned.read_bytes()
    assert path.stat().st_mode & 0o777 in (0o644, 0o640, 0o600)
    status, out, error = respin("verify", path, "--trust", world.trust)
    assert (status, out) == (3, "")
    assert "[unsigned]" in error
    assert "respin bundle sign" in error

    status, out, _ = respin(
        "sign", path, "--key", world.keys.fingerprints["plugin"], "--gnupg-home", world.keys.gnupg_home, "-q"
    )
    assert status == 0
    assert "is signed" in out
    status, out, _ = respin("show", path)
    assert status == 0
    assert "NOT VERIFIED: it is signed" in out
    for word in ("/usr/libexec/exagent/helper", "cap_net_raw", "%prein of exagent", "exnic.debug=1", "before 2.0"):
        assert word in out

    status, out, _ = respin("verify", path, "--trust", world.trust, "--json")
    assert status == 0
    document = json.loads(out)
    assert document["schema"] == "respin.bundle/1"
    assert document["verified"] is True
    assert document["signer"]["fingerprint"] == world.keys.fingerprints["plugin"]
    assert document["rpm_signers"]["exagent-1.0-1.noarch"]["role"] == "rpm"
    assert document["manifest"]["name"] == "exnic"
    status, out, _ = respin("verify", path, "--trust", world.trust)
    assert status == 0
    assert "verified: signed by TEST plugin key" in out
    assert list(path.parent.iterdir()) == [path]


def test_show_works_on_unsigned_bundles_and_says_so(world: BundleWorld) -> None:
    status, out, _ = respin("show", world.unsigned, "--json")
    assert status == 0
    document = json.loads(out)
    assert (document["verified"], document["signed"]) == (False, False)


def test_an_output_is_overwritten_only_by_force(world: BundleWorld, tmp_path: Path) -> None:
    path = create(tmp_path, world)
    path.write_text("precious")
    arguments = ("create", tmp_path / "exnic.toml", "-o", tmp_path / "dist")
    assert respin(*arguments)[0] == 2
    assert path.read_text() == "precious"
    assert respin(*arguments, "--force")[0] == 0
    assert path.read_bytes() == world.unsigned.read_bytes()


def test_a_failed_signing_changes_nothing(world: BundleWorld, tmp_path: Path) -> None:
    path = tmp_path / "x.plugin.tar"
    path.write_bytes(world.signed.read_bytes())
    assert respin("sign", path, "--signer", "false")[0] == 6
    assert respin("sign", path)[0] == 2
    assert respin("sign", path, "--key", "00" * 20, "--gnupg-home", world.keys.gnupg_home)[0] == 2
    assert path.read_bytes() == world.signed.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_the_home_may_come_from_the_environment(world: BundleWorld, tmp_path: Path) -> None:
    path = tmp_path / "x.plugin.tar"
    path.write_bytes(world.unsigned.read_bytes())
    key, home = world.keys.fingerprints["plugin"], str(world.keys.gnupg_home)
    assert respin("sign", path, "--key", key, env={"GNUPGHOME": home})[0] == 0
    assert respin("verify", path, env={"RESPIN_TRUST": str(world.trust)})[0] == 0


def test_a_directory_gets_its_signature_beside_the_manifest(world: BundleWorld, tmp_path: Path) -> None:
    directory = tmp_path / "exnic"
    for name, data in world.members(world.unsigned).items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    key = ("--key", world.keys.fingerprints["plugin"], "--gnupg-home", world.keys.gnupg_home)
    assert respin("sign", directory, *key)[0] == 0
    assert sorted(path.name for path in directory.iterdir()) == ["README", "manifest.json", "manifest.json.asc", "rpms"]
    assert respin("verify", directory, "--trust", world.trust)[0] == 0


@pytest.mark.parametrize(
    ("damage", "status", "word"),
    [
        (lambda data, at: data[: at["README"][0]], 3, "not-a-bundle"),
        (lambda data, at: data + bytes(512), 3, "not-canonical"),
        (lambda data, at: data[: at["README"][0]] + b"X" + data[at["README"][0] + 1 :], 3, "digest-mismatch"),
        (lambda data, at: b"", 3, "not-a-bundle"),
    ],
)
def test_exit_codes_and_findings(world: BundleWorld, tmp_path: Path, damage: Any, status: int, word: str) -> None:
    path = tmp_path / "x.plugin.tar"
    data = world.signed.read_bytes()
    path.write_bytes(damage(data, offsets(data)))
    got, out, error = respin("verify", path, "--trust", world.trust, "--json")
    assert got == status
    assert word in error
    assert str(path) in error
    assert json.loads(out)["error"]["finding"] == word


def test_other_exit_codes(world: BundleWorld, tmp_path: Path) -> None:
    path = tmp_path / "x.plugin.tar"
    path.write_bytes(world.changed(lambda manifest: manifest["effects"].update(setuid=[])))
    assert respin("verify", path, "--trust", world.trust)[0] == 4
    path.write_bytes(world.changed(lambda manifest: manifest.update(schema="respin.plugin/2")))
    assert respin("verify", path, "--trust", world.trust)[0] == 7
    assert respin("show", path)[0] == 7
    assert respin("verify", tmp_path / "missing", "--trust", world.trust)[0] == 2
    assert respin("verify", world.signed, "--trust", tmp_path / "missing")[0] == 2
    assert respin("show")[0] == 2
    assert respin("create", tmp_path / "missing.toml")[0] == 2


def test_an_accepted_exception_is_said(world: BundleWorld, tmp_path: Path) -> None:
    path = tmp_path / "x.plugin.tar"
    path.write_bytes(world.pack(world.sign(world.members(world.unsigned), "expired")))
    assert respin("verify", path, "--trust", world.trust)[0] == 3
    store = world.keys.make_store(tmp_path / "trust", {"expired": ["plugin"], "rpm": ["rpm"]}, allow_expired=True)
    status, out, _ = respin("verify", path, "--trust", store)
    assert status == 0
    assert "TEST expired key <expired@test.example> (EXPKEY, accepted by the trust store)" in out
    assert json.loads(respin("verify", path, "--trust", store, "--json")[1])["signer"]["verdict"] == "EXPKEY"
