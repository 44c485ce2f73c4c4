"""Each test changes one thing in the valid world and has it refused: exit code, the place, and no output."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, List

import pytest

from tests.end_to_end.conftest import Respun
from tests.support.forge import Done, Forge, respin


def refused(done: Done, output: Path, code: int, finding: str, *mentions: str) -> None:
    """It ended with this code and finding, named these places, and left nothing where the output would be."""
    assert done.code == code, done.err
    error = done.json["error"]
    assert error["finding"] == finding, error
    said = " ".join([done.err, *error["also"]])
    for mention in mentions:
        assert mention in said, said
    assert not output.exists()
    assert not list(output.parent.glob(f".{output.name}*"))
    assert not list(output.parent.glob(f"{output.name}*"))


def flipped(source: Path, target: Path, marker: bytes, distance: int = 0) -> Path:
    """A copy with one bit changed ``distance`` bytes behind the end of the first ``marker``."""
    data = bytearray(source.read_bytes())
    at = data.index(marker) + len(marker) + distance
    data[at] ^= 1
    target.write_bytes(data)
    return target


def test_a_flipped_byte_in_the_checksums_signed_text(forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    checksum = flipped(forge.checksum, tmp_path / "CHECKSUM", b") = ")
    done = forge.build(tmp_path / "out.iso", good_plugin, base_checksum=checksum, json=True)
    refused(done, tmp_path / "out.iso", 3, "badsig", "CHECKSUM")


def test_a_flipped_byte_in_the_base(forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    base = tmp_path / "x" / forge.iso.name
    shutil.copy(forge.iso, base)
    with base.open("r+b") as file:
        file.seek(40_000_000)
        byte = file.read(1)
        file.seek(40_000_000)
        file.write(bytes([byte[0] ^ 1]))
    done = forge.build(tmp_path / "out.iso", good_plugin, base=base, json=True)
    refused(done, tmp_path / "out.iso", 3, "base-digest", str(base))


@pytest.mark.parametrize(
    ("marker", "distance", "finding"),
    [
        (b'"vendor": "', 0, "badsig"),  # the manifest
        (b"-----BEGIN PGP SIGNATURE-----\n", 40, None),  # its signature
        (b"\x8e\xad\xe8\x01\0\0\0\0", 60, None),  # the RPM's signature header
        (b"This is the RPM header", 0, None),
    ],
)
def test_a_flipped_byte_in_the_bundle(
    forge: Forge, good_plugin: Path, tmp_path: Path, marker: bytes, distance: int, finding: Any
) -> None:
    if marker == b"This is the RPM header":
        marker, distance = b"/usr/share/good/", 0
        if marker not in good_plugin.read_bytes():
            marker = b"noarch"
    plugin = flipped(good_plugin, tmp_path / good_plugin.name, marker, distance)
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    assert done.code == 3, done.err
    assert plugin.name in done.err
    assert finding is None or done.json["error"]["finding"] == finding
    assert not (tmp_path / "out.iso").exists()


@pytest.mark.parametrize(("part", "offset"), [("header", 400), ("payload", -40)])
def test_a_flipped_byte_in_an_rpm_that_the_manifest_vouches_for(
    forge: Forge, tmp_path: Path, part: str, offset: int
) -> None:
    """The bundle is made and signed around the damaged RPM: only the RPM's own signature can tell."""
    rpm = forge.rpm("damaged")
    data = bytearray(rpm.read_bytes())
    header = data.index(b"\x8e\xad\xe8\x01", 100)
    at = len(data) + offset if part == "payload" else data.index(b"A test package", header)
    data[at] ^= 1
    rpm.write_bytes(data)
    plugin = forge.bundle([rpm], "damaged")
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    assert done.code == 3, done.err
    assert "damaged-1.0-1.noarch.rpm" in done.err
    assert done.json["error"]["finding"] in ("badsig", "baddigest")
    assert not (tmp_path / "out.iso").exists()


@pytest.mark.parametrize(
    ("options", "finding"),
    [
        ({"rpm_key": "unknown"}, "nokey"),
        ({"rpm_key": "expired"}, "expkey"),
        ({"rpm_key": "revoked"}, "revkey"),
        ({"rpm_key": "weak"}, "weak"),
        ({"rpm_key": "plugin"}, "nokey"),
        ({"rpm_key": "base"}, "nokey"),
    ],
)
def test_an_rpm_signed_by_the_wrong_key(forge: Forge, tmp_path: Path, options: Any, finding: str) -> None:
    plugin = forge.plugin("wrongkey", **options)
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    refused(done, tmp_path / "out.iso", 3, finding, "wrongkey-1.0-1.noarch.rpm")


