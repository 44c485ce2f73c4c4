"""``respin reproduce``: what its statement names gives the same ISO again; anything else is refused or told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, List, Optional

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.support import rawiso
from tests.support.forge import Done, Forge, respin

B = 2048
UNSIGNED = {"sign_key": None, "gnupg_home": None, "unsigned": True}


def reproduce(forge: Forge, iso: Path, *plugins: Path, env: "Optional[dict[str, str]]" = None, **options: Any) -> Done:
    """With the stock ISO and its CHECKSUM unless ``options`` (None: left out) say otherwise."""
    arguments = {"base": forge.iso, "base_checksum": forge.checksum, "trust": forge.keys.trust, **options}
    command: List[object] = ["reproduce", iso, "--json"]
    for option, value in arguments.items():
        if value is not None:
            command += ["--" + option.replace("_", "-"), value]
    for plugin in plugins:
        command += ["--plugin", plugin]
    return respin(*command, env=env)


def slot_of(iso: Path) -> "tuple[int, int]":
    record = next(r for r in rawiso.records(iso.read_bytes(), False) if r.path == "/respin.sig")
    return record.extent * B, record.size


def test_a_signed_iso_is_reproduced_without_its_key(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    scratch, kept = tmp_path / "scratch", tmp_path / "kept.iso"
    scratch.mkdir()
    done = reproduce(forge, respun.iso, respun.plugin, tmpdir=scratch, keep=kept)
    assert done.code == 0, done.err
    document = done.json
    assert (document["schema"], document["reproduced"], document["difference"]) == ("respin.reproduce/1", True, None)
    assert document["base"]["sha256"] == sha256(forge.iso)
    assert document["plugins"] == [{"name": "good-1-1.noarch.plugin.tar", "sha256": sha256(respun.plugin)}]
    assert document["toolchain"]["recorded"] == document["toolchain"]["here"]
    assert document["rebuilt_sha256"] == sha256(kept)
    offset, size = slot_of(respun.iso)
    signed, rebuilt = bytearray(respun.iso.read_bytes()), kept.read_bytes()
    assert (document["left_out"]["offset"], document["left_out"]["size"]) == (offset, size)
    assert signed != rebuilt
    signed[offset : offset + size] = bytes(size)
    assert signed == rebuilt, "the same but for the slot"
    assert list(scratch.iterdir()) == []


def test_the_iso_alone_brings_its_base_along(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    """From a stick, too; and the time that it was built for counts, whatever the environment says."""
    scratch, stick = tmp_path / "scratch", tmp_path / "stick.img"
    scratch.mkdir()
    shutil.copy(respun.iso, stick)
    os.truncate(stick, respun.iso.stat().st_size + (3 << 20))
    done = reproduce(
        forge, stick, respun.plugin, base=None, base_checksum=None, tmpdir=scratch, env={"SOURCE_DATE_EPOCH": "1"}
    )
    assert done.code == 0, done.err
    assert (done.json["reproduced"], done.json["size"]) == (True, respun.iso.stat().st_size)
    assert list(scratch.iterdir()) == []


@pytest.fixture(scope="module")
def pinned(forge: Forge, good_plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built at another time, on a base that its maker vouched for, without a restore map."""
    iso = tmp_path_factory.mktemp("pinned") / "pinned.iso"
    words = {"base_checksum": None, "base_sha256": sha256(forge.iso), "no_restore": True, **UNSIGNED}
    done = forge.build(iso, good_plugin, env={"SOURCE_DATE_EPOCH": "1600000000"}, **words)
    assert done.code == 0, done.err
    return iso


def test_time_pinned_base_and_missing_restore_map_are_taken_from_the_statement(
    forge: Forge, pinned: Path, good_plugin: Path, tmp_path: Path
) -> None:
    renamed = tmp_path / "another-name.iso"
    renamed.symlink_to(forge.iso)
    done = reproduce(
        forge, pinned, good_plugin, base=renamed, base_checksum=None, base_sha256=sha256(forge.iso), tmpdir=tmp_path
    )
    assert done.code == 0, done.err
    assert (done.json["epoch"], done.json["restorable"], done.json["base"]["verified"]) == (1600000000, False, "pinned")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another-name.iso"]


def test_a_pinned_base_takes_a_word(forge: Forge, pinned: Path, good_plugin: Path) -> None:
    done = reproduce(forge, pinned, good_plugin, base_checksum=None)
    assert done.code == 2
    assert sha256(forge.iso) in done.err
    done = reproduce(forge, pinned, good_plugin, base=None)
    assert (done.code, done.json["error"]["finding"]) == (3, "no-restore-map")


def test_other_inputs_are_refused_before_anything_is_built(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    other = forge.plugin("other", files={"/usr/share/other/data": "other\n"})
    stranger = tmp_path / forge.iso.name
    shutil.copy(forge.iso, stranger)
    with stranger.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"another release")
    cases = [
        ([other], {}, "other-plugin"),
        ([respun.plugin, other], {}, "other-plugin"),
        ([respun.plugin], {"base": stranger}, "base-digest"),
        ([respun.plugin], {"base_checksum": None, "base_sha256": "0" * 64}, "base-digest"),
    ]
    for plugins, options, finding in cases:
        done = reproduce(forge, respun.iso, *plugins, **options)
        assert (done.code, done.json["error"]["finding"]) == (3, finding)
        assert "Installing" not in done.err
    assert reproduce(forge, respun.iso, respun.plugin, respun.plugin).code == 2
    assert reproduce(forge, respun.iso, respun.plugin, base_sha256="0" * 64).code == 2
    done = reproduce(forge, forge.iso, respun.plugin)
    assert (done.code, done.json["error"]["finding"]) == (3, "no-statement")


