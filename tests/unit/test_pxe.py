"""Starting from a network: what is planned for an ISO, and what the boot loaders' configurations say.

The valid world are small ISOs with the files of an example Node and of an oVirt Node NG; a refusal changes one thing.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping

import pytest

from respin.byteview import FileView
from respin.errors import RespinError, UnsupportedError, UsageError
from respin.formats import cpio
from respin.formats.iso9660.image import IsoImage
from respin.node import profileparser
from respin.node.base import opened
from respin.node.knownprofiles import built_in
from respin.node.profile import Profile
from respin.node.recognise import recognise
from respin.pxe.configs import configurations
from respin.pxe.model import NetworkPlan
from respin.pxe.plan import plan_network_boot
from respin.pxe.proof import Proof, prove
from respin.pxe.pxe import PxeRequest, pxe
from respin.pxe.request import PlanRequest
from tests.support import iso as isos
from tests.support.iso import VOLUME_ID

PROFILES = {one.id: one for one in built_in()}
URL = "http://10.0.0.1:8080/node"
ARGUMENTS = f"root=live:CDLABEL={VOLUME_ID} ro rd.live.image console=ttyS0,115200n8"
MENU = f"""default menu.c32
label start
  kernel vmlinuz0
  append initrd=initrd0.img {ARGUMENTS}
label Media check
  kernel vmlinuz0
  append initrd=initrd0.img {ARGUMENTS} rd.live.check
label rescue
  kernel vmlinuz0
  append initrd=initrd0.img {ARGUMENTS} rescue
label local
  localboot 0xffff