def test_an_unsigned_rpm(forge: Forge, tmp_path: Path) -> None:
    rpm = forge.rpm("bare")
    subprocess.run(["rpmsign", "--delsign", rpm], check=True, capture_output=True)
    done = forge.build(tmp_path / "out.iso", forge.bundle([rpm], "bare"), json=True)
    refused(done, tmp_path / "out.iso", 3, "unsigned", "bare-1.0-1.noarch.rpm")


@pytest.mark.parametrize(("key", "finding"), [("unknown", "nokey"), ("rpm", "nokey"), ("respin", "nokey")])
def test_a_bundle_signed_by_a_key_of_another_role(forge: Forge, tmp_path: Path, key: str, finding: str) -> None:
    plugin = forge.bundle([forge.rpm("stranger")], "stranger", key=key)
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    refused(done, tmp_path / "out.iso", 3, finding, plugin.name)


def test_a_bundle_outside_the_keys_scope(forge: Forge, tmp_path: Path) -> None:
    plugin = forge.bundle([forge.rpm("scopeless")], "scopeless", key="scoped")
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    refused(done, tmp_path / "out.iso", 4, "out-of-scope", plugin.name)


@pytest.mark.parametrize("key", ["plugin", "unknown"])
def test_a_checksum_signed_by_a_key_of_another_role(forge: Forge, good_plugin: Path, tmp_path: Path, key: str) -> None:
    checksum = forge.vendor_checksum(key)
    done = forge.build(tmp_path / "out.iso", good_plugin, base_checksum=checksum, json=True)
    refused(done, tmp_path / "out.iso", 3, "nokey", str(checksum))


@pytest.mark.parametrize(
    ("path", "finding"),
    [
        ("/usr/libexec/example-node/installer", "protected-path"),
        ("/usr/libexec/example-node/extra-step", "protected-path"),
        ("/usr/sbin/persist", "protected-path"),
        ("/etc/systemd/system/node-config.service.d/10-plugin.conf", "protected-path"),
        ("/lib/systemd/system/node-install.service", "protected-path"),
        ("/etc/ld.so.preload", "protected-path"),
        ("/usr/local/bin/tool", "protected-path"),
        ("/bin/sh", "conflict"),
        ("/etc/default/version", "conflict"),
        ("/lib/modules/6.99.0-none/extra/x.ko", "kernel-mismatch"),
    ],
)
def test_a_plugin_that_owns_what_is_not_its_own(forge: Forge, tmp_path: Path, path: str, finding: Any) -> None:
    plugin = forge.plugin("greedy", files={path: "mine\n"})
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    real = {"/bin/sh": "/usr/bin/sh"}.get(path, path.replace("/lib/", "/usr/lib/", 1) if path[:5] == "/lib/" else path)
    refused(done, tmp_path / "out.iso", 4, finding, real)


@pytest.mark.parametrize(
    ("script", "finding", "place"),
    [
        ("echo x >> /usr/libexec/example-node/installer", "protected-path", "/usr/libexec/example-node/installer"),
        ("chmod 4755 /usr/sbin/persist", "protected-path", "/usr/sbin/persist"),
        ("echo x >> /etc/default/version", "vendor-path-changed", "/etc/default/version"),
        ("rm /etc/default/version", "vendor-path-changed", "/etc/default/version"),
        ("mv /usr/share/example-node /usr/share/x || rm /etc/rwtab", None, "/"),
        ("touch /etc/left-behind", "undeclared-effect", "/etc/left-behind"),
        ("ln -s /dev/null /etc/systemd/system/node-config.service", "protected-path", "node-config.service"),
        ("useradd -r -M stranger", "undeclared-effect", "/etc/passwd"),
        ("sed -i s,/root,/tmp, /etc/passwd", "user-database", "/etc/passwd"),
        ("useradd -o -u 0 -M good", "user-database", "/etc/passwd"),
        ("echo 'good::::::::' >> /etc/shadow", "user-database", "/etc/shadow"),
    ],
)
def test_a_scriptlet_that_reaches_for_the_vendors_files(
    forge: Forge, tmp_path: Path, script: str, finding: Any, place: str
) -> None:
    plugin = forge.plugin("sly", sections=f"%post\n{script}\n", effects='users = ["good"]')
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    assert done.code == 4, done.err
    error = done.json["error"]
    said = [f"{error['where']} [{error['finding']}]", *error["also"]]
    assert any(place in one and (finding is None or f"[{finding}]" in one) for one in said), said
    assert not (tmp_path / "out.iso").exists()


