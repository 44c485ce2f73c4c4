"""The other ways to boot: by UEFI, from a disk, and by the installer and then from what it installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.boot.checks import check_healthy, check_plugins, check_stock
from tests.support.qemu import TIMEOUT, Boot, boot_up, machine
from tests.support.quickstart import Quickstart

pytestmark = pytest.mark.slow

INSTALLED = re.compile(rb"NODE: install (DONE|FAILED)")


def test_the_stock_node_boots_by_uefi(quickstart: Quickstart) -> None:
    booted = boot_up(Boot(quickstart.iso, uefi=True), "stock-uefi-cd")
    check_healthy(booted, firmware="uefi")
    check_stock(booted)


def test_the_respun_node_boots_by_uefi(quickstart: Quickstart) -> None:
    booted = boot_up(Boot(quickstart.respun, uefi=True), "respun-uefi-cd")
    check_healthy(booted, firmware="uefi")
    check_plugins(booted)


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_the_respun_node_boots_as_a_disk(quickstart: Quickstart, firmware: str) -> None:
    boot = Boot(quickstart.respun, uefi=firmware == "uefi", as_disk=True)
    booted = boot_up(boot, f"respun-{firmware}-disk")
    check_healthy(booted, firmware=firmware)
    check_plugins(booted)
    assert booted.words("live")[1].startswith("/dev/vda")


def test_the_respun_node_installs_and_keeps_what_is_persisted(quickstart: Quickstart, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    with disk.open("wb") as file:
        file.truncate(2 << 30)
    with machine(Boot(quickstart.respun, disk=disk), "respun-install") as installing:
        installing.choose("install")
        assert installing.wait(INSTALLED, TIMEOUT).group(1) == b"DONE"
        installing.wait_end(TIMEOUT)
    booted = boot_up(Boot(disk, as_disk=True), "respun-installed")
    check_healthy(booted)
    check_plugins(booted)
    assert booted.words("live") == ["ext4", "/dev/vda1"]
    assert booted.words("config") == ["/dev/vda2", "/root/installed"]
