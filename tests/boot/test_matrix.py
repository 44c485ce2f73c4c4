"""Every row of the boot matrix is a test; those that are not quick are slow."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.support.qemu import LOGS, ROWS, Row, World, kvm
from tests.support.quickstart import Quickstart


def marked(rows: List[Row]) -> Iterator[object]:
    for row in rows:
        yield pytest.param(row, id=row.name, marks=() if row.quick else pytest.mark.slow)


def run(row: Row, made: Quickstart, scratch: Path, layout: str) -> None:
    logs = LOGS / layout
    logs.mkdir(parents=True, exist_ok=True)
    with (LOGS / ".lock").open("w") as lock:  # one machine at a time, whoever else runs tests
        fcntl.flock(lock, fcntl.LOCK_EX)
        row.run(World(made.iso, made.respun, scratch, logs, kvm(), layout=layout))


@pytest.mark.parametrize("row", list(marked(ROWS)))
def test_the_row_holds(row: Row, quickstart: Quickstart, tmp_path: Path) -> None:
    run(row, quickstart, tmp_path, "nested")


@pytest.mark.slow
@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS if row.name.endswith("-bios-cd")])
def test_the_row_holds_with_a_flat_root(row: Row, flat_quickstart: Quickstart, tmp_path: Path) -> None:
    run(row, flat_quickstart, tmp_path, "flat")
