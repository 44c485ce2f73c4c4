"""The stock Node and the respun one boot by BIOS from CD."""

from __future__ import annotations

from tests.boot.checks import check_healthy, check_plugins, check_stock
from tests.support.qemu import Boot, boot_up
from tests.support.quickstart import Quickstart


def test_the_stock_node_boots_without_the_plugins(quickstart: Quickstart) -> None:
    booted = boot_up(Boot(quickstart.iso), "stock-bios-cd")
    check_healthy(booted)
    check_stock(booted)


def test_the_respun_node_boots_with_the_plugins(quickstart: Quickstart) -> None:
    booted = boot_up(Boot(quickstart.respun), "respun-bios-cd")
    check_healthy(booted)
    check_plugins(booted)
    assert booted.words("live") == ["iso9660", "/dev/sr0"]
