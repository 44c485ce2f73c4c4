"""Runs a program and says what it took: wall time, processor time, peak memory of it and of what it started."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Sequence


@dataclass(frozen=True)
class Cost:
    """Seconds of wall and processor time, and the largest resident set in bytes."""

    wall: float
    cpu: float
    peak: int

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def measure(argv: Sequence[object], *, cwd: Optional[Path] = None, log: Path) -> Cost:
    """The cost of a program that must succeed; its output goes to ``log``."""
    # As installed: Python programs find their modules compiled, from the second run on.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen([str(a) for a in argv], cwd=cwd, env=environment, stdout=stream, stderr=stream)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_text("utf-8", "replace")[-2000:]
        raise SystemExit(f"{argv[0]} ended with {process.returncode}:\n{tail}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def added(costs: Sequence[Cost]) -> Cost:
    """One after the other."""
    return Cost(sum(c.wall for c in costs), sum(c.cpu for c in costs), max(c.peak for c in costs))
