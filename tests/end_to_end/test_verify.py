"""Verification of a respun ISO: one byte, one key, one file wrong, and it is refused with the place."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Iterator

import pytest

from tests.end_to_end.conftest import Respun
from tests.support import rawiso
from tests.support.forge import Forge, respin

B = 2048


@pytest.fixture
def copy(respun: Respun, tmp_path: Path) -> Iterator[Path]:
    """A copy of the respun ISO to damage."""
    file = tmp_path / "copy.iso"
    shutil.copy(respun.iso, file)
    yield file
    file.unlink()


def flip(file: Path, offset: int) -> None:
    """Change one bit."""
    with file.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 0x10]))


def test_flipped_bytes_anywhere_are_refused(forge: Forge, respun: Respun, copy: Path) -> None:
    """Without the base already: what the signature covers, the statement, the slot, the media check."""
    data = respun.iso.read_bytes()
    places = {r.path: r for r in rawiso.records(data, False)}
    chosen = random.Random(7)
    spots = [chosen.randrange(len(data)) for _ in range(6)]
    spots += [0, 440, 510, 16 * B + 40, 33651 + 60, len(data) - 1, len(data) - 512]
    for path in ("/respin.json", "/respin.sig", "/LiveOS/squashfs.img", "/isolinux/vmlinuz0", "/isolinux/isolinux.cfg"):
        spots.append(places[path].extent * B + 33)
    slot = places["/respin.sig"]
    spots.append(slot.extent * B + slot.size - 1)
    for spot in spots:
        flip(copy, spot)
        done = forge.verify(copy, base=None)
        assert done.code in (3, 7), f"byte {spot}: {done.code} {done.err}"
        assert copy.name in done.err, f"byte {spot}"
        flip(copy, spot)
    assert forge.verify(copy, base=None).code == 0


def test_truncated_and_longer_files_are_refused(forge: Forge, copy: Path) -> None:
    size = copy.stat().st_size
    for length in (size - 1, size // 2, 40_000, 0):
        with copy.open("r+b") as file:
            file.truncate(length)
        done = forge.verify(copy, base=None)
        assert done.code in (3, 7), (length, done.err)
    with copy.open("r+b") as file:
        file.truncate(size + 2048)
    assert forge.verify(copy, base=None).code in (3, 7)


def test_another_base_is_refused(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    other = tmp_path / forge.iso.name
    shutil.copy(forge.iso, other)
    flip(other, 50_000_000)
    done = forge.verify(respun.iso, base=other)
    assert done.code == 3
    assert done.json["error"]["finding"] == "base-digest"
    assert str(other) in done.err


def test_a_checksum_by_a_key_of_another_role_is_refused(forge: Forge, respun: Respun) -> None:
    done = forge.verify(respun.iso, base_checksum=forge.vendor_checksum("respin"))
    assert (done.code, done.json["error"]["finding"]) == (3, "nokey")


def test_a_trust_store_without_the_makers_key_is_refused(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    store = forge.keys.make_store(tmp_path / "trust", {"base": ["base"], "respin": ["plugin"]})
    done = forge.verify(respun.iso, trust=store)
    assert (done.code, done.json["error"]["finding"]) == (3, "nokey")
    assert "trusted for plugin" in done.err


def test_the_statement_of_another_iso_is_refused(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    """Statement and signature are authentic, but speak of another respin of the same base."""
    other = tmp_path / "other.iso"
    plugin = forge.plugin("good", files={"/usr/share/good/data": "other data\n"}, effects='users = ["good"]')
    assert forge.build(other, plugin).code == 0
    data, source = bytearray(other.read_bytes()), respun.iso.read_bytes()
    mine = {r.path: r for r in rawiso.records(bytes(data), False)}
    theirs = {r.path: r for r in rawiso.records(source, False)}
    for path in ("/respin.json", "/respin.sig"):
        new = source[theirs[path].extent * B : theirs[path].extent * B + theirs[path].size]
        data[mine[path].extent * B : mine[path].extent * B + mine[path].size] = new.ljust(mine[path].size, b"\0")[
            : mine[path].size
        ]
    other.write_bytes(data)
    assert forge.verify(other, base=None).code == 3


def test_a_stock_iso_has_no_statement(forge: Forge) -> None:
    done = forge.verify(forge.iso, base=None)
    assert (done.code, done.json["error"]["finding"]) == (3, "no-statement")


@pytest.mark.parametrize(("content", "code"), [(b"", 7), (b"not an ISO\n" * 10000, 7), (bytes(100_000), 7)])
def test_what_is_no_iso_is_refused(forge: Forge, tmp_path: Path, content: bytes, code: int) -> None:
    file = tmp_path / "thing.iso"
    file.write_bytes(content)
    for done in (forge.verify(file, base=None), respin("inspect", file, "--json")):
        assert done.code in (3, code), done.err
        assert "thing.iso" in done.err