@pytest.mark.parametrize("script", ["exit 1", "kill -9 $$", "no-such-command"])
def test_a_scriptlet_that_fails(forge: Forge, tmp_path: Path, script: str) -> None:
    plugin = forge.plugin("broken", sections=f"%post\n{script}\n")
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    assert done.code == 6, done.err
    assert "broken-1.0-1" in done.err
    assert not (tmp_path / "out.iso").exists()


def test_a_package_that_the_node_has(forge: Forge, tmp_path: Path) -> None:
    plugin = forge.plugin("example-node-tools", files={"/usr/share/x/y": "z\n"})
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    refused(done, tmp_path / "out.iso", 4, "already-installed", "example-node-tools")


def test_a_library_that_nobody_provides(forge: Forge, tmp_path: Path) -> None:
    plugin = forge.plugin("needy", preamble="Requires: libnowhere.so.7()(64bit)")
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    refused(done, tmp_path / "out.iso", 4, "unmet-requirement", "libnowhere.so.7")


def test_two_plugins_with_the_same_file(forge: Forge, tmp_path: Path) -> None:
    one = forge.plugin("one", files={"/usr/share/both": "1\n"})
    two = forge.plugin("two", files={"/usr/share/both": "2\n"})
    done = forge.build(tmp_path / "out.iso", one, two, json=True)
    refused(done, tmp_path / "out.iso", 4, "conflict", "/usr/share/both")


def test_a_foreign_architecture(forge: Forge, tmp_path: Path) -> None:
    plugin = forge.plugin("foreign", arch="aarch64")
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    assert done.code in (4, 7), done.err
    assert not (tmp_path / "out.iso").exists()


def test_a_declared_effect_that_is_not_supported_is_not_left_out_silently(forge: Forge, tmp_path: Path) -> None:
    plugin = forge.plugin("over", effects='replaces = ["/etc/hostname"]')
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    refused(done, tmp_path / "out.iso", 7, "unsupported-effect", "replaces")


