"""Other kinds of Nodes, respun: they show that they are, digests on the medium follow, verification recomputes it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Dict, Tuple

import pytest

from respin.build import build as building
from respin.build.prepare import BuildRequest
from respin.bundle.fit import compare_versions
from respin.errors import VerificationError
from respin.formats.bootconfig import ArgumentEdit
from respin.medium.derive import MediumRequest
from respin.medium.edit import MediumEdit
from respin.segments import Data
from tests.support import kinds
from tests.support.forge import Forge, respin
from tests.support.images import extracted, run
from tests.support.keys import KeyWorld

SENTENCE = " (respun with good-1-1)"
FILES = {"/usr/share/good/data": "good data\n", "/etc/good/good.conf": "# good\n"}
Respun = Tuple[Forge, Path, Path]


def make(name: str, key_world: KeyWorld, stock_iso: Path, factory: pytest.TempPathFactory) -> Respun:
    """The remade Node of that kind, a plugin for it, and the respin of both."""
    tmp = factory.mktemp(name)
    makers = {"ovirt-node-classic": kinds.classic, "ovirt-node-ng": kinds.ng, "debian-live": kinds.debian}
    forge = Forge(key_world, makers[name](stock_iso, tmp), tmp, name)
    plugin = forge.plugin(
        "good",
        files=FILES,
        sections="%pre\nuseradd -r -M -s /usr/sbin/nologin good\n",
        effects='users = ["good"]\ngroups = ["good"]',
    )
    options = {"append_arg": "console=ttyS0", "payload": tmp / "payload.img"}
    done = forge.build(tmp / "out.iso", plugin, json=True, **options)
    assert done.code == 0, done.err
    return forge, plugin, tmp / "out.iso"


@pytest.fixture(scope="module")
def classic(key_world: KeyWorld, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Respun:
    return make("ovirt-node-classic", key_world, stock_iso, tmp_path_factory)


@pytest.fixture(scope="module")
def ng(key_world: KeyWorld, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Respun:
    return make("ovirt-node-ng", key_world, stock_iso, tmp_path_factory)


@pytest.fixture(params=["classic", "ng"])
def either(request: pytest.FixtureRequest) -> Respun:
    found: Respun = request.getfixturevalue(request.param)
    return found


def on_iso(iso: Path, path: str, tmp: Path) -> bytes:
    target = tmp / "extracted"
    extracted(iso, path, target)
    return target.read_bytes()


def in_root(iso: Path, path: str) -> str:
    done = respin("inspect", iso, "--cat", path)
    assert done.code == 0, done.err
    return done.out


def attributes(iso: Path, path: str) -> Dict[str, object]:
    (found,) = respin("inspect", iso, "--files", "--below", path, "--json").json["files"]
    return {key: value for key, value in found.items() if key not in ("size", "mtime")}


def test_it_verifies_with_what_it_carries_and_comes_back(either: Respun, tmp_path: Path) -> None:
    forge, _, iso = either
    done = respin("verify", iso, "--trust", forge.keys.trust, "--json")
    assert done.code == 0, done.err
    assert {link["name"]: link["status"] for link in done.json["links"]}["medium"] == "passed"
    assert "release" in {one["why"] for one in done.json["medium"]["edited"]}
    run("checkisomd5", iso)
    assert respin("restore", iso, "-o", tmp_path / "stock.iso").code == 0
    run("cmp", tmp_path / "stock.iso", forge.iso)


def test_a_classic_node_notices_the_release(classic: Respun, tmp_path: Path) -> None:
    forge, _, iso = classic
    before, after = (on_iso(one, "/isolinux/version", tmp_path).decode() for one in (forge.iso, iso))
    (new,) = re.findall(r"^RELEASE=(.*)$", after, re.M)
    assert re.fullmatch(r"0\.999\.201611\.respin1\.[0-9a-f]{8}", new)
    assert after == before.replace("0.999.201611", new)
    assert in_root(iso, "/etc/default/version") == after
    assert compare_versions(new, "0.999.201611") > 0
    assert new in respin("inspect", iso, "--json").json["version"]["RELEASE"]


def test_the_release_line_says_with_what(either: Respun) -> None:
    forge, _, iso = either
    before, after = (in_root(one, "/etc/system-release") for one in (forge.iso, iso))
    first, newline, rest = before.partition("\n")
    assert after == first + SENTENCE + newline + rest
    assert attributes(iso, "/etc/system-release") == attributes(forge.iso, "/etc/system-release")


def test_ng_has_a_higher_name_that_imgbased_can_parse(ng: Respun) -> None:
    _, _, iso = ng
    nvr = in_root(iso, "/usr/share/imgbase/build/meta/nvr").strip()
    parsed, stock = (re.fullmatch(r"(.*)-([^-]*)-([^-]*)", name) for name in (nvr, kinds.NVR))
    assert parsed is not None
    assert stock is not None
    assert parsed.groups()[:2] == stock.groups()[:2]
    assert compare_versions(parsed[3], stock[3]) > 0
    assert "+" not in nvr


def test_the_kickstart_of_ng_names_the_new_payload(ng: Respun, tmp_path: Path) -> None:
    _, _, iso = ng
    payload = on_iso(iso, "/ovirt-node-ng-image.squashfs.img", tmp_path)
    assert (iso.parent / "payload.img").read_bytes() == payload
    kickstart = on_iso(iso, "/interactive-defaults.ks", tmp_path)
    assert f"--checksum={hashlib.sha256(payload).hexdigest()}".encode() in kickstart
    assert hashlib.sha256(kickstart).hexdigest().encode() in on_iso(iso, "/.treeinfo", tmp_path)
    for path in ("/images/install.img", "/images/product.img", "/images/pxeboot/initrd.img"):
        assert on_iso(iso, path, tmp_path) == on_iso(ng[0].iso, path, tmp_path)


def test_the_payload_has_a_signed_checksum_of_its_own(ng: Respun, tmp_path: Path) -> None:
    """By gpgv and coreutils alone, where somebody has only these two files."""
    forge, _, iso = ng
    for name in ("payload.img", "payload.img.CHECKSUM"):
        shutil.copy(iso.parent / name, tmp_path)
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(forge.keys.gpg("--export", forge.keys.fingerprints["respin"]))
    run("gpgv", "--keyring", ring, "--output", tmp_path / "sums", tmp_path / "payload.img.CHECKSUM")
    run("env", "-C", tmp_path, "sha256sum", "-c", "--strict", "sums")


def test_an_unsigned_payload_does_not_keep_the_signature_of_the_one_it_replaces(ng: Respun, tmp_path: Path) -> None:
    forge, plugin, _ = ng
    out, elsewhere = tmp_path / "out.iso", tmp_path / "elsewhere"
    elsewhere.mkdir()
    payload = elsewhere / "node.img"
    assert forge.build(out, plugin, payload=payload).code == 0
    signed = payload.read_bytes()
    assert {path.name for path in elsewhere.iterdir()} == {"node.img", "node.img.CHECKSUM"}
    unsigned = {"sign_key": None, "gnupg_home": None, "unsigned": True}
    assert forge.build(out, plugin, payload=payload, **unsigned, json=True).json["error"]["finding"] == "usage"
    assert forge.build(out, plugin, payload=payload, force=True, **unsigned).code == 0
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == {"node.img": signed}


def test_ng_starts_from_a_network_with_the_new_payload(ng: Respun, tmp_path: Path) -> None:
    forge, _, iso = ng
    out, url = tmp_path / "node", "http://10.0.0.1/node"
    done = respin("pxe", iso, "-o", out, "--url", url, "--trust", forge.keys.trust, "--json")
    assert done.code == 0, done.err
    (entry,) = done.json["entries"]
    assert entry["arguments"] == [
        f"inst.stage2={url}",
        f"inst.ks={url}/interactive-defaults.ks",
        "quiet",
        "console=ttyS0",
    ]
    payload = "ovirt-node-ng-image.squashfs.img"
    digest = hashlib.sha256((out / payload).read_bytes()).hexdigest()
    kickstart = (out / "interactive-defaults.ks").read_text()
    assert f"liveimg --url={url}/{payload} --checksum={digest}\n" in kickstart
    assert "run/install/repo" not in kickstart
    for name in ("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img", "images/install.img", ".treeinfo", payload):
        assert (out / name).read_bytes() == on_iso(iso, f"/{name}", tmp_path)
    run("sh", "-c", f"cd {out} && sha256sum --strict --quiet -c SHA256SUMS")


def test_the_second_copy_of_etc_of_ng_follows(ng: Respun) -> None:
    forge, _, iso = ng
    factory = "/usr/share/factory/etc"
    for path in ("/system-release", "/good/good.conf", "/passwd"):
        assert in_root(iso, factory + path) == in_root(iso, "/etc" + path)
    for path in ("/good", "/good/good.conf"):
        (copy, original) = (
            {**found, "path": ""}
            for top in (factory, "/etc")
            for found in respin("inspect", iso, "--files", "--below", top + path, "--json").json["files"][:1]
        )
        assert copy == original
    assert SENTENCE in in_root(iso, factory + "/system-release")
    assert SENTENCE not in in_root(forge.iso, factory + "/system-release")
    assert respin("inspect", iso, "--cat", factory + "/hostname").code != 0


def test_a_respin_of_a_respin_is_the_next_one(classic: Respun, tmp_path: Path) -> None:
    forge, plugin, iso = classic
    done = forge.build(tmp_path / "next.iso", plugin, base=iso, json=True)
    assert done.code == 0, done.err
    releases = [respin("inspect", one, "--json").json["version"]["RELEASE"] for one in (iso, tmp_path / "next.iso")]
    assert ".respin2." in releases[1]
    assert compare_versions(releases[1], releases[0]) > 0
    done = respin("reproduce", tmp_path / "next.iso", "--plugin", plugin, "--trust", forge.keys.trust, "--json")
    assert done.json["reproduced"] is True


def test_lists_of_digests_on_a_debian_live_image_hold(
    key_world: KeyWorld, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("the flat root needs owners other than this user")
    forge, _, iso = make("debian-live", key_world, stock_iso, tmp_path_factory)
    done = respin("verify", iso, "--trust", forge.keys.trust, "--json")
    assert done.code == 0, done.err
    why = {one["place"]: one["why"] for one in done.json["medium"]["edited"]}
    image = "/isolinux/efiboot.img:/EFI/BOOT/grub.cfg"
    edited = {path for path, one in why.items() if one == "kernel-arguments"}
    assert {"/isolinux/live.cfg", "/boot/grub/grub.cfg", image} <= edited
    assert {path for path, one in why.items() if one == "checksum"} == {"/sha256sum.txt", "/md5sum.txt"}
    extracted(iso, "/", tmp_path / "all")
    for kind in ("sha256", "md5"):
        run("sh", "-c", f"cd {tmp_path}/all && {kind}sum -c --quiet --strict {kind}sum.txt")


def hostile(respun: Respun, output: Path) -> None:
    forge, plugin, _ = respun
    building.build(
        BuildRequest(
            base=forge.iso,
            plugins=(plugin,),
            trust=forge.keys.trust,
            output=output,
            base_checksum=forge.checksum,
            medium=MediumRequest(ArgumentEdit(("console=ttyS0",))),
        )
    )


def test_another_mark_than_the_derived_one_is_refused(
    classic: Respun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = building.derive_marks
    monkeypatch.setattr(
        building, "derive_marks", lambda *given: {path: data + b"# more\n" for path, data in honest(*given).items()}
    )
    with pytest.raises(VerificationError) as caught:
        hostile(classic, tmp_path / "out.iso")
    assert caught.value.finding == "marks"
    assert not (tmp_path / "out.iso").exists()


def test_a_boot_file_with_more_than_the_recorded_edit_is_refused(
    classic: Respun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = building.derive_medium

    def more(*given: object) -> MediumEdit:
        edit = honest(*given)  # type: ignore[arg-type]
        path = "/isolinux/isolinux.cfg"
        (data,) = edit.files[path]
        assert isinstance(data, Data)
        files = {**edit.files, path: (Data(data.data.replace(b"quiet", b"qu1et")),)}
        return MediumEdit(files, edit.patches, edit.edited)

    monkeypatch.setattr(building, "derive_medium", more)
    with pytest.raises(VerificationError) as caught:
        hostile(classic, tmp_path / "out.iso")
    assert caught.value.finding == "not-the-vendors"
