"""A Node of every vendor's layout: respun, verified from the ISO alone, restored, signed again, put on a stick."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import List

import pytest

from tests.end_to_end.conftest import sha256
from tests.support import layouts
from tests.support.forge import Forge, respin
from tests.support.keys import KeyWorld
from tests.support.variants import of_layout

MIB = 1 << 20


@dataclass(frozen=True)
class World:
    """A stock ISO of a layout, the respun ISO, and what made it."""

    layout: str
    stock: Path
    output: Path
    forge: Forge


# The ordinary run tries those that differ most from the classic one.
ORDINARY = ("lorax-10", "live-build")


def _layouts() -> List[object]:
    names = sorted(set(layouts.LAYOUTS) - {"classic"})
    return [name if name in ORDINARY else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="module", params=_layouts())
def world(
    request: pytest.FixtureRequest, key_world: KeyWorld, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory
) -> World:
    tmp = tmp_path_factory.mktemp(request.param)
    stock = of_layout(stock_iso, tmp, request.param)
    forge = Forge(key_world, stock, tmp_path_factory.mktemp("forge"))
    output = tmp / "respun.iso"
    done = forge.build(output, forge.plugin("good", files={"/usr/share/good/data": "good data\n" * 1000}), json=True)
    assert done.code == 0, done.err
    return World(request.param, stock, output, forge)


def test_verified_from_the_iso_alone_and_restored(world: World, tmp_path: Path) -> None:
    done = world.forge.verify(world.output, base=None)
    assert done.code == 0, done.err
    restored = tmp_path / "stock.iso"
    done = respin("restore", world.output, "-o", restored)
    assert done.code == 0, done.err
    assert sha256(restored) == sha256(world.stock)
    reports = [layouts.without_numbers(layouts.report(path)) for path in (world.stock, world.output)]
    assert reports[0] == reports[1]
    if b"ISO MD5SUM" in world.stock.read_bytes()[: 17 * 2048]:
        check = subprocess.run(["checkisomd5", world.output], capture_output=True, text=True, check=False)
        assert "PASS" in check.stdout + check.stderr


def test_signing_again_changes_nothing_but_the_slot(world: World, tmp_path: Path) -> None:
    again = tmp_path / "again.iso"
    shutil.copyfile(world.output, again)
    keys = world.forge.keys
    done = respin("sign", again, "--key", keys.fingerprints["plugin"], "--gnupg-home", keys.gnupg_home)
    assert done.code == 0, done.err
    before, after = world.output.read_bytes(), again.read_bytes()
    changed = [at for at in range(0, len(before), 2048) if before[at : at + 2048] != after[at : at + 2048]]
    assert changed
    assert changed[-1] - changed[0] < 8 * 2048


def test_a_flipped_bit_behind_the_file_system_is_found(world: World, tmp_path: Path) -> None:
    """Also where the media check no longer looks: in an appended partition, in the backup of the partition table."""
    damaged = tmp_path / "damaged.iso"
    shutil.copyfile(world.output, damaged)
    with damaged.open("r+b") as file:
        file.seek(-2048, 2)
        byte = file.read(1)
        file.seek(-2048, 2)
        file.write(bytes((byte[0] ^ 1,)))
    assert world.forge.verify(damaged, base=None).code == 3


def test_on_a_stick_whose_partition_table_was_moved(world: World, tmp_path: Path) -> None:
    stick = tmp_path / "stick.img"
    shutil.copyfile(world.output, stick)
    with stick.open("r+b") as file:
        file.truncate(world.output.stat().st_size + 64 * MIB)
    if world.layout in ("lorax-10", "hidden-boot-image"):  # sgdisk leaves tables that overlap as they are
        subprocess.run(["sgdisk", "-e", stick], check=True, capture_output=True)
        assert struct.unpack_from("<Q", stick.read_bytes(), 512 + 32)[0] == stick.stat().st_size // 512 - 1
    done = world.forge.verify(stick, base=None)
    assert done.code == 0, done.err
    stick.unlink()
