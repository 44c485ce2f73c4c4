"""Runs ``respin`` with a fault at one of its steps and tells how it ended and what it left behind.

The steps are those that a recorded run reports, so a new step is covered without naming it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Step:
    """A step as it was recorded: number and title, how often it advanced, how long it took, whether in the sandbox."""

    number: int
    title: str
    advances: int
    seconds: float
    sandbox: bool


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

    ``left`` has, by the name of each watched directory, the files in it with their digests. ``survivors`` are processes
    that ran on. ``fired``: the fault's step was reached; one that only waits for other work may not be there each time.
    """

    code: int
    out: str
    err: str
    seconds: float
    steps: Sequence[Step]
    left: Mapping[str, Dict[str, str]]
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
        stdout: Any = subprocess.PIPE,
    ) -> Ended:
        """Run ``respin ARGV --tmpdir TMP``.

        ``mounts``: directories that get a file system of so many bytes; ``copies``: files (in those) to make first.
        ``limits``: resource limits of the command. ``kill_after``: seconds until it gets the signal ``kill_with``.
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
            "steps": str(self.path / "steps.json"),
            "report": str(self.path / "report.json"),
            "fired": str(self.path / "fired"),
        }
        (self.path / "spec.json").write_text(json.dumps(spec))
        (self.path / "steps.json").write_text("[]")
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.faulty", str(self.path / "spec.json")],
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TMPDIR": str(self.other)},
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=400,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0, done.stderr
        report = json.loads((self.path / "report.json").read_text())
        recorded = json.loads((self.path / "steps.json").read_text())
        return Ended(
            code=report["status"],
            out=done.stdout or "",
            err=done.stderr,
            seconds=report["seconds"],
            steps=[Step(number, **one) for number, one in enumerate(recorded)],
            left=report["left"],
            survivors=report["survivors"],
            mounts_stayed=report["mounts"],
            fired=report["fired"],
        )