"""
PLAIN = gzip.compress(cpio.archive({"init": b"#!/bin/sh\n", "usr": None, "usr/sbin": None}, 0))
FETCHES = gzip.compress(cpio.archive({"usr": None, "usr/sbin": None, "usr/sbin/livenetroot": b"#!/bin/sh\n"}, 0))
EXAMPLE: Mapping[str, isos.Content] = {
    "isolinux/version": "PRODUCT='Example'\nPACKAGE=example-node-iso\nVERSION=1\nRELEASE=1\n",
    "isolinux/isolinux.cfg": MENU,
    "isolinux/initrd0.img": PLAIN,
}
INSTALLS = f"inst.stage2=hd:LABEL={VOLUME_ID} inst.ks=hd:LABEL={VOLUME_ID}:/interactive-defaults.ks rd.live.check quiet"
KICKSTART = (
    "liveimg --url=file:///run/install/repo/node.squashfs.img --checksum=0123\n%post\nimgbase layout --init\n%end\n"
)
NG: Mapping[str, isos.Content] = {
    "isolinux/isolinux.cfg": f"label linux\n kernel vmlinuz\n append initrd=initrd.img {INSTALLS}\n",
    "isolinux/vmlinuz": b"kernel",
    "isolinux/initrd.img": b"initrd",
    "images/install.img": b"stage2",
    "images/product.img": b"product",
    "node.squashfs.img": b"payload",
    "interactive-defaults.ks": KICKSTART,
    ".treeinfo": "[general]\n",
}


def make(directory: Path, files: Mapping[str, isos.Content]) -> Path:
    return isos.genisoimage(isos.make_tree(directory, files), directory / "node.iso", uefi=False)


def planned(path: Path, profile: str = "", **request: Any) -> NetworkPlan:
    fd = os.open(path, os.O_RDONLY)
    try:
        image = IsoImage.open(FileView(fd, str(path)))
        found = PROFILES[profile] if profile else recognise(image, built_in())
        assert found is not None
        return plan_network_boot(image, found, PlanRequest(**{"name": "node.iso", **request}))
    finally:
        os.close(fd)


def refused(kind: "type[RespinError]", finding: str, path: Path, profile: str = "", **request: Any) -> RespinError:
    with pytest.raises(kind) as caught:
        planned(path, profile, **request)
    assert caught.value.finding == finding
    assert caught.value.remedy
    return caught.value


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("example"), EXAMPLE)


@pytest.fixture(scope="module")
def ng(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("ng"), NG)


def lines(plan: NetworkPlan, name: str) -> "list[str]":
    return configurations(plan)[name].decode("ascii").splitlines()


def test_the_entries_are_those_of_the_isos_own_menu_without_the_medium(example: Path) -> None:
    plan = planned(example)
    assert plan.mode == "initrd"
    kept = ("ro", "rd.live.image", "console=ttyS0,115200n8")
    assert [(one.label, one.arguments) for one in plan.entries] == [
        ("start", ("root=live:/node.iso", *kept)),
        ("rescue", ("root=live:/node.iso", *kept, "rescue")),
    ], "the media check comes to the same as a start"
    for one in plan.entries:
        assert one.kernel == "isolinux/vmlinuz0"
        assert one.initrds == ("isolinux/initrd0.img", "node.iso.cpio")
    assert plan.files == ("/isolinux/initrd0.img", "/isolinux/vmlinuz0")
    assert plan.warnings == ()


def test_pxelinux(example: Path) -> None:
    assert lines(planned(example), "pxelinux.cfg/default") == [
        "# Example Node from the network",
        "default start",
        "prompt 1",
        "timeout 50",
        "say Example Node from the network: start rescue",
        "",
        "label start",
        "  kernel isolinux/vmlinuz0",
        "  append initrd=isolinux/initrd0.img,node.iso.cpio root=live:/node.iso ro rd.live.image"
        " console=ttyS0,115200n8",
        "",
        "label rescue",
        "  kernel isolinux/vmlinuz0",
        "  append initrd=isolinux/initrd0.img,node.iso.cpio root=live:/node.iso ro rd.live.image"
        " console=ttyS0,115200n8 rescue",
    ]


def test_grub(example: Path, tmp_path: Path) -> None:
    plan = planned(example)
    found = lines(plan, "grub.cfg")
    assert found[:9] == [
        "# Example Node from the network",
        'set respin_node="$config_directory"',
        "set default=0",
        "set timeout=5",
        "",
        "menuentry 'Example Node from the network: start' --id start {",
        '    linux "$respin_node/isolinux/vmlinuz0" root=live:/node.iso ro rd.live.image console=ttyS0,115200n8',
        '    initrd "$respin_node/isolinux/initrd0.img" "$respin_node/node.iso.cpio"',
        "}",
    ]
    (tmp_path / "grub.cfg").write_bytes(configurations(plan)["grub.cfg"])
    subprocess.run(["grub-script-check", tmp_path / "grub.cfg"], check=True)


@pytest.mark.parametrize(("url", "base"), [("", ""), (URL, f"{URL}/"), (f"{URL}/", f"{URL}/")])
def test_ipxe(example: Path, url: str, base: str) -> None:
    found = lines(planned(example, url=url), "boot.ipxe")
    assert found[:2] == ["#!ipxe", "# Example Node from the network"]
    assert "choose --default start --timeout 5000 entry || exit" in found
    assert found[-5:] == [
        "imgfree",
        f"kernel {base}isolinux/vmlinuz0 initrd=initrd0.img initrd=node.iso.cpio root=live:/node.iso ro rd.live.image"
        " console=ttyS0,115200n8 rescue",
        f"initrd {base}isolinux/initrd0.img",
        f"initrd {base}node.iso.cpio",
        "boot",
    ]


def test_one_entry_needs_no_menu(ng: Path) -> None:
    assert not [line for line in lines(planned(ng, url=URL), "boot.ipxe") if line.startswith(("menu", "choose"))]


def test_an_installer_fetches_its_stages_and_its_kickstart(ng: Path) -> None:
    plan = planned(ng, url=URL)
    assert plan.mode == "installer"
    assert [one.arguments for one in plan.entries] == [
        (f"inst.stage2={URL}", f"inst.ks={URL}/interactive-defaults.ks", "quiet")
    ]
    assert plan.entries[0].initrds == ("isolinux/initrd.img",)
    fetched = {"/.treeinfo", "/images/install.img", "/images/product.img", "/node.squashfs.img"}
    # The world's LiveOS/squashfs.img is a second stage as EL 7 has it
    assert set(plan.files) == {"/isolinux/vmlinuz", "/isolinux/initrd.img", "/LiveOS/squashfs.img", *fetched}
    path, content = plan.kickstart
    assert path == "/interactive-defaults.ks"
    assert content.decode() == KICKSTART.replace("file:///run/install/repo", URL)
    assert plan.warnings == ()


def test_what_a_kickstart_still_wants_of_the_medium_is_said(tmp_path: Path) -> None:
    more = KICKSTART + "%post --nochroot\ncp /run/install/repo/x /mnt\n%end\n"
    plan = planned(make(tmp_path, {**NG, "interactive-defaults.ks": more}), url=URL)
    assert len(plan.warnings) == 1
    assert "/interactive-defaults.ks still speaks of /run/install/repo" in plan.warnings[0]


def test_a_root_over_http_is_the_image_alone(tmp_path: Path) -> None:
    plan = planned(make(tmp_path, {**EXAMPLE, "isolinux/initrd0.img": FETCHES}), mode="http", url=URL)
    assert plan.entries[0].arguments[:2] == (f"root=live:{URL}/LiveOS/squashfs.img", "ip=dhcp")
    assert plan.entries[0].initrds == ("isolinux/initrd0.img",)
    assert plan.files == ("/LiveOS/squashfs.img", "/isolinux/initrd0.img", "/isolinux/vmlinuz0")
    assert plan.archive == plan.whole == ""


def test_an_argument_that_the_vendor_gave_stays(tmp_path: Path) -> None:
    menu = MENU.replace(" ro ", " ro ip=eth1:dhcp ")
    path = make(tmp_path, {**EXAMPLE, "isolinux/initrd0.img": FETCHES, "isolinux/isolinux.cfg": menu})
    words = planned(path, mode="http", url=URL).entries[0].arguments
    assert [word for word in words if word.startswith("ip=")] == ["ip=eth1:dhcp"]


def test_an_initrd_that_cannot_fetch_its_root_is_refused(example: Path) -> None:
    error = refused(UnsupportedError, "initrd-lacks", example, mode="http", url=URL)
    assert "livenetroot" in error.what
    assert "/isolinux/initrd0.img" in str(error.where)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_built_in_profile_says_how_its_node_starts_from_a_network(profile: str) -> None:
    pxe = PROFILES[profile].pxe
    assert pxe is not None
    assert pxe.mode in pxe.modes


def test_a_profile_without_a_table_is_refused(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "without", replace(PROFILES["example-node"], pxe=None))
    refused(UnsupportedError, "no-pxe", example, "without")


def test_a_way_that_the_profile_has_not_is_refused(example: Path) -> None:
    assert "http, initrd" in str(refused(UsageError, "no-such-mode", example, mode="nfs").remedy)


def test_a_way_by_http_needs_the_url(ng: Path) -> None:
    refused(UsageError, "no-url", ng)


@pytest.mark.parametrize(
    "name",
    [
        "my node.iso",
        "node.img",
        "node",
        "-node.iso",
        "n$(id).iso",
        "n\u00f6de.iso",
        "a,b.iso",
        "a/b.iso",
        ".iso",
        "n\n.iso",
    ],
)
def test_an_odd_name_is_refused(example: Path, name: str) -> None:
    refused(UsageError, "odd-name", example, name=name)


def test_where_the_isos_name_does_not_matter_it_may_be_odd(ng: Path) -> None:
    assert planned(ng, name="my node (1).iso", url=URL).iso_name == ""


@pytest.mark.parametrize(
    "url",
    [
        "ftp://server/x",
        "http://",
        "http://server/a b",
        "http://server/x?y",
        "http://u@server/",
        "server/x",
        "http://s/${x}",
    ],
)
def test_an_odd_url_is_refused(example: Path, url: str) -> None:
    refused(UsageError, "odd-url", example, url=url)


@pytest.mark.parametrize(("lost", "named"), [("kernel vmlinuz0", "kernel vmlinuz9"), ("initrd0.img", "initrd9.img")])
def test_a_kernel_or_initrd_that_is_not_there_is_refused(tmp_path: Path, lost: str, named: str) -> None:
    menu = MENU.replace(lost, named)
    error = refused(UnsupportedError, "kernel-missing", make(tmp_path, {**EXAMPLE, "isolinux/isolinux.cfg": menu}))
    assert any(named.rpartition(" ")[2] in one for one in error.also)


def test_an_entry_that_is_broken_on_the_medium_is_left_out_and_said(tmp_path: Path) -> None:
    menu = MENU + "label old\n kernel vmlinuz9\n append initrd=initrd0.img\n"
    plan = planned(make(tmp_path, {**EXAMPLE, "isolinux/isolinux.cfg": menu}))
    assert [one.label for one in plan.entries] == ["start", "rescue"]
    assert len(plan.warnings) == 1
    assert "vmlinuz9 is not on the ISO" in plan.warnings[0]


@pytest.mark.parametrize("word", [f"resume=LABEL={VOLUME_ID}", "x=$(id)", "x='1", 'x="1"', "x=a;b", "x=a\\x20b"])
def test_an_argument_that_cannot_be_handed_on_is_refused(tmp_path: Path, word: str) -> None:
    menu = MENU.replace(" ro ", f" ro {word} ")
    refused(UnsupportedError, "medium-argument", make(tmp_path, {**EXAMPLE, "isolinux/isolinux.cfg": menu}))


def test_an_argument_in_a_variable_is_refused(tmp_path: Path) -> None:
    grub = f"menuentry x {{\n linux /isolinux/vmlinuz0 {ARGUMENTS} quiet$more\n initrd /isolinux/initrd0.img\n}}\n"
    files = {**EXAMPLE, "isolinux/isolinux.cfg": "default menu.c32\n", "EFI/BOOT/grub.cfg": grub}
    refused(UnsupportedError, "medium-argument", make(tmp_path, files))


def test_a_menu_of_grub_alone_is_read(tmp_path: Path) -> None:
    grub = f"menuentry 'Node 1' {{\n linux /isolinux/vmlinuz0 {ARGUMENTS}\n initrd /isolinux/initrd0.img\n}}\n"
    files = {**EXAMPLE, "isolinux/isolinux.cfg": "default menu.c32\n", "EFI/BOOT/grub.cfg": grub}
    plan = planned(make(tmp_path, files))
    assert [(one.label, one.initrds[0]) for one in plan.entries] == [("node-1", "isolinux/initrd0.img")]


def test_labels_are_told_apart(tmp_path: Path) -> None:
    menu = MENU.replace("label rescue", "label START")
    plan = planned(make(tmp_path, {**EXAMPLE, "isolinux/isolinux.cfg": menu}))
    assert [one.label for one in plan.entries] == ["start", "start-2"]


def test_a_command_line_that_is_too_long_is_refused(tmp_path: Path) -> None:
    menu = MENU.replace(" ro ", f" ro x={'y' * 1930} ")
    refused(UnsupportedError, "medium-argument", make(tmp_path, {**EXAMPLE, "isolinux/isolinux.cfg": menu}))


def test_an_iso_that_no_archive_takes_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path, EXAMPLE)
    os.truncate(path, cpio.LARGEST)
    warnings = planned(path).warnings
    assert len(warnings) == 1
    assert "2 GiB" in warnings[0]
    os.truncate(path, cpio.LARGEST + 1)
    assert "4 GiB" in refused(UnsupportedError, "too-large", path).what


def test_a_path_that_boot_loaders_would_take_apart_is_refused(tmp_path: Path) -> None:
    menu = MENU.replace("kernel vmlinuz0", "kernel vm,linuz0")
    refused(
        UnsupportedError,
        "odd-name",
        make(tmp_path, {**EXAMPLE, "isolinux/isolinux.cfg": menu, "isolinux/vm,linuz0": b"kernel"}),
    )


def test_an_archive_around_a_file_is_what_cpio_reads(tmp_path: Path) -> None:
    for size in range(8, 13):
        before, behind = cpio.around("node.iso", size, 1_600_000_000)
        done = subprocess.run(
            ["cpio", "-i", "--to-stdout", "--quiet"],
            input=before + b"x" * size + behind,
            capture_output=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == (b"x" * size, b"")
        assert cpio.archive({"node.iso": b"x" * size}, 1_600_000_000) == before + b"x" * size + behind


OWN = """
[pxe]
mode = "own"
[pxe.own]
arguments = ["root=live:{url}{root}"]
"""


def with_pxe(text: str) -> Profile:
    head = """