def test_an_existing_output_is_kept(forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.iso"
    output.write_text("precious")
    done = forge.build(output, good_plugin)
    assert done.code == 2
    assert "--force" in done.err
    assert output.read_text() == "precious"


@pytest.mark.parametrize("ending", ["", ".CHECKSUM"])
def test_an_input_is_never_overwritten(forge: Forge, good_plugin: Path, tmp_path: Path, ending: str) -> None:
    """Not even with --force: the base itself, or a CHECKSUM where one of the output's would come to lie."""
    base = tmp_path / forge.iso.name
    base.symlink_to(forge.iso)
    checksum = tmp_path / f"{forge.iso.name}.CHECKSUM"
    shutil.copy(forge.checksum, checksum)
    output = base if not ending else tmp_path / "out.iso"
    if ending:
        os.link(checksum, tmp_path / f"out.iso{ending}")
    done = forge.build(output, good_plugin, base=base, base_checksum=checksum, force=True, json=True)
    assert done.code == 2, done.err
    assert "overwrite an input" in done.err
    assert base.is_symlink()
    assert checksum.read_bytes() == forge.checksum.read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        ["verify", "out.iso", "--trust", "TRUST", "--vsa", "out.iso"],
        ["verify", "out.iso", "--trust", "TRUST", "--base", "base.md", "--report", "base.md"],
        ["verify", "out.iso", "--trust", "trust", "--vsa", "trust/policy.toml"],
        ["verify", "out.iso", "--trust", "TRUST", "--vsa", "same.md", "--report", "same.md"],
        ["sbom", "out.iso", "-o", "link.iso"],
        ["attest", "out.iso", "--test-result", "results.json", "--key", "F" * 40, "-o", "out.iso"],
        ["attest", "out.iso", "--test-result", "results.json", "--key", "F" * 40, "-o", "results.json"],
        ["reproduce", "out.iso", "--trust", "TRUST", "--base", "base.md", "--plugin", "x", "--keep", "base.md"],
    ],
    ids=lambda command: f"{command[0]} {command[-1]}",
)
def test_nor_by_the_commands_that_only_read_an_iso(
    forge: Forge, respun: Respun, tmp_path: Path, command: List[str]
) -> None:
    shutil.copy(respun.iso, tmp_path / "out.iso")
    os.link(tmp_path / "out.iso", tmp_path / "link.iso")
    shutil.copy(forge.iso, tmp_path / "base.md")
    shutil.copytree(forge.keys.trust, tmp_path / "trust")
    (tmp_path / "results.json").write_text("{}")
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    arguments = [str(forge.keys.trust) if one == "TRUST" else one for one in command]
    done = respin(*arguments, "--force", "--json", cwd=tmp_path)
    assert done.code == 2, done.err
    assert "overwrite an input" in done.err or "the same file" in done.err
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_a_file_where_a_sidecar_goes_is_noticed_before_the_work(
    forge: Forge, good_plugin: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.iso.CHECKSUM").write_text("precious")
    done = forge.build(tmp_path / "out.iso", good_plugin)
    assert done.code == 2
    assert "verifying" not in done.err
    assert (tmp_path / "out.iso.CHECKSUM").read_text() == "precious"


def test_a_key_to_sign_with_that_would_not_count_is_noticed_before_the_work(
    forge: Forge, good_plugin: Path, tmp_path: Path
) -> None:
    done = forge.build(tmp_path / "out.iso", good_plugin, sign_key=forge.keys.fingerprints["base"], json=True)
    refused(done, tmp_path / "out.iso", 3, "nokey", str(forge.keys.trust))
    assert "verifying" not in done.err


@pytest.mark.parametrize(("key", "finding"), [("expired", "expkey"), ("revoked", "revkey")])
def test_so_is_one_that_has_ended(forge: Forge, good_plugin: Path, tmp_path: Path, key: str, finding: str) -> None:
    trust = forge.keys.make_store(tmp_path / "trust", {"base": ["base"], key: ["respin"]})
    done = forge.build(tmp_path / "out.iso", good_plugin, trust=trust, sign_key=forge.keys.fingerprints[key], json=True)
    refused(done, tmp_path / "out.iso", 3, finding, str(trust))
    assert "verifying" not in done.err


def test_an_unsigned_build_does_not_say_that_somebody_signed_it(
    forge: Forge, good_plugin: Path, tmp_path: Path
) -> None:
    done = forge.build(tmp_path / "out.iso", good_plugin, sign_key=None, gnupg_home=None, unsigned=True)
    assert done.code == 0, done.err
    assert done.out.startswith("NOT SIGNED")
    assert "PASSED" not in done.out
    assert "signed one" not in done.out


def test_building_on_a_respun_iso_is_refused_by_its_checksum_rule(
    forge: Forge, respun: Respun, good_plugin: Path, tmp_path: Path
) -> None:
    """A respun ISO is no vendor ISO: its maker's key has the role respin, not base."""
    checksum = respun.iso.with_name(respun.iso.name + ".CHECKSUM")
    done = forge.build(tmp_path / "out.iso", good_plugin, base=respun.iso, base_checksum=checksum, json=True)
    refused(done, tmp_path / "out.iso", 3, "nokey")


def test_a_pinned_base_is_reported_as_pinned(forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    digest = forge.checksum.read_text().split(" = ")[1].split("\n")[0]
    output = tmp_path / "out.iso"
    done = forge.build(output, good_plugin, base_checksum=None, base_sha256=digest, json=True)
    assert done.code == 0, done.err
    assert done.json["verification"]["base"]["verified"] == "pinned"
    assert "signed by" not in next(
        link["detail"] for link in done.json["verification"]["links"] if link["name"] == "stock Node"
    )
    alone = forge.verify(output, base=None).json
    assert alone["complete"] is False, "whoever pinned the base may have pinned anything"
    assert [link["name"] for link in alone["links"] if link["status"] == "not done"] == ["vendor"]
    wrong = forge.build(tmp_path / "other.iso", good_plugin, base_checksum=None, base_sha256="0" * 64, json=True)
    refused(wrong, tmp_path / "other.iso", 3, "base-digest")


@pytest.mark.parametrize("name", ["out.iso", "out.iso.CHECKSUM", "out.iso.intoto.jsonl", "out.iso.added.cdx.json"])
def test_outputs_that_would_be_one_file(forge: Forge, good_plugin: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "out.iso"
    done = forge.build(output, good_plugin, payload=tmp_path / name, json=True)
    refused(done, output, 2, "usage", name)
