"""What a booted Node must have said of itself."""

from __future__ import annotations

from tests.support.qemu import Booted

DRIVER_MESSAGE = "exnic: example driver 1.2 loaded, 4 queues"
PLUGINS = {"kmod-exnic-1.2-1.x86_64", "example-agent-2.0-1.noarch"}


def check_healthy(booted: Booted, *, firmware: str = "bios") -> None:
    """The Node came up by the given firmware, from a read-only root, with its own packages and no failed unit."""
    assert booted.facts["product"] == "Example Node 1.0-3"
    assert booted.facts["firmware"] == firmware
    assert booted.words("root")[:2] == ["ext2", "/dev/mapper/live-rw"]
    assert "ro" in booted.words("root")[2].split(",")
    assert booted.words("failed-units") == []
    assert booted.facts["state"] == "running"
    assert {"example-node-installer-1.0-3.noarch", "example-node-persistence-1.0-3.noarch"} <= set(booted.words("rpms"))


def check_stock(booted: Booted) -> None:
    """Nothing of the plugins is there."""
    assert DRIVER_MESSAGE not in booted.console
    assert booted.words("out-of-tree-modules") == []
    assert not PLUGINS & set(booted.words("rpms"))
    assert "example-agent" not in booted.words("users")
    assert "example-agent.service" not in booted.words("active-services")


def check_plugins(booted: Booted) -> None:
    """Both plugins are there and work: the driver with its option, the agent as its user, which reads the device."""
    assert DRIVER_MESSAGE in booted.console
    assert booted.words("out-of-tree-modules") == ["exnic"]
    assert set(booted.words("rpms")) >= PLUGINS
    assert "example-agent" in booted.words("users")
    assert "example-agent.service" in booted.words("active-services")
    assert "example-agent: exnic 1.2, 4 queues" in booted.console
