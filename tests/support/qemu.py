"""Boots for tests: one machine at a time, console logs kept in build/boot, facts read off the console."""

from __future__ import annotations

import contextlib
import fcntl
import re
from dataclasses import dataclass
from typing import Iterator, List, Mapping, Optional

from examples.qemu import Boot, Machine
from tests.support.quickstart import CHECKOUT

LOGS = CHECKOUT / "build" / "boot"
# Software emulation on a busy machine; a good boot takes about a minute, two by UEFI.
TIMEOUT = 900.0
UP = re.compile(rb"NODE: UP after")
_FACT = re.compile(r"NODE: ([a-z-]+) ?([^\r\n]*)")


@dataclass(frozen=True)
class Booted:
    """What a Node said of itself by the end of its boot."""

    console: str
    facts: Mapping[str, str]

    def words(self, fact: str) -> List[str]:
        """The words of one fact."""
        return self.facts[fact].split()


@contextlib.contextmanager
def machine(boot: Boot, name: str) -> Iterator[Machine]:
    """A running machine, when no other test's runs any more; its console goes to build/boot/NAME.log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / ".lock").open("w") as lock, (LOGS / f"{name}.log").open("wb") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with Machine(boot.command(), log) as running:
            yield running


def boot_up(boot: Boot, name: str, *, menu: Optional[str] = None) -> Booted:
    """Boot until the Node has said everything, through the boot menu's entry ``menu`` or its default."""
    with machine(boot, name) as running:
        if menu:
            running.choose(menu)
        running.wait(UP, TIMEOUT)
        console = running.console.decode("utf-8", "replace")
    return Booted(console, dict(_FACT.findall(console)))