@pytest.fixture(scope="module")
def two(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, Path, Path]":
    """Two plugins that share a directory, whose times differ, given in the other order than they are installed in."""

    def plugin(name: str, when: int, extra: str) -> Path:
        rpm = forge.rpm(
            name,
            files={f"/usr/share/shared/{name}": name},
            sections=f"touch -d @{when} %{{buildroot}}/usr/share/shared",
            # The directory belongs to both.
            directives={f"/usr/share/shared/{name}": "%dir /usr/share/shared\n"},
        )
        return forge.bundle([rpm], name, extra=extra)

    first = plugin("first", 1_500_000_000, "")
    later = plugin("later", 1_550_000_000, 'after = ["first"]')
    iso = tmp_path_factory.mktemp("two") / "two.iso"
    done = forge.build(iso, later, first, **UNSIGNED)
    assert done.code == 0, done.err
    return iso, later, first


def test_the_order_of_the_plugins_on_the_command_line_does_not_matter(
    forge: Forge, two: "tuple[Path, Path, Path]"
) -> None:
    iso, later, first = two
    for plugins in ([later, first], [first, later]):
        done = reproduce(forge, iso, *plugins)
        assert done.code == 0, done.out
    done = reproduce(forge, iso, first)
    assert (done.code, done.json["error"]["finding"]) == (3, "missing-plugin")
    assert "later-1-1.noarch.plugin.tar" in done.err


def test_other_bytes_are_told_with_their_place(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    copy = tmp_path / "copy.iso"
    shutil.copy(respun.iso, copy)
    data = respun.iso.read_bytes()
    record = next(r for r in rawiso.records(data, False) if r.path == "/EFI/BOOT/grub.cfg")
    spot = record.extent * B + 5
    with copy.open("r+b") as file:
        file.seek(spot)
        file.write(bytes([data[spot] ^ 1]))
    done = reproduce(forge, copy, respun.plugin)
    assert done.code == 3, done.err
    assert done.json["reproduced"] is False
    assert done.json["difference"] == {
        "offset": spot,
        "place": {"structure": "file", "offset": 5, "path": "/EFI/BOOT/grub.cfg"},
    }
    assert done.json["reasons"] == []
    told = done.json["diff"]["sections"]
    assert [one["name"] for one in told["iso"]["differences"]] == ["/EFI/BOOT/grub.cfg"]
    assert [one["name"] for one in told["boot"]["differences"]] == ["/EFI/BOOT/grub.cfg"]
    command = ["reproduce", copy, "--plugin", respun.plugin, "--trust", forge.keys.trust, "--base", forge.iso, "-q"]
    said = respin(*command)
    assert said.code == 3
    assert said.out.startswith("NOT REPRODUCED")
    assert f"byte {spot}: /EFI/BOOT/grub.cfg, byte 5" in said.out


def test_another_toolchain_is_named_as_the_likely_reason(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    copy = tmp_path / "copy.iso"
    data = respun.iso.read_bytes()
    version = subprocess.run(["rpm", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    ours = f'"rpm":"{version}"'.encode()
    assert data.count(ours) == 1
    theirs = ours.replace(version[-1:].encode() + b'"', b'x"')
    copy.write_bytes(data.replace(ours, theirs))
    done = reproduce(forge, copy, respun.plugin)
    assert done.code == 3, done.err
    assert done.json["difference"]["place"]["path"] == "/respin.json"
    assert done.json["toolchain"]["recorded"]["rpm"] == version[:-1] + "x"
    assert [version in reason and "rpm" in reason for reason in done.json["reasons"]] == [True]


def test_what_is_kept_is_in_nobodys_way(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    precious = tmp_path / "kept.iso"
    precious.write_text("precious")
    assert reproduce(forge, respun.iso, respun.plugin, keep=precious).code == 2
    assert precious.read_text() == "precious"
    before = sha256(respun.iso)
    command = ["reproduce", respun.iso, "--plugin", respun.plugin, "--trust", forge.keys.trust]
    assert respin(*command, "--keep", respun.iso, "--force").code == 2
    assert sha256(respun.iso) == before
    assert sorted(os.listdir(tmp_path)) == ["kept.iso"]


def test_a_statement_that_adds_other_files_is_refused(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    copy = tmp_path / "copy.iso"
    data = respun.iso.read_bytes()
    added = b'"respin_added_to_iso":["/respin.evidence","/respin.json","/respin.restore","/respin.sig"]'
    assert data.count(added) == 1
    copy.write_bytes(data.replace(added, added.replace(b"/respin.restore", b"/respin.restorf")))
    done = reproduce(forge, copy, respun.plugin)
    assert (done.code, done.json["error"]["finding"]) == (3, "bad-statement")
