"""How library code says what it is doing, without printing: a sink that the renderer implements."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import Iterator, Optional, Protocol


class Step(Protocol):
    """One running step."""

    def advance(self, amount: int) -> None:
        """Say that ``amount`` more units (bytes, files) of the step's total are done."""


class Progress(Protocol):
    """Receives steps as they start; a step ends when its context ends."""

    def step(self, title: str, total: Optional[int] = None) -> AbstractContextManager[Step]:
        """Start a step. ``total`` is its size in units if it is known."""


class _SilentStep:
    def advance(self, amount: int) -> None:
        pass


class Silent:
    """A progress sink that ignores everything: for tests and for library users."""

    @contextmanager
    def step(self, title: str, total: Optional[int] = None) -> Iterator[Step]:
        yield _SilentStep()


SILENT: Progress = Silent()
