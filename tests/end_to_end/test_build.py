"""What a build promises: verified, reproducible, nothing else changed, blocks reused, the base untouched."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.support import rawiso
from tests.support.forge import Forge, respin
from tests.support.images import extracted, nested_image
from tests.support.ordinary import built_by_an_ordinary_user

B = 2048
CHECKOUT = Path(__file__).parents[2]
ADDED = {"/respin.evidence", "/respin.json", "/respin.restore", "/respin.sig"}


def test_the_result_is_verified_in_words_an_operator_understands(forge: Forge, respun: Respun) -> None:
    done = respin(
        "verify", respun.iso, "--trust", forge.keys.trust, "--base", forge.iso, "--base-checksum", forge.checksum
    )
    assert done.code == 0, done.err
    assert done.out.startswith("PASSED")
    assert "the vendor's node.iso" in done.out
    assert "plugin-1" not in done.out
    assert "good-1-1.noarch.plugin.tar" in done.out


def test_without_base_and_restore_map_it_says_what_was_not_done(
    forge: Forge, good_plugin: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.iso"
    assert forge.build(output, good_plugin, no_restore=True).code == 0
    document = forge.verify(output, base=None).json
    assert document["verdict"] == "PASSED"
    assert document["complete"] is False
    assert [link["name"] for link in document["links"] if link["status"] == "not done"] == ["stock Node"]
    assert forge.verify(output).json["complete"] is True
    refused = respin("restore", output, "-o", tmp_path / "stock.iso", "--json")
    assert (refused.code, refused.json["error"]["finding"]) == (3, "no-restore-map")


def test_at_least_95_percent_of_the_blocks_are_reused_and_few_are_read(respun: Respun) -> None:
    counters = respun.document["counters"]
    assert counters["root_blocks_reused"] >= 0.95 * counters["root_blocks_stored"]
    assert counters["root_blocks_reused"] + counters["root_blocks_recompressed"] == counters["root_blocks_stored"]
    assert counters["root_blocks_read"] < 0.6 * counters["root_blocks_stored"]


def test_reused_blocks_are_byte_identical_in_the_file(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    """Samples of the stock root image's compressed data must stand in the new one, nearly all of them."""
    before = extracted(forge.iso, "/LiveOS/squashfs.img", tmp_path / "stock").read_bytes()
    after = extracted(respun.iso, "/LiveOS/squashfs.img", tmp_path / "ours").read_bytes()
    samples = [before[at : at + 64] for at in range(1 << 20, len(before) - (1 << 20), len(before) // 40)]
    assert sum(1 for sample in samples if sample in after) >= 0.95 * len(samples)


def test_two_builds_differ_in_the_signature_slot_only(
    forge: Forge, respun: Respun, good_plugin: Path, tmp_path: Path
) -> None:
    base = tmp_path / "elsewhere" / forge.iso.name
    base.parent.mkdir()
    shutil.copy(forge.iso, base)
    plugin = tmp_path / good_plugin.name
    shutil.copy(good_plugin, plugin)
    again = tmp_path / "another-name.iso"
    environment = {"TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = forge.build(again, plugin, base=base, env=environment)
    assert done.code == 0, done.err
    slot = next(r for r in rawiso.records(again.read_bytes(), False) if r.path == "/respin.sig")
    first, second = bytearray(respun.iso.read_bytes()), bytearray(again.read_bytes())
    for data in (first, second):
        data[slot.extent * B : slot.extent * B + slot.size] = bytes(slot.size)
    assert first == second


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_unsigned_builds_are_equal_also_by_an_ordinary_user(forge: Forge, good_plugin: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        ours = place / "ours.iso"
        unsigned = {"sign_key": None, "gnupg_home": None, "unsigned": True}
        done = forge.build(ours, good_plugin, **unsigned)
        assert done.code == 0, done.err
        theirs = built_by_an_ordinary_user(forge, good_plugin, place)
        assert sha256(ours) == sha256(theirs)
        assert {path.name for path in theirs.parent.iterdir()} == {"theirs.iso", "theirs.iso.added.cdx.json"}
        refused = forge.verify(ours)
        assert (refused.code, refused.json["error"]["finding"]) == (3, "unsigned")


def test_the_iso_differs_only_in_spliced_extents_and_patched_records(forge: Forge, respun: Respun) -> None:
    """By a raw record reader of the tests' own that shares nothing with the writer."""
    before, after = forge.iso.read_bytes(), respun.iso.read_bytes()
    for joliet in (False, True):
        old = {r.path: r for r in rawiso.records(before, joliet)}
        new = {r.path: r for r in rawiso.records(after, joliet)}
        assert set(new) - set(old) == ADDED
        assert set(old) <= set(new)
        for path, record in old.items():
            if record.is_directory or path.endswith(("/LiveOS/squashfs.img", "/isolinux/isolinux.bin")):
                continue
            other = new[path]
            assert content(before, record) == content(after, other), path
            assert _without_place(record.raw) == _without_place(other.raw), path
    image = next(r for r in rawiso.records(before, False) if r.path == "/LiveOS/squashfs.img")
    start = image.extent * B
    patched = {
        offset // B for offset in range(0, start, B) if before[offset : offset + B] != after[offset : offset + B]
    }
    # MBR and GPT, descriptors, directories and path tables: nothing else lies before the root image.
    assert all(block in _structures(before) for block in patched), sorted(patched)
    growth = len(after) - len(before)
    assert growth % (1 << 20) == 0
    tail = (image.extent + -(-image.size // B)) * B
    end = rawiso.pvd_space(before) * B
    moved = next(r.extent for r in rawiso.records(after, False) if r.path == "/isolinux/vmlinuz0")
    shift = (moved - next(r.extent for r in rawiso.records(before, False) if r.path == "/isolinux/vmlinuz0")) * B
    structures = _structures(before)
    different = [at // B for at in range(tail, end, B) if before[at : at + B] != after[at + shift : at + shift + B]]
    assert all(block in structures for block in different), different
    trailing = before[end:]
    assert len(after) - end - growth == len(trailing)
    assert trailing[: -33 * 512] == after[end + growth : -33 * 512], (
        "what lies behind the volume, but for the backup GPT"
    )


def test_the_vendors_iso_is_untouched(forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    before = (sha256(forge.iso), forge.iso.stat().st_mtime_ns, forge.iso.stat().st_mode)
    assert forge.build(tmp_path / "out.iso", good_plugin).code == 0
    assert (sha256(forge.iso), forge.iso.stat().st_mtime_ns, forge.iso.stat().st_mode) == before


def test_independent_programs_read_the_result(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    check = subprocess.run(["checkisomd5", respun.iso], capture_output=True, text=True)
    assert "PASS" in check.stdout + check.stderr
    for report in ("-report_el_torito", "-report_system_area"):
        stock, ours = (
            subprocess.run(["xorriso", "-indev", iso, report, "plain"], capture_output=True, text=True).stdout
            for iso in (forge.iso, respun.iso)
        )
        assert _shape(ours) == _shape(stock)
    stock, ours = (
        subprocess.run(["sgdisk", "-v", iso], capture_output=True, text=True).stdout for iso in (forge.iso, respun.iso)
    )
    assert _shape(ours) == _shape(stock), "isohybrid's own overlaps, and nothing worse"
    image = nested_image(respun.iso, tmp_path)
    assert subprocess.run(["e2fsck", "-fn", image], capture_output=True).returncode == 0


def test_the_root_is_the_vendors_plus_the_plugin_by_an_independent_walk(
    forge: Forge, respun: Respun, tmp_path: Path
) -> None:
    """debugfs lists both file systems; rpm reads the database."""
    images = nested_image(forge.iso, tmp_path / "a"), nested_image(respun.iso, tmp_path / "b")
    stock, ours = (dict(walk(image)) for image in images)
    added = {path for path in set(ours) - set(stock) if not path.startswith("/usr/share/respin")}
    expected = {part for path in respun.files for part in _with_parents(path) if part not in stock}
    assert added == expected
    assert set(stock) <= set(ours)
    changed = {path for path in stock if stock[path] != ours[path] and not stock[path][0].startswith("4")}
    databases = {f"/etc/{name}{end}" for name in ("passwd", "group", "shadow", "gshadow") for end in ("", "-")}
    assert changed <= databases | {"/var/lib/rpm/rpmdb.sqlite"}
    database = tmp_path / "rpm"
    database.mkdir()
    dump = f"dump /var/lib/rpm/rpmdb.sqlite {database}/rpmdb.sqlite"
    subprocess.run(["debugfs", "-R", dump, images[1]], check=True, capture_output=True)
    listed = subprocess.run(["rpm", "--dbpath", database, "-qa"], capture_output=True, text=True, check=True).stdout
    assert "good-1.0-1.noarch" in listed.split()
    assert "example-node-installer" in listed


def test_the_signatures_hold_for_gpg_alone(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    keyring = tmp_path / "keyring.gpg"
    dearmored = subprocess.run(["gpg", "--dearmor"], input=forge.keys.public("respin"), capture_output=True, check=True)
    keyring.write_bytes(dearmored.stdout)
    data = respun.iso.read_bytes()
    slot = json.loads(rawiso.content(data, "/respin.sig").split(b"\n")[0])
    statement = rawiso.content(data, "/respin.json")
    (tmp_path / "sig").write_bytes(base64.b64decode(slot["signatures"][0]["sig"]))
    (tmp_path / "pae").write_bytes(b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(statement), statement))
    command = ["gpgv", "--keyring", keyring, tmp_path / "sig", tmp_path / "pae"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    checksum = respun.iso.with_name(respun.iso.name + ".CHECKSUM")
    assert subprocess.run(["gpgv", "--keyring", keyring, checksum], capture_output=True).returncode == 0
    assert subprocess.run(["sha256sum", "-c", checksum.name], cwd=checksum.parent, capture_output=True).returncode == 0


def test_source_date_epoch_sets_the_time_of_what_has_no_better_one(
    forge: Forge, good_plugin: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.iso"
    assert forge.build(output, good_plugin, env={"SOURCE_DATE_EPOCH": "1600000000"}).code == 0
    image = nested_image(output, tmp_path)
    facts = subprocess.run(
        ["debugfs", "-R", "stat /usr/share/respin/facts.json", image], capture_output=True, text=True, check=True
    ).stdout
    assert f"mtime: 0x{1600000000:08x}" in facts


def walk(image: Path) -> Iterator[Tuple[str, Tuple[str, ...]]]:
    """(path, (mode, uid, gid, size)) of every name, as debugfs prints them."""
    directories = ["/"]
    while directories:
        batch, directories = directories, []
        script = "".join(f'ls -p "{path}"\n' for path in batch)
        done = subprocess.run(["debugfs", "-f", "-", image], input=script, capture_output=True, text=True)
        current = iter(batch)
        base = ""
        for line in done.stdout.splitlines():
            if line.startswith("debugfs:"):
                base = next(current).rstrip("/")
            match = re.fullmatch(r"/(\d+)/(\d+)/(\d+)/(\d+)/(.+?)/(\d*)/", line)
            if match and match[5] not in (".", "..", "lost+found"):
                path = f"{base}/{match[5]}"
                yield path, (match[2], match[3], match[4], match[6])
                if match[2].startswith("04"):
                    directories.append(path)


def content(data: bytes, record: rawiso.Raw) -> bytes:
    """A file's bytes."""
    return data[record.extent * B : record.extent * B + record.size]


def _without_place(raw: bytes) -> bytes:
    """A directory record without its extent, and without SUSP block numbers, which move too."""
    cleared = bytearray(raw)
    cleared[2:10] = bytes(8)
    for signature in (b"CE", b"CL", b"PL"):
        at = bytes(cleared).find(signature, 33)
        if at >= 0:
            cleared[at + 4 : at + 12] = bytes(8)
    return bytes(cleared)


def _structures(data: bytes) -> "set[int]":
    blocks = set(range(24))
    for at, joliet in rawiso.volumes(data):
        blocks.add(at // B)
        size = rawiso.le(data, at + 132)
        for field in (140, 144):
            table = rawiso.le(data, at + field)
            blocks |= set(range(table, table + -(-size // B)))
        for field in (148, 152):
            table = int.from_bytes(data[at + field : at + field + 4], "big")
            blocks |= set(range(table, table + -(-size // B)))
        for record in rawiso.records(data, joliet):
            if record.is_directory:
                blocks |= set(range(record.extent, record.extent + -(-record.size // B)))
            blocks |= {rawiso.le(e, 4) for s, _, e in record.entries if s == b"CE"}
            if record.path.endswith(("/isolinux.bin", "/boot.cat")):
                blocks |= set(range(record.extent, record.extent + 1))
    return blocks


def _shape(report: str) -> List[str]:
    """A report of xorriso without numbers and names that must change."""
    lines = [line for line in report.splitlines() if not line.startswith(("xorriso", "Drive", "Media", "Boot record"))]
    return [re.sub(r"\d+", "N", line) for line in lines]


def _with_parents(path: str) -> Iterator[str]:
    while path != "/":
        yield path
        path = os.path.dirname(path)
