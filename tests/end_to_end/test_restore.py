"""The vendor's ISO comes back bit for bit; and a respun ISO can be respun again, from the vendor's."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.support import rawiso
from tests.support.attacker import Forgery
from tests.support.forge import Forge, respin

B = 2048


def test_the_vendors_iso_comes_back_bit_for_bit(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    output = tmp_path / forge.iso.name
    done = respin("restore", respun.iso, "-o", output, "--json")
    assert done.code == 0, done.err
    assert done.json["sha256"] == sha256(output) == sha256(forge.iso)
    shutil.copy(forge.checksum, tmp_path)
    check = subprocess.run(["sha256sum", "-c", forge.checksum.name], cwd=tmp_path, capture_output=True)
    assert check.returncode == 0, "the vendor's own CHECKSUM proves it without respin"


def test_what_restoring_needs_can_be_read_without_respin(forge: Forge, respun: Respun) -> None:
    """By the documented format alone: a line of JSON, copies as triples, a zlib stream of the rest."""
    data = respun.iso.read_bytes()
    line, _, rest = rawiso.content(data, "/respin.restore").partition(b"\n")
    found = json.loads(line)
    originals = zlib.decompress(rest[: found["packed"]])
    assert len(originals) == found["originals"]
    stock, position, taken = b"", 0, 0
    numbers = found["copies"]
    for base, source, length in zip(numbers[0::3], numbers[1::3], numbers[2::3]):
        stock += originals[taken : taken + base - position] + data[source : source + length]
        taken, position = taken + base - position, base + length
    stock += originals[taken:]
    assert stock == forge.iso.read_bytes()


def test_verification_needs_nothing_but_the_trust_store(forge: Forge, respun: Respun) -> None:
    document = forge.verify(respun.iso, base=None).json
    assert document["complete"] is True
    assert document["base"]["verified"] == "vendor-signed"
    assert {link["status"] for link in document["links"]} == {"passed"}


def test_a_flipped_byte_anywhere_that_restoring_reads_is_told_with_its_place(
    forge: Forge, respun: Respun, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.iso"
    shutil.copy(respun.iso, copy)
    data = respun.iso.read_bytes()
    line, _, _ = rawiso.content(data, "/respin.restore").partition(b"\n")
    numbers = json.loads(line)["copies"]
    map_at = next(r for r in rawiso.records(data, False) if r.path == "/respin.restore").extent * B
    chosen = random.Random(11)
    spots = []
    for _ in range(5):
        number = chosen.randrange(len(numbers) // 3)
        _, source, length = numbers[3 * number : 3 * number + 3]
        spots.append(source + chosen.randrange(length))
    spots += [map_at + 20, map_at + len(line) // 2, map_at + len(line) + 40]
    for spot in spots:
        with copy.open("r+b") as file:
            file.seek(spot)
            file.write(bytes([data[spot] ^ 1]))
            file.flush()
            done = respin("restore", copy, "-o", tmp_path / "stock.iso", "--json")
            file.seek(spot)
            file.write(bytes([data[spot]]))
            file.flush()
        assert done.code in (3, 7), (spot, done.err)
        assert "copy.iso" in (done.json["error"]["where"] or ""), spot
        assert not (tmp_path / "stock.iso").exists()


def test_a_respun_iso_is_respun_from_the_vendors(
    forge: Forge, respun: Respun, good_plugin: Path, tmp_path: Path
) -> None:
    """Adding a plugin to a respun ISO gives what building with both from the stock ISO gives."""
    other = forge.plugin("other", files={"/usr/share/other/data": "other\n"})
    direct, again = tmp_path / "direct.iso", tmp_path / "again.iso"
    unsigned = {"sign_key": None, "gnupg_home": None, "unsigned": True}
    assert forge.build(direct, good_plugin, other, **unsigned).code == 0
    done = forge.build(again, good_plugin, other, base=respun.iso, **unsigned)
    assert done.code == 0, done.err
    assert sha256(direct) == sha256(again)


def test_no_plugin_of_a_respun_base_is_dropped_silently(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    other = forge.plugin("another", files={"/usr/share/another/data": "other\n"})
    done = forge.build(tmp_path / "out.iso", other, base=respun.iso, json=True)
    assert (done.code, done.json["error"]["finding"]) == (4, "plugin-dropped")
    assert "good" in done.err
    done = forge.build(tmp_path / "out.iso", other, base=respun.iso, remove="good", json=True)
    assert done.code == 0, done.err
    names = [plugin["name"] for plugin in done.json["verification"]["plugins"]]
    assert names == ["another-1-1.noarch.plugin.tar"]
    assert forge.build(tmp_path / "x.iso", other, base=respun.iso, remove="nothing").code == 2


def test_a_respun_base_must_be_signed(forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    """Nobody says which plugins it holds, so one could be dropped without a word."""
    unsigned, output = tmp_path / "unsigned.iso", tmp_path / "out.iso"
    assert forge.build(unsigned, good_plugin, sign_key=None, gnupg_home=None, unsigned=True).code == 0
    done = forge.build(output, good_plugin, base=unsigned, json=True)
    assert (done.code, done.json["error"]["finding"]) == (3, "unsigned")
    assert "respin restore" in done.json["error"]["remedy"]
    restored = tmp_path / forge.iso.name
    assert respin("restore", unsigned, "-o", restored).code == 0
    assert forge.build(output, good_plugin, base=restored).code == 0


def test_a_plugin_hidden_by_a_statement_that_nobody_trusted_signed(
    forge: Forge, respun: Respun, tmp_path: Path
) -> None:
    forgery = Forgery(respun.iso, tmp_path / "forged.iso", forge.keys)
    forgery.write("/respin.json", forgery.read("/respin.json").replace(b"good-1-1.noarch", b"none-1-1.noarch"))
    other = forge.plugin("hiding", files={"/usr/share/hiding/data": "other\n"})
    for key in ("plugin", "unknown"):
        done = forge.build(tmp_path / "out.iso", other, base=forgery.finish(key), json=True)
        assert (done.code, done.json["error"]["finding"]) == (3, "nokey")


def test_a_signed_statement_that_is_about_another_iso(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    copy = tmp_path / "copy.iso"
    shutil.copy(respun.iso, copy)
    with copy.open("r+b") as file:
        file.seek(12 * B)
        file.write(b"another")
    done = forge.build(tmp_path / "out.iso", respun.plugin, base=copy, json=True)
    assert (done.code, done.json["error"]["finding"]) == (3, "subject-digest")


@pytest.mark.parametrize("existing", [True, False])
def test_restore_never_overwrites(respun: Respun, tmp_path: Path, existing: bool) -> None:
    output = tmp_path / "stock.iso"
    if existing:
        output.write_text("precious")
        assert respin("restore", respun.iso, "-o", output).code == 2
        assert output.read_text() == "precious"
    assert respin("restore", respun.iso, "-o", output, "--force").code == 0


def test_a_stock_iso_has_nothing_to_restore(forge: Forge, tmp_path: Path) -> None:
    done = respin("restore", forge.iso, "-o", tmp_path / "x.iso", "--json")
    assert (done.code, done.json["error"]["finding"]) == (3, "no-restore-map")


def test_the_evidence_is_a_tar_that_gpg_can_check(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    archive = tmp_path / "evidence.tar"
    archive.write_bytes(rawiso.content(respun.iso.read_bytes(), "/respin.evidence"))
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
    keyring = tmp_path / "keyring.gpg"
    for key, command in (
        ("base", ["gpgv", "--keyring", keyring, tmp_path / "CHECKSUM"]),
        ("plugin", ["gpgv", "--keyring", keyring, tmp_path / "1/manifest.json.asc", tmp_path / "1/manifest.json"]),
    ):
        armored = forge.keys.public(key)
        keyring.write_bytes(subprocess.run(["gpg", "--dearmor"], input=armored, capture_output=True, check=True).stdout)
        assert subprocess.run(command, capture_output=True).returncode == 0, key
