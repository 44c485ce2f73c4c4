"""Progress on a terminal: a bar for each step, gone when the step is done.

Apart from the console, because it takes a good part of rich, which those who wait for a result elsewhere need not load.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator, Optional

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from respin.progress import Step


@contextmanager
def bar(console: Console, title: str, total: Optional[int]) -> Iterator[Step]:
    """Show a step of the given size, None if that isn't known; ``title`` must be harmless."""
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Bar(bars, bars.add_task(title, total=total))


class _Bar:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, amount: int) -> None:
        self._bars.advance(self._task, amount)
