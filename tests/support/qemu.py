"""The boot matrix for tests: the rows of examples/matrix.py, console logs in build/boot."""

from __future__ import annotations

import functools
import sys
from typing import List

from tests.support.quickstart import CHECKOUT

# As its programs do: they run without the package and without the venv.
sys.path.insert(0, str(CHECKOUT / "examples"))

import booted
import matrix
import qemu

EMULATION, kvmprobe = qemu.EMULATION, qemu.kvmprobe
Boot, Machine, INITRD, iso_file = qemu.Boot, qemu.Machine, qemu.INITRD, qemu.iso_file
DRIVER_MESSAGE: str = booted.DRIVER_MESSAGE
COUNTDOWN, PROMPT = qemu.COUNTDOWN, qemu.PROMPT
BootError = qemu.BootError
Row, World = matrix.Row, matrix.World
ROWS: List[Row] = list(matrix.ROWS)
LOGS = CHECKOUT / "build" / "boot"
MATRIX = CHECKOUT / "examples" / "boot-matrix"


@functools.cache
def kvm() -> bool:
    """Whether KVM works here; else software emulation, a minute or two for a boot on a quiet machine."""
    return qemu.kvm_works()
