"""The judge of spliced images: it has to see what a splice could do wrong."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Callable, Dict

import pytest

from respin.formats.iso9660 import Place
from tests.fuzzing import iso
from tests.support import rawiso
from tests.support.splicing import splice

B = rawiso.B
REPLACE = {"/isolinux/vmlinuz0": b"kernel" * 900}
NEW = {"/EFI/BOOT/fuzz.0": b"new" * 1000}


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return iso.maker("lorax-10")(tmp_path_factory.mktemp("seed"))


@pytest.fixture(scope="module")
def spliced(seed: bytes) -> bytes:
    return splice(seed, REPLACE, [(path, data, Place.BESIDE) for path, data in NEW.items()])[1]


def _record(data: bytes, path: str, joliet: bool = False, base: int = 0) -> rawiso.Raw:
    return next(r for r in rawiso.records(data, joliet, base) if r.path == path)


def _other_extent(out: bytearray) -> None:
    record = _record(bytes(out), "/EFI/BOOT/grub.cfg", base=16)
    struct.pack_into("<L", out, record.offset + 2, record.extent - 17)


def _stale_boot_entry(out: bytearray) -> None:
    catalogue = rawiso.le(bytes(out), 17 * B + 71) * B
    out[catalogue + 40] ^= 4


def _content(out: bytearray) -> None:
    out[_record(bytes(out), "/README.txt", joliet=True).extent * B] ^= 1


def _gpt(out: bytearray) -> None:
    out[1024 + 40] ^= 1


def _date(out: bytearray) -> None:
    out[_record(bytes(out), "/README.txt").offset + 19] ^= 1


WRONG: Dict[str, Callable[[bytearray], None]] = {
    "another extent in the second trees": _other_extent,
    "a boot image that did not move": _stale_boot_entry,
    "a byte of a file": _content,
    "a partition without its checksum": _gpt,
    "a date": _date,
}


def test_a_right_splice_passes(seed: bytes, spliced: bytes) -> None:
    iso.require_same(seed, spliced, REPLACE, NEW)


@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_a_wrong_splice_is_seen(seed: bytes, spliced: bytes, wrong: str) -> None:
    out = bytearray(spliced)
    WRONG[wrong](out)
    assert out != spliced
    with pytest.raises(AssertionError):
        iso.require_same(seed, bytes(out), REPLACE, NEW)


def test_damage_is_the_same_for_the_same_numbers(seed: bytes) -> None:
    parts = iso.IsoParts(seed)
    cases = [parts.spoil(random.Random(number)) for number in range(40)]
    assert cases == [iso.IsoParts(seed).spoil(random.Random(number)) for number in range(40)]
    assert len({data for data, _ in cases}) > 30
    assert any(len(data) < len(seed) for data, _ in cases)


def test_every_sort_of_number_is_known(tmp_path: Path) -> None:
    parts = iso.IsoParts(iso.maker("mac")(tmp_path))
    roles = " ".join(done.split(" at ")[0] for n in range(600) for done in parts.spoil(random.Random(n))[1].split("; "))
    for word in ("CE", "CL", "PL", "GPT entry", "Apple partition", "path table entry", "boot information table", "cut"):
        assert word in roles
