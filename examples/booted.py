"""What a booted example Node says of itself on its console, and what must be true of it. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping

from qemu import iso_file

UP = re.compile(rb"NODE: UP after [^\n]*\n")
_FACT = re.compile(r"NODE: ([a-z-]+) ?([^\r\n]*)")

# What dracut mounts as the root: file system and source. Over a flat root it is an overlay, read-only as well.
ROOTS = {"nested": ["ext2", "/dev/mapper/live-rw"], "flat": ["overlay", "LiveOS_rootfs"]}
DRIVER_MESSAGE = "exnic: example driver 1.2 loaded, 4 queues"
AGENT_MESSAGE = "example-agent: exnic 1.2, 4 queues"
PLUGINS = frozenset({"kmod-exnic-1.2-1.x86_64", "example-agent-2.0-1.noarch"})


class CheckError(Exception):
    """A booted Node is not what it should be."""


def expect(what: str, found: object, wanted: object) -> None:
    """CheckError unless ``found`` is what is ``wanted``."""
    if found != wanted:
        raise CheckError(f"{what}: {found!r}, where {wanted!r} is expected")


@dataclass(frozen=True)
class Booted:
    """What a Node said of itself by the end of its boot."""

    console: str

    @property
    def facts(self) -> Mapping[str, str]:
        """Name -> the rest of the line; of facts that were said twice the later."""
        return dict(_FACT.findall(self.console))

    def words(self, fact: str) -> List[str]:
        """The words of one fact; CheckError when it was not said."""
        if fact not in self.facts:
            raise CheckError(f"the Node did not say its {fact!r}")
        return self.facts[fact].split()


def product_of(iso: Path) -> str:
    """The product that an ISO says it is: "NAME VERSION-RELEASE"."""
    named = dict(line.split("=", 1) for line in iso_file(iso, "/isolinux/version").decode().splitlines() if "=" in line)
    return f"{named['PRODUCT']} {named['VERSION']}-{named['RELEASE']}".replace("'", "")


def check_healthy(booted: Booted, product: str, *, firmware: str = "bios", layout: str = "nested") -> None:
    """The Node came up by the given firmware, from a read-only root, with its own packages and no failed unit."""
    expect("product", booted.facts.get("product"), product)
    expect("firmware", booted.words("firmware"), [firmware])
    root = booted.words("root")
    expect("root", root[:2], ROOTS[layout])
    expect("the root is read-only", "ro" in root[2].split(","), True)
    expect("failed units", booted.words("failed-units"), [])
    expect("state", booted.words("state"), ["running"])
    own = {f"example-node-{part}-{product.split()[-1]}.noarch" for part in ("installer", "persistence", "tools")}
    expect("missing packages of the vendor", own - set(booted.words("rpms")), set())


def check_stock(booted: Booted) -> None:
    """Nothing of the plugins is there."""
    expect("the driver's message", DRIVER_MESSAGE in booted.console, False)
    expect("out-of-tree modules", booted.words("out-of-tree-modules"), [])
    expect("the plugins' packages", PLUGINS & set(booted.words("rpms")), set())
    expect("the agent's user", "example-agent" in booted.words("users"), False)
    expect("the agent's service", "example-agent.service" in booted.words("active-services"), False)


def check_plugins(booted: Booted) -> None:
    """Both plugins are there and work: the driver with its option, the agent as its user, which reads the device."""
    expect("the driver's message", DRIVER_MESSAGE in booted.console, True)
    expect("out-of-tree modules", booted.words("out-of-tree-modules"), ["exnic"])
    expect("missing packages of the plugins", PLUGINS - set(booted.words("rpms")), set())
    expect("the agent's user", "example-agent" in booted.words("users"), True)
    expect("the agent's service", "example-agent.service" in booted.words("active-services"), True)
    expect("the agent reads the device", AGENT_MESSAGE in booted.console, True)
