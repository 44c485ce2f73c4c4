"""Which profile fits an ISO: by facts on it, one and no more; and where the parts are that it speaks of."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Mapping

import pytest

from respin.byteview import BytesView
from respin.errors import MalformedError, UnsupportedError, UsageError
from respin.formats.iso9660.image import IsoImage
from respin.node import profileparser
from respin.node.knownprofiles import built_in, known
from respin.node.profile import VersionSource
from respin.node.recognise import places, recognise, version_of
from respin.trust import TrustStore
from tests.support.images import run
from tests.support.keys import KeyWorld

CLASSIC = {
    "LiveOS/squashfs.img": "root",
    "isolinux/version": "PRODUCT='oVirt Node'\nPACKAGE=ovirt-node-iso\nVERSION=3.6\nRELEASE=1\n",
    "isolinux/vmlinuz0": "kernel",
    "isolinux/initrd0.img": "initrd",
    "isolinux/isolinux.cfg": "",
    "EFI/BOOT/BOOTX64.conf": "",
}
NG = {
    "ovirt-node-ng-image.squashfs.img": "payload",
    "interactive-defaults.ks": "liveimg --url=file:///run/install/repo/x\n%post\nimgbase layout --init\n%end\n",
    "images/install.img": "stage2",
    "images/product.img": "",
    "images/pxeboot/vmlinuz": "",
    "images/pxeboot/initrd.img": "",
    "EFI/BOOT/grub.cfg": "",
    ".treeinfo": "[general]\n",
}
NG_EL7 = {**{k: v for k, v in NG.items() if k != "images/install.img"}, "LiveOS/squashfs.img": "stage2"}
FEDORA = {"LiveOS/squashfs.img": "root", "images/pxeboot/vmlinuz": "", "boot/grub2/grub.cfg": ""}
DEBIAN = {
    "live/filesystem.squashfs": "root",
    "live/vmlinuz-6.1.0-18-amd64": "",
    "live/initrd.img-6.1.0-18-amd64": "",
    "isolinux/live.cfg": "",
    "boot/grub/grub.cfg": "",
    "sha256sum.txt": "",
}
KIWI = {"LiveOS/squashfs.img": "root", "boot/mbrid": "0x1", "boot/x86_64/loader/linux": "", "boot/grub2/grub.cfg": ""}
EXAMPLE = {**CLASSIC, "isolinux/version": "PACKAGE=example-node-iso\n"}
KINDS: Mapping[str, Mapping[str, str]] = {
    "ovirt-node-classic": CLASSIC,
    "ovirt-node-ng": NG,
    "dracut-live": FEDORA,
    "debian-live": DEBIAN,
    "kiwi-live": KIWI,
    "example-node": EXAMPLE,
}


def iso(directory: Path, files: Mapping[str, str]) -> IsoImage:
    """An ISO with ``files`` and nothing else."""
    for name, content in files.items():
        path = directory / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    made = directory / "x.iso"
    run("xorrisofs", "-quiet", "-R", "-J", "-V", "X", "-o", made, directory / "tree")
    return IsoImage.open(BytesView(made.read_bytes(), "x.iso"))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_is_recognised_as_itself(kind: str, tmp_path: Path) -> None:
    found = recognise(iso(tmp_path, KINDS[kind]), built_in())
    assert found is not None
    assert found.id == kind


@pytest.mark.parametrize("files", [{"README": ""}, {"isolinux/version": CLASSIC["isolinux/version"]}])
def test_other_isos_are_none_of_them(files: Dict[str, str], tmp_path: Path) -> None:
    assert recognise(iso(tmp_path, files), built_in()) is None


@pytest.mark.parametrize("files", [NG, NG_EL7])
def test_the_payload_and_the_second_stage_of_ng_are_told_apart(files: Dict[str, str], tmp_path: Path) -> None:
    image = iso(tmp_path, files)
    profile = recognise(image, built_in())
    assert profile is not None
    found = places(image, profile)
    assert found.root == "/ovirt-node-ng-image.squashfs.img"
    assert found.stage2 == tuple(f"/{name}" for name, content in files.items() if content == "stage2")
    assert {"/images/product.img", "/interactive-defaults.ks", *found.stage2} <= set(found.protected["installer"])
    assert found.root not in found.protected["installer"]


def test_places_of_a_debian_live_image(tmp_path: Path) -> None:
    image = iso(tmp_path, DEBIAN)
    profile = recognise(image, built_in())
    assert profile is not None
    found = places(image, profile)
    assert found.root == "/live/filesystem.squashfs"
    assert found.kernels == ("/live/vmlinuz-6.1.0-18-amd64",)
    assert found.initrds == ("/live/initrd.img-6.1.0-18-amd64",)
    assert found.boot_configurations == ("/boot/grub/grub.cfg", "/isolinux/live.cfg")
    assert found.checksums == ("/sha256sum.txt",)


def test_a_second_image_that_would_be_stacked_is_refused(tmp_path: Path) -> None:
    image = iso(tmp_path, {**DEBIAN, "live/extra.squashfs": "more"})
    profile = recognise(image, built_in())
    assert profile is not None
    with pytest.raises(UnsupportedError, match=r"/live/extra\.squashfs, /live/filesystem\.squashfs"):
        places(image, profile)


def _own(text: str = "") -> str:
    return (
        'schema = 1\nid = "own-node"\ntitle = "Own Node"\n'
        + text
        + '[recognise]\nfiles = ["/isolinux/version"]\n[[recognise.says]]\nfile = "/isolinux/version"\n'
        'key = "PACKAGE"\nvalues = ["ovirt-node-*"]\n[version]\niso = "/isolinux/version"\n'
        '[layout]\nroot = "/LiveOS/squashfs.img"\nkernels = []\ninitrds = []\nboot_configurations = []\n'
        "[protected.installer]\niso = []\nroot = []\nunits = []\n"
        "[protected.persistence]\niso = []\nroot = []\nunits = []\n"
    )


def test_two_that_fit_are_an_error_that_names_both(tmp_path: Path) -> None:
    profiles = (*built_in(), profileparser.parse(_own(), "own.toml"))
    with pytest.raises(UnsupportedError, match=r"ovirt-node-classic .* and own-node") as caught:
        recognise(iso(tmp_path, CLASSIC), profiles)
    assert caught.value.finding == "ambiguous-profile"


def test_one_that_says_so_counts_instead_of_another(tmp_path: Path) -> None:
    own = profileparser.parse(_own('instead_of = ["ovirt-node-classic", "dracut-live"]\n'), "own.toml")
    assert recognise(iso(tmp_path, CLASSIC), (*built_in(), own)) == own


def test_two_that_each_count_instead_of_the_other_are_an_error(tmp_path: Path) -> None:
    one = profileparser.parse(_own('instead_of = ["two"]\n'), "1")
    two = profileparser.parse(_own('instead_of = ["own-node"]\n').replace('id = "own-node"', 'id = "two"'), "2")
    with pytest.raises(UnsupportedError, match=r"own-node .* and two"):
        recognise(iso(tmp_path, CLASSIC), (one, two))


def test_a_trust_store_adds_profiles_and_its_digest_says_so(key_world: KeyWorld, tmp_path: Path) -> None:
    run("cp", "-r", key_world.trust, tmp_path / "trust")
    before = TrustStore.load(tmp_path / "trust")
    assert known(before) == built_in()
    (tmp_path / "trust/profiles").mkdir()
    file = tmp_path / "trust/profiles/own.toml"
    file.write_text(_own())
    after = TrustStore.load(tmp_path / "trust")
    assert [one.id for one in known(after)][-1] == "own-node"
    assert after.digest != before.digest
    file.write_text(_own().replace("own-node", "example-node"))
    with pytest.raises(UsageError, match="there is a profile example-node already"):
        known(TrustStore.load(tmp_path / "trust"))
    file.rename(file.with_suffix(".tml"))
    with pytest.raises(UsageError, match="only profiles"):
        TrustStore.load(tmp_path / "trust")


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("kernels = []", "kernel = []", "layout.kernels is missing"),
        ("kernels = []", "kernels = []\ncore = []", "layout.core is no key"),
        ("kernels = []", 'kernels = ["vmlinuz"]', "no absolute path"),
        ("kernels = []", 'kernels = ["/a/../b"]', "no absolute path"),
        ("kernels = []", "kernels = [1]", "list of strings"),
        ('title = "Own Node"', "title = 1", "title must be a string"),
        ('files = ["/isolinux/version"]', "files = []", "would match any ISO"),
        ('key = "PACKAGE"\n', "", "either a text, or a key"),
        ('iso = "/isolinux/version"', "", "or version.root must be there"),
        ("[protected.persistence]", "[protected.persistent]", "protected.persistence is missing"),
        ("schema = 1", "schema = 2", "schema"),
    ],
)
def test_a_profile_with_a_mistake_is_refused(old: str, new: str, word: str) -> None:
    assert old in _own()
    with pytest.raises(UsageError, match=word):
        profileparser.parse(_own().replace(old, new), "own.toml")


def test_versions_come_from_assignments_or_ini_by_the_names_of_the_profile() -> None:
    keys = {"product": "NAME", "version": "VERSION_ID", "release": ""}
    source = VersionSource("", ("/etc/os-release",), "", keys)
    found = version_of(source, b'NAME="oVirt Node"\nVERSION_ID="4.5"\n', "x")
    assert (found["PRODUCT"], found["VERSION"], found.get("RELEASE", "")) == ("oVirt Node", "4.5", "")
    keys = {"product": "family", "version": "version", "release": ""}
    source = VersionSource("/.treeinfo", (), "general", keys)
    found = version_of(source, b"[general]\nfamily = Fedora\nversion = 40\n[x]\nfamily = no\n", "x")
    assert (found["PRODUCT"], found["VERSION"]) == ("Fedora", "40")
    with pytest.raises(MalformedError):
        version_of(source, b"family = Fedora\n", "x")
