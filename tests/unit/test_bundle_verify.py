"""Verification: a valid signed bundle, and the same one with exactly one thing wrong each time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from respin.bundle import VerifiedBundle, verify
from respin.errors import MalformedError, PolicyError, RespinError, UnsupportedError, VerificationError
from respin.trust import TrustStore
from tests.support.bundles import BundleWorld, bundle_world, offsets, spell
from tests.support.keys import KeyWorld

AGENT, DRIVER = "rpms/exagent-1.0-1.noarch.rpm", "rpms/kmod-exnic-1.0-1.x86_64.rpm"


@pytest.fixture(scope="module")
def world(key_world: KeyWorld) -> BundleWorld:
    return bundle_world(key_world)


@pytest.fixture(scope="module")
def trust(world: BundleWorld) -> TrustStore:
    return TrustStore.load(world.trust)


@pytest.fixture
def tmpdir(tmp_path: Path) -> Path:
    path = tmp_path / "private"
    path.mkdir()
    return path


def refused(
    data: bytes, kind: Type[RespinError], trust: TrustStore, tmpdir: Path, *, finding: Optional[str] = None
) -> RespinError:
    path = tmpdir.parent / "exnic.plugin.tar"
    path.write_bytes(data)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(kind) as caught:
        verify(path, trust, tmpdir).close()
    assert "exnic.plugin.tar" in str(caught.value), "the message names the file"
    assert "Traceback" not in str(caught.value)
    assert finding in (None, caught.value.finding)
    # Keyrings of the trust store are made once and stay as long as their directory.
    assert [name for name in os.listdir(tmpdir) if not name.startswith("keyring-")] == []
    assert len(os.listdir("/proc/self/fd")) == descriptors
    return caught.value


# -- the valid bundle --------------------------------------------------------------------------------------------------


def test_a_good_bundle(world: BundleWorld, trust: TrustStore, tmpdir: Path) -> None:
    verified = verify(world.signed, trust, tmpdir)
    members = world.members(world.signed)
    try:
        assert verified.sha256 == hashlib.sha256(world.signed.read_bytes()).hexdigest()
        assert verified.manifest.nvra == "exnic-1.2-1.x86_64"
        assert verified.manifest_bytes == members["manifest.json"]
        assert verified.signature_bytes == members["manifest.json.asc"]
        assert verified.signer.key.public.fingerprint == world.keys.fingerprints["plugin"]
        assert [rpm.header.nevra for rpm in verified.rpms] == ["exagent-1.0-1.noarch", "kmod-exnic-1.0-1.x86_64"]
        for rpm, name in zip(verified.rpms, (AGENT, DRIVER)):
            assert rpm.signer.key.public.fingerprint == world.keys.fingerprints["rpm"]
            assert os.pread(rpm.fd, rpm.size, 0) == members[name]
    finally:
        verified.close()
    assert [name for name in os.listdir(tmpdir) if not name.startswith("keyring-")] == []


def test_gpgv_agrees_about_the_signature(world: BundleWorld, tmpdir: Path) -> None:
    members = world.members(world.signed)
    (tmpdir / "manifest.json").write_bytes(members["manifest.json"])
    (tmpdir / "manifest.json.asc").write_bytes(members["manifest.json.asc"])
    ring = tmpdir / "ring.gpg"
    ring.write_bytes(world.keys.gpg("--export", world.keys.fingerprints["plugin"]))
    world.keys.run(["gpgv", "--keyring", str(ring), str(tmpdir / "manifest.json.asc"), str(tmpdir / "manifest.json")])


def test_a_directory_of_the_same_shape(world: BundleWorld, trust: TrustStore, tmpdir: Path) -> None:
    directory = tmpdir.parent / "exnic"
    (directory / "rpms").mkdir(parents=True)
    for name, data in world.members(world.signed).items():
        (directory / name).write_bytes(data)
    verified = verify(directory, trust, tmpdir)
    verified.close()
    assert verified.sha256 == hashlib.sha256(world.signed.read_bytes()).hexdigest()
    (directory / "extra").write_text("")
    with pytest.raises(MalformedError):
        verify(directory, trust, tmpdir)


def test_only_verify_makes_verified_bundles(world: BundleWorld, trust: TrustStore, tmpdir: Path) -> None:
    verified = verify(world.signed, trust, tmpdir)
    verified.close()
    fields = {name: getattr(verified, name) for name in VerifiedBundle.__dataclass_fields__ if name != "made_by"}
    for proof in (None, object()):
        with pytest.raises(TypeError):
            VerifiedBundle(**fields, made_by=proof)


def test_packing_the_changed_world_again_is_valid(world: BundleWorld, trust: TrustStore, tmpdir: Path) -> None:
    """The tool of the tests below makes valid bundles when it changes nothing."""
    path = tmpdir.parent / "again.plugin.tar"
    path.write_bytes(world.changed())
    verify(path, trust, tmpdir).close()


# -- one flipped byte --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["manifest.json", "manifest.json.asc", "README", AGENT, DRIVER])
@pytest.mark.parametrize("where", [0.0, 0.3, 0.6, 1.0])
def test_one_flipped_byte_is_refused(
    world: BundleWorld, trust: TrustStore, tmpdir: Path, member: str, where: float
) -> None:
    data = bytearray(world.signed.read_bytes())
    start, end = offsets(bytes(data))[member]
    data[start + int((end - 1 - start) * where)] ^= 0x04
    error = refused(bytes(data), VerificationError, trust, tmpdir)
    assert error.exit_code == 3
    assert member.split(".json")[0] in str(error), "the message names the member"


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_is_a_verification_error(
    world: BundleWorld, trust: TrustStore, tmpdir: Path, data: st.DataObject
) -> None:
    archive = bytearray(world.signed.read_bytes())
    archive[data.draw(st.integers(0, len(archive) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert refused(bytes(archive), VerificationError, trust, tmpdir).exit_code == 3


@given(st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cut_or_insertion_is_a_verification_error(
    world: BundleWorld, trust: TrustStore, tmpdir: Path, data: st.DataObject
) -> None:
    archive = world.signed.read_bytes()
    position = data.draw(st.integers(0, len(archive) - 1))
    length = data.draw(st.sampled_from([1, 512, 1024]))
    cut = archive[:position] + archive[position + length :]
    more = archive[:position] + data.draw(st.binary(min_size=1, max_size=8)) + archive[position:]
    for damaged in (cut, more):
        if damaged != archive:
            assert refused(damaged, VerificationError, trust, tmpdir).exit_code == 3


# -- signatures --------------------------------------------------------------------------------------------------------


def resigned(world: BundleWorld, key: str) -> bytes:
    return world.pack(world.sign(world.members(world.unsigned), key))


@pytest.mark.parametrize(
    ("key", "finding"),
    [
        ("rpm", "nokey"),
        ("base", "nokey"),
        ("respin", "nokey"),
        ("unknown", "nokey"),
        ("expired", "expkey"),
        ("revoked", "revkey"),
        ("weak", "weak"),
    ],
)
def test_the_manifest_signed_by_a_key_that_does_not_count(
    world: BundleWorld, trust: TrustStore, tmpdir: Path, key: str, finding: str
) -> None:
    error = refused(resigned(world, key), VerificationError, trust, tmpdir, finding=finding)
    assert "manifest.json" in str(error)
    if key in ("rpm", "base", "respin"):
        assert f"trusted for {key}" in error.what


def test_the_manifest_signed_by_a_key_out_of_its_scope(world: BundleWorld, trust: TrustStore, tmpdir: Path) -> None:
    refused(resigned(world, "scoped"), PolicyError, trust, tmpdir, finding="out-of-scope")

    def rename(manifest: Dict[str, Any]) -> None:
        manifest["name"] = "only-this-one"

    path = tmpdir.parent / "scoped.plugin.tar"
    path.write_bytes(world.changed(rename, key="scoped"))
    verify(path, trust, tmpdir).close()


def test_no_signature(world: BundleWorld, trust: TrustStore, tmpdir: Path) -> None:
    refused(world.unsigned.read_bytes(), VerificationError, trust, tmpdir, finding="unsigned")


def _two_signatures(world: BundleWorld, signature: bytes, manifest: bytes) -> bytes:
    return signature + signature


def _text_before(world: BundleWorld, signature: bytes, manifest: bytes) -> bytes:
    return b"approved by nobody\n" + signature


def _comment(world: BundleWorld, signature: bytes, manifest: bytes) -> bytes:
    return signature.replace(b"\n\n", b"\nComment: smuggled\n\n", 1)


def _text_signature(world: BundleWorld, signature: bytes, manifest: bytes) -> bytes:
    return world.keys.detach_sign("plugin", manifest, "--textmode")


def _inline(world: BundleWorld, signature: bytes, manifest: bytes) -> bytes:
    return world.keys.clearsign("plugin", manifest)


def _key_block(world: BundleWorld, signature: bytes, manifest: bytes) -> bytes:
    return world.keys.public("plugin")


@pytest.mark.parametrize(
    "change", [_two_signatures, _text_before, _comment, _text_signature, _inline, _key_block, lambda *a: b""]
)
def test_a_signature_in_another_form(
    world: BundleWorld, trust: TrustStore, tmpdir: Path, change: Callable[..., bytes]
) -> None:
    members = world.members(world.signed)
    members["manifest.json.asc"] = change(world, members["manifest.json.asc"], members["manifest.json"])
    refused(world.pack(members), MalformedError, trust, tmpdir)


def test_a_signature_over_another_manifest(world: BundleWorld, trust: TrustStore, tmpdir: Path) -> None:
    members = world.members(world.signed)
    manifest = json.loads(members["manifest.json"])
    manifest["version"] = "1.3"
    members["manifest.json"] = spell(manifest)
    refused(world.pack(members), VerificationError, trust, tmpdir, finding="badsig")


# -- well signed, and still wrong --------------------------------------------------------------------------------------


def _other_spelling(members: Dict[str, bytes]) -> None:
    members["manifest.json"] = json.dumps(json.loads(members["manifest.json"])).encode()


def _other_readme(members: Dict[str, bytes]) -> None:
    members["README"] = b"Another one.\n"


def _license_smuggled(members: Dict[str, bytes]) -> None:
    driver, agent = members.pop(DRIVER), members.pop(AGENT)
    readme = members.pop("README")
    members.update({"LICENSE": b"", "README": readme, AGENT: agent, DRIVER: driver})


def _extra_rpm(members: Dict[str, bytes]) -> None:
    members["rpms/zzz-1.0-1.noarch.rpm"] = members[AGENT]


def _missing_rpm(members: Dict[str, bytes]) -> None:
    del members[DRIVER]


def _swapped(members: Dict[str, bytes]) -> None:
    members[AGENT], members[DRIVER] = members[DRIVER], members[AGENT]


@pytest.mark.parametrize(
    "change", [_other_spelling, _other_readme, _license_smuggled, _extra_rpm, _missing_rpm, _swapped]
)
def test_members_that_are_not_the_manifests(
    world: BundleWorld, trust: TrustStore, tmpdir: Path, change: Callable[[Dict[str, bytes]], None]
) -> None:
    members = world.members(world.unsigned)
    change(members)
    refused(world.pack(world.sign(members)), VerificationError, trust, tmpdir)


def _effect(key: str, value: Any) -> Callable[[Dict[str, Any]], None]:
    return lambda manifest: manifest["effects"].update({key: value})


def _without(key: str, number: int) -> Callable[[Dict[str, Any]], object]:
    return lambda manifest: manifest["effects"][key].pop(number)


UNDECLARED: List[Tuple[Callable[[Dict[str, Any]], object], str]] = [
    (_without("paths", 0), "/etc/exagent.conf"),
    (_effect("setuid", []), "/usr/libexec/exagent/helper"),
    (_effect("capabilities", {}), "/usr/libexec/exagent/ping"),
    (_without("scriptlets", 1), "%prein of exagent-1.0-1.noarch"),
    (lambda manifest: manifest["effects"].update(kernel_modules=[], initrd_modules=[]), "exnic is a kernel module"),
]


@pytest.mark.parametrize("number", range(len(UNDECLARED)))
def test_an_effect_that_is_not_declared(world: BundleWorld, trust: TrustStore, tmpdir: Path, number: int) -> None:
    change, named = UNDECLARED[number]
    error = refused(world.changed(change), PolicyError, trust, tmpdir, finding="undeclared-effect")
    assert named in error.what
    assert error.exit_code == 4


def test_a_foreign_bundle(world: BundleWorld, trust: TrustStore, tmpdir: Path) -> None:
    def change(manifest: Dict[str, Any]) -> None:
        manifest["arch"] = "aarch64"
        manifest["target"]["architectures"] = ["aarch64"]

    error = refused(world.changed(change), UnsupportedError, trust, tmpdir, finding="foreign-arch")
    assert error.exit_code == 7


def test_another_schema(world: BundleWorld, trust: TrustStore, tmpdir: Path) -> None:
    changed = world.changed(lambda manifest: manifest.update(schema="respin.plugin/9"))
    refused(changed, UnsupportedError, trust, tmpdir, finding="unknown-schema")


@pytest.mark.parametrize("key", ["nevra", "path"])
def test_a_package_under_another_name(world: BundleWorld, trust: TrustStore, tmpdir: Path, key: str) -> None:
    def change(manifest: Dict[str, Any]) -> None:
        if key == "nevra":
            manifest["rpms"][1]["nevra"] = "kmod-exnic-1.1-1.x86_64"
            manifest["effects"]["scriptlets"][2]["nevra"] = "kmod-exnic-1.1-1.x86_64"
        else:
            manifest["rpms"][1]["path"] = manifest["files"][2]["path"] = "rpms/kmod-exnic-1.1-1.x86_64.rpm"

    members = world.members(world.changed_file(change))
    if key == "path":
        members["rpms/kmod-exnic-1.1-1.x86_64.rpm"] = members.pop(DRIVER)
    data = world.pack(world.sign(members))
    refused(data, VerificationError, trust, tmpdir, finding="nevra-mismatch")


def test_a_package_with_another_header_than_the_manifest_says(
    world: BundleWorld, trust: TrustStore, tmpdir: Path
) -> None:
    data = world.changed(lambda manifest: manifest["rpms"][1].update(header_sha256="ab" * 32))
    assert DRIVER in str(refused(data, VerificationError, trust, tmpdir, finding="header-mismatch"))


# -- packages ----------------------------------------------------------------------------------------------------------


def with_driver(world: BundleWorld, tmp_path: Path, change: Callable[[Path], object]) -> bytes:
    """The bundle with another driver package in it, rightly named by a rightly signed manifest."""
    package = tmp_path / "driver.rpm"
    shutil.copy(world.rpms[1], package)
    change(package)
    return world.changed(files={DRIVER: package.read_bytes()})


@pytest.mark.parametrize(
    ("key", "finding"),
    [("plugin", "nokey"), ("unknown", "nokey"), ("expired", "expkey"), ("revoked", "revkey"), ("weak", "weak")],
)
def test_a_package_signed_by_a_key_that_does_not_count(
    world: BundleWorld, trust: TrustStore, tmpdir: Path, key: str, finding: str
) -> None:
    def sign(package: Path) -> None:
        world.keys.run(["rpmsign", "--delsign", str(package)])
        world.keys.sign_rpm(package, key)

    data = with_driver(world, tmpdir.parent, sign)
    error = refused(data, VerificationError, trust, tmpdir, finding=finding)
    assert DRIVER in str(error)


def test_a_package_signed_by_a_key_out_of_its_scope(world: BundleWorld, trust: TrustStore, tmpdir: Path) -> None:
    def sign(package: Path) -> None:
        world.keys.run(["rpmsign", "--delsign", str(package)])
        world.keys.sign_rpm(package, "scoped")

    refused(with_driver(world, tmpdir.parent, sign), PolicyError, trust, tmpdir, finding="out-of-scope")


def test_a_package_without_a_signature(world: BundleWorld, trust: TrustStore, tmpdir: Path) -> None:
    data = with_driver(world, tmpdir.parent, lambda package: world.keys.run(["rpmsign", "--delsign", str(package)]))
    assert DRIVER in str(refused(data, VerificationError, trust, tmpdir, finding="unsigned"))


@pytest.mark.parametrize("place", ["header", "payload"])
def test_a_damaged_package_in_a_well_signed_bundle(
    world: BundleWorld, trust: TrustStore, tmpdir: Path, place: str
) -> None:
    def damage(package: Path) -> None:
        data = bytearray(package.read_bytes())
        header = data.rindex(b"\x8e\xad\xe8\x01")  # what stands before it is not signed by the packager
        data[data.index(b"Apache-2.0", header) if place == "header" else -1] ^= 0x10
        package.write_bytes(data)

    data = with_driver(world, tmpdir.parent, damage)
    assert DRIVER in str(refused(data, VerificationError, trust, tmpdir))


def test_something_else_in_place_of_a_package(world: BundleWorld, trust: TrustStore, tmpdir: Path) -> None:
    data = with_driver(world, tmpdir.parent, lambda package: package.write_bytes(b"#!/bin/sh\n"))
    assert DRIVER in str(refused(data, VerificationError, trust, tmpdir))
