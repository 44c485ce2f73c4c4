"""Runs ``respin`` with a fault at one of its steps and tells how it ended and what it left behind.

The steps are those that a recorded run reports, so a new step is covered without naming it.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 400


@dataclass(frozen=True)
class Step:
    """A step as it was recorded: number and title, how often it advanced, how often it read the input that was watched,
    whether there was a sandbox, and when it started and ended."""

    number: int
    title: str
    advances: int
    reads: int
    sandbox: bool
    started: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started


@dataclass(frozen=True)
class Fault:
    """What happens (``action`` and ``details`` are those of :class:`tests.support.faulty.Director`), and when."""

    step: Step
    when: str
    action: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> Dict[str, Any]:
        """For the other process."""
        return {
            "title": self.step.title,
            "seconds": self.step.seconds,
            "when": self.when,
            "action": self.action,
            **self.details,
        }

    def __str__(self) -> str:
        return f"{self.action} {dict(self.details)} at the {self.when} of step {self.step.number}, {self.step.title!r}"


@dataclass(frozen=True)
class Ended:
    """How a run ended (``code``: exit status, negative: signal) and what it left.

    ``left`` has, by the name of each watched directory, the files in it with their digests; ``same`` the digests of the
    outputs without their slots. ``survivors`` are processes that ran on. ``fired``: the fault's step was reached; one
    that only waits for other work may not be there each time.
    """

    code: int
    out: str
    err: str
    seconds: float
    steps: Sequence[Step]
    left: Mapping[str, Dict[str, str]]
    same: Mapping[str, str]
    survivors: Sequence[str]
    mounts_stayed: bool
    fired: bool

    @property
    def error(self) -> Dict[str, Any]:
        """The error's document, of a run with --json."""
        document = json.loads(self.out)
        assert document["schema"] == "respin.error/1", document
        error = document["error"]
        assert isinstance(error, dict)
        return error


class _Server:
    """Has :mod:`tests.support.faulty` perform specifications; started when the first one comes."""

    def __init__(self) -> None:
        self._process: Optional[subprocess.Popen[str]] = None

    def run(self, spec: Path) -> int:
        """The status of the process that performed it."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.faulty"],
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            atexit.register(self._process.kill)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{spec}\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self._process.kill()
            raise AssertionError(f"{spec} was not done after {PATIENCE} seconds")
        return int(self._process.stdout.readline())


_SERVER = _Server()


class Stage:
    """A directory in which commands run: ``tmp`` is for --tmpdir, ``other`` is TMPDIR, ``out`` for outputs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tmp, self.other, self.out = path / "tmp", path / "other", path / "out"
        for directory in (self.tmp, self.other, self.out):
            directory.mkdir(parents=True)

    def run(
        self,
        *argv: object,
        fault: Optional[Fault] = None,
        mounts: Optional[Mapping[Path, int]] = None,
        copies: Optional[Mapping[Path, Path]] = None,
        kill_after: Optional[float] = None,
        kill_with: int = 9,
        limits: Optional[Mapping[int, int]] = None,
        slots: Optional[Mapping[str, Tuple[int, int]]] = None,
        reads_of: Optional[Path] = None,
    ) -> Ended:
        """Run ``respin ARGV --tmpdir TMP``.

        ``mounts``: directories that get a file system of so many bytes; ``copies``: files (in those) to make first.
        ``limits``: resource limits of the command. ``kill_after``: seconds until it gets the signal ``kill_with``.
        ``slots``: the ranges of outputs that are left out of ``same``. ``reads_of``: the input whose reads are counted.
        """
        spec = {
            "argv": [*map(str, argv), "--tmpdir", str(self.tmp)],
            "fault": None if fault is None else fault.describe(),
            "mounts": {str(path): size for path, size in (mounts or {}).items()},
            "copies": {str(path): str(source) for path, source in (copies or {}).items()},
            "kill_after": kill_after,
            "kill_with": kill_with,
            "limits": {str(number): limit for number, limit in (limits or {}).items()},
            "watched": {"tmp": str(self.tmp), "other": str(self.other), "out": str(self.out)},
            # Other processes mount things meanwhile, and that is not this command's doing
            "shared_mounts": not mounts,
            "slots": dict(slots or {}),
            "reads_of": str(reads_of) if reads_of is not None else "",
            "environment": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TMPDIR": str(self.other)},
            **{name: str(self.path / name) for name in ("stdout", "stderr", "steps", "report", "fired")},
        }
        for name in ("stdout", "stderr", "report", "fired"):
            (self.path / name).unlink(missing_ok=True)
        (self.path / "spec").write_text(json.dumps(spec))
        (self.path / "steps").write_text("[]")
        code = _SERVER.run(self.path / "spec")
        out, err = ((self.path / name).read_text() for name in ("stdout", "stderr"))
        assert "Traceback" not in err, err
        assert code == 0, err
        report = json.loads((self.path / "report").read_text())
        recorded = json.loads((self.path / "steps").read_text())
        return Ended(
            code=report["status"],
            out=out,
            err=err,
            seconds=report["seconds"],
            steps=[Step(number, **one) for number, one in enumerate(recorded)],
            left=report["left"],
            same=report["same"]["out"],
            survivors=report["survivors"],
            mounts_stayed=report["mounts"],
            fired=report["fired"],
        )
