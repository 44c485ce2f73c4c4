"""The example Node on every other vendor's layout: respun, and started by every firmware from every medium."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import FrozenSet, Tuple

import pytest

from tests.support import layouts
from tests.support.forge import respin
from tests.support.qemu import COUNTDOWN, ROWS, Boot, BootError, Machine, World
from tests.support.quickstart import Quickstart
from tests.support.variants import of_layout

pytestmark = pytest.mark.slow

WAYS = (("bios", "cd"), ("bios", "disk"), ("uefi", "cd"), ("uefi", "usb"))
# What QEMU's firmware does not start of the vendor's own ISO either.
DEAD: FrozenSet[Tuple[str, str, str]] = frozenset()
TIMEOUT = 180.0


@dataclass(frozen=True)
class Pair:
    """The vendor's ISO of a layout, and the respun one with the quickstart's plugins."""

    layout: str
    stock: Path
    respun: Path


@pytest.fixture(scope="module", params=sorted(set(layouts.LAYOUTS) - {"classic"}))
def pair(request: pytest.FixtureRequest, quickstart: Quickstart, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    directory = tmp_path_factory.mktemp(request.param)
    stock = of_layout(quickstart.iso, directory, request.param)
    digest = hashlib.sha256(stock.read_bytes()).hexdigest()
    plugins = [part for plugin in sorted(quickstart.plugins.glob("*.plugin.tar")) for part in ("--plugin", plugin)]
    signed = ("--sign-key", quickstart.keys["respin"], "--gnupg-home", quickstart.gnupg)
    respun = directory / "respun.iso"
    done = respin(
        *("build", "--base", stock, "--base-sha256", digest, *plugins, "--trust", quickstart.trust, *signed),
        *("-o", respun),
    )
    assert done.code == 0, done.err
    return Pair(request.param, stock, respun)


def starts(iso: Path, firmware: str, medium: str, log: Path) -> bool:
    """Whether the boot loader reads its configuration: its menu counts down on the serial console."""
    command = Boot(iso, uefi=firmware == "uefi", medium=medium).command()
    with log.open("wb") as stream, Machine(command, stream) as machine:
        try:
            machine.wait(COUNTDOWN, TIMEOUT)
        except BootError:
            assert not re.search(rb"Linux version", machine.console), "the kernel starts without a menu"
            return False
    return True


@pytest.mark.parametrize(("firmware", "medium"), WAYS, ids=lambda part: part)
def test_the_boot_loader_reads_its_configuration(pair: Pair, firmware: str, medium: str, tmp_path: Path) -> None:
    """The respun ISO does all that the vendor's does."""
    dead = (pair.layout, firmware, medium) in DEAD
    if dead:
        assert not starts(pair.stock, firmware, medium, tmp_path / "stock.log")
    assert starts(pair.respun, firmware, medium, tmp_path / "respun.log") is not dead


@pytest.mark.parametrize("pair", ["lorax-10"], indirect=True)
@pytest.mark.parametrize(("firmware", "medium"), WAYS, ids=lambda part: part)
def test_the_node_comes_up_on_a_medium_of_grubs_own(pair: Pair, firmware: str, medium: str, tmp_path: Path) -> None:
    """An EFI partition behind the file system, a second set of descriptors; the classic layout is the matrix's."""
    (row,) = (row for row in ROWS if row.name == f"respun-{firmware}-{medium}")
    row.run(World(pair.stock, pair.respun, tmp_path, tmp_path, timeout=1500))
