"""A driver in early boot: the example driver is loaded before the root is switched, for a device that QEMU has.

systemd says on the console when it switches the root; the driver says when it is loaded. What is changed for the
negative test is the index of modules alone.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Tuple

import pytest

from tests.support.qemu import DRIVER_MESSAGE, INITRD, Boot, Machine, iso_file
from tests.support.quickstart import Quickstart

pytestmark = pytest.mark.slow

TOLD = "ignore_loglevel systemd.log_target=kmsg systemd.log_level=info"
SWITCHED = re.compile(rb"systemd\[1\]: Switching root")
TIMEOUT = 1500.0


def console_until_the_root_is_switched(iso: Path, initrd: bytes, tmp_path: Path) -> bytes:
    """Start the ISO's kernel with ``initrd`` and the device of the example driver."""
    boot = Boot(iso, append=TOLD)
    options = boot.direct_kernel(tmp_path)
    (tmp_path / Path(INITRD).name).write_bytes(initrd)
    command = [*boot.command(), *options, "-device", "edu"]
    with (tmp_path / "console.log").open("wb") as log, Machine(command, log) as machine:
        machine.wait(SWITCHED, TIMEOUT)
        return bytes(machine.console)


@pytest.fixture(scope="module")
def initrds(quickstart: Quickstart) -> Tuple[bytes, bytes]:
    """The vendor's initrd and the respun ISO's."""
    return iso_file(quickstart.iso, INITRD), iso_file(quickstart.respun, INITRD)


def without_index(archive: bytes, directory: Path) -> bytes:
    """The archive without what depmod makes, by cpio."""
    directory.mkdir()
    subprocess.run(["cpio", "-idm", "--quiet"], input=archive, cwd=directory, check=True)
    names = [path.relative_to(directory) for path in sorted(directory.rglob("*")) if "modules." not in path.name]
    listed = "".join(f"{name}\n" for name in names).encode()
    done = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], input=listed, cwd=directory, capture_output=True, check=True
    )
    return done.stdout


def test_the_driver_is_loaded_before_the_root_is_switched(
    quickstart: Quickstart, initrds: Tuple[bytes, bytes], tmp_path: Path
) -> None:
    console = console_until_the_root_is_switched(quickstart.respun, initrds[1], tmp_path)
    assert DRIVER_MESSAGE.encode() in console


def test_without_the_merged_index_it_would_not_have_been(
    quickstart: Quickstart, initrds: Tuple[bytes, bytes], tmp_path: Path
) -> None:
    vendor, new = initrds
    start = len(vendor) + -len(vendor) % 4
    assert new[: len(vendor)] == vendor
    initrd = new[:start] + without_index(new[start:], tmp_path / "archive")
    console = console_until_the_root_is_switched(quickstart.respun, initrd, tmp_path)
    assert b"exnic" not in console
