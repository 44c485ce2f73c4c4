"""Programs that are killed at one of their system calls."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Callable

COUNTED = """
import os, signal, sys

left = [int(sys.argv.pop(1))]

def counted(real):
    def call(*arguments, **keywords):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **keywords)
    return call

def count(*names):
    for name in names:
        setattr(os, name, counted(getattr(os, name)))
"""
"""What such a program begins with: ``count`` wraps functions of ``os``, ``counted`` any other."""


def killed_at(at: int, program: str, *arguments: object, leaves: Callable[[], bool], patience: float = 20) -> int:
    """The status of a program that is killed at the ``at``-th of its counted calls, 0 if it has fewer.

    Returns when it ``leaves`` nothing more for its helper to take away, or after so many seconds.
    """
    command = [sys.executable, "-c", COUNTED + program, str(at), *map(str, arguments)]
    status = subprocess.run(command, check=False).returncode
    deadline = time.monotonic() + patience
    while leaves() and time.monotonic() < deadline:
        time.sleep(0.01)
    return status