schema = 1
id = "own"
title = "Own"
[recognise]
files = ["/x"]
[version]
iso = "/x"
[layout]
root = "/x"
kernels = ["/x"]
initrds = ["/x"]
boot_configurations = ["/x"]
[protected.installer]
iso = []
root = []
units = []
[protected.persistence]
iso = []
root = []
units = []
"""
    return profileparser.parse(head + text, "own.toml")


def test_a_profile_of_ones_own_says_its_ways() -> None:
    pxe = with_pxe(OWN).pxe
    assert pxe is not None
    assert pxe.modes["own"].arguments == ("root=live:{url}{root}",)
    assert with_pxe("").pxe is None


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('mode = "own"', 'mode = "other"', "pxe.mode"),
        ('mode = "own"\n', "", "pxe.mode"),
        ("{root}", "{medium}", "pxe.own.arguments"),
        ("{root}", "{iso}", "pxe.own.arguments"),
        ("{root}", "{kickstart}", "pxe.own.arguments"),
        ("{root}", " x", "pxe.own.arguments"),
        ("arguments =", 'iso = "disk"\narguments =', "pxe.own.iso"),
        ("arguments =", "argument = []\narguments =", "pxe.own.argument"),
        ("arguments =", 'files = ["images"]\narguments =', "pxe.own.files"),
        ("[pxe.own]", "[pxe.Own]", "pxe.Own"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(old: str, new: str, named: str) -> None:
    assert old in OWN
    with pytest.raises(UsageError, match=named.replace(".", r"\.")):
        with_pxe(OWN.replace(old, new))


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_written_is_what_was_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    """A device gives other bytes after the proof than before it, and no time of its inode tells."""
    iso = make(tmp_path, {**EXAMPLE, "isolinux/vmlinuz0": b"the vendor's kernel"})
    digest = hashlib.sha256(iso.read_bytes()).hexdigest()

    def prove_and_change(*arguments: Any) -> Proof:
        proof = prove(*arguments)
        changed = iso.read_bytes().replace(b"the vendor's kernel", b"the attacker's one!")
        with iso.open("r+b") as file:
            file.write(changed)
        return proof

    monkeypatch.setattr("respin.pxe.pxe.prove", prove_and_change)
    monkeypatch.setattr("respin.pxe.pxe.opened", lambda path: opened(path, lambda *_file: nullcontext()))
    written = pxe(PxeRequest(iso, tmp_path / "out", sha256=digest if asked else None))
    assert written.proof.sha256 == digest
    kernel = (tmp_path / "out/isolinux/vmlinuz0").read_bytes()
    assert (kernel == b"the vendor's kernel") is asked
