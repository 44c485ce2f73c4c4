"""The image of a driver update disk, as a Node's kernel mounts it: by its label, with the names that anaconda seeks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from respin.formats.iso9660.small import small_iso
from tests.support.qemu import LOGS, Boot, Machine, booted
from tests.support.quickstart import ExampleNode, example_node

__all__ = ["example_node"]

pytestmark = pytest.mark.slow

TIMEOUT = 1500.0
FILES = {"rhdd3": b"Driver Update Disk version 3", "rpms/x86_64/kmod-exnic-1.2-1.el9.x86_64.rpm": b"a package\n" * 500}
LOOK = "mount -o ro LABEL=OEMDRV /mnt && cd /mnt && find . -type f | sort && sha256sum rpms/x86_64/*"


def test_the_kernel_mounts_the_disk(example_node: ExampleNode, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(small_iso("OEMDRV", FILES, 1_600_000_000))
    LOGS.mkdir(parents=True, exist_ok=True)
    command = Boot(example_node.iso, disk=disk).command()
    with (LOGS / "driver-disk.log").open("wb") as log, Machine(command, log) as machine:
        machine.wait(booted.UP, TIMEOUT)
        machine.log_in(300)
        said = machine.run(LOOK, 300)
    assert [line.strip() for line in said.splitlines() if line.startswith("./")] == [f"./{name}" for name in FILES]
    assert hashlib.sha256(FILES["rpms/x86_64/kmod-exnic-1.2-1.el9.x86_64.rpm"]).hexdigest() in said
