"""Runs cases in children with limits on time and memory, and judges what becomes of them.

A case is a format, a seed number and a number; the same three give the same damage, if the same tools made the format's
image. Whatever is no reading and no typed refusal is a failure: another exception, an error that does not say where, a
refusal by an exit status that is not for inputs, the child's death, more time or memory than the limits allow. The
image of a failure is kept with what was done to it.
"""

from __future__ import annotations

import os
import random
import re
import resource
import selectors
import signal
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from respin.errors import RespinError
from tests.fuzzing.formats import Format, Spoiler

MiB = 1 << 20
_BATCH = 200
_EXPECTED = (3, 5, 7)  # exit status of damaged input, of an algorithm whose module is missing, of unsupported input
_PARTICULARS = re.compile(r"b?'[^']*'|b?\"[^\"]*\"|(0x)?[0-9a-f]*[0-9][0-9a-f]*")
_SILENCE = 60.0  # seconds of wall time without a word from a child, on top of its limit


@dataclass(frozen=True)
class Limits:
    """What a case may take: seconds of processor time, bytes of resident memory beside what its process began with."""

    seconds: float = 5.0
    memory: int = 512 * MiB


@dataclass
class Tally:
    """What became of a format's cases. ``reasons`` counts refusals by sort; times in seconds."""

    cases: int = 0
    read: int = 0
    refused: int = 0
    failed: int = 0
    reasons: "Counter[str]" = field(default_factory=Counter)
    slowest: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class Failure:
    """A case that failed, why, and where its image is kept."""

    format: str
    number: int
    why: str
    kept: Path


class Subject:
    """A format with its seed image."""

    def __init__(self, kind: Format) -> None:
        self.kind = kind
        with tempfile.TemporaryDirectory(prefix="fuzz") as name:
            seed = kind.make(Path(name))
        self.spoiler: Spoiler = kind.take_apart(seed)
        refused = kind.read(seed, seed)
        assert not refused, f"{kind.name}: the undamaged image is refused: {refused}"

    def case(self, seed: int, number: int) -> Tuple[bytes, str]:
        """The damaged image of a case, and what was done."""
        return self.spoiler.spoil(random.Random(f"{seed}:{self.kind.name}:{number}"))


class Campaign:
    """Runs cases of several formats in turn. ``tallies`` and ``failures`` fill up meanwhile."""

    def __init__(self, formats: Sequence[Format], seed: int, failures: Path, limits: Limits = Limits()) -> None:
        self.tallies: Dict[str, Tally] = {kind.name: Tally() for kind in formats}
        self.failures: List[Failure] = []
        self._subjects = [Subject(kind) for kind in formats]
        self._seed = seed
        self._limits = limits
        self._directory = failures

    def run(self, cases: int, jobs: int = 1, first: int = 0) -> None:
        """Run ``cases`` cases of each format, numbered from ``first`` on, in ``jobs`` children at once."""
        batches = self._batches(first, first + cases)
        with selectors.DefaultSelector() as selector:
            running: List[_Child] = []
            while True:
                while len(running) < jobs:
                    batch = next(batches, None)
                    if batch is None:
                        break
                    running.append(self._start(selector, *batch))
                if not running:
                    return
                for key, _events in selector.select(timeout=1.0):
                    key.data.listen()
                for child in [child for child in running if child.ended or child.is_stuck(self._limits)]:
                    selector.unregister(child.pipe)
                    running.remove(child)
                    rest = self._finish(child)
                    if rest:
                        running.append(self._start(selector, child.subject, rest))

    def _batches(self, first: int, end: int) -> Iterator[Tuple[Subject, range]]:
        for start in range(first, end, _BATCH):
            for subject in self._subjects:
                yield subject, range(start, min(end, start + _BATCH))

    def _start(self, selector: selectors.BaseSelector, subject: Subject, numbers: range) -> "_Child":
        pipe, theirs = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(pipe)
            try:
                self._work(subject, numbers, theirs)
            finally:
                os._exit(0)
        os.close(theirs)
        child = _Child(pid, pipe, subject, numbers)
        selector.register(pipe, selectors.EVENT_READ, child)
        return child

    def _finish(self, child: "_Child") -> range:
        """Count what the child said; the numbers that it did not come to."""
        status = child.reap()
        tally = self.tallies[child.subject.kind.name]
        for words in child.reports:
            number, seconds, memory, outcome = int(words[0]), float(words[1]), int(words[2]), words[3]
            tally.cases += 1
            tally.slowest, tally.memory = max(tally.slowest, seconds), max(tally.memory, memory)
            if outcome == "read":
                tally.read += 1
            elif outcome.startswith("refused "):
                tally.refused += 1
                tally.reasons[outcome[8:]] += 1
            else:
                self._fail(child.subject, number, outcome)
        rest = child.numbers[len(child.reports) :]
        if rest and status is not None:
            tally.cases += 1
            self._fail(child.subject, rest[0], status)
            rest = rest[1:]
        return rest

    def _fail(self, subject: Subject, number: int, why: str) -> None:
        name = subject.kind.name
        data, done = subject.case(self._seed, number)
        self._directory.mkdir(parents=True, exist_ok=True)
        kept = self._directory / f"{name}-{self._seed}-{number}.img"
        kept.write_bytes(data)
        kept.with_suffix(".txt").write_text(f"{name}, seed {self._seed}, case {number}\n{done}\n\n{why}\n", "utf-8")
        self.tallies[name].failed += 1
        self.failures.append(Failure(name, number, why.strip().splitlines()[-1], kept))

    def _work(self, subject: Subject, numbers: range, pipe: int) -> None:
        """In the child: each case in turn, one line for each."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Of addresses threads take many that they never use; the process that starts this one may be large.
        began, addresses = _peak(), int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        most = addresses + 2 * self._limits.memory + MiB * 512
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        for number in numbers:
            data, _done = subject.case(self._seed, number)
            start = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, self._limits.seconds)
            outcome = judge(subject.kind, data, subject.spoiler.data)
            signal.setitimer(signal.ITIMER_PROF, 0)
            memory = _peak() - began
            too_much = memory > self._limits.memory
            if too_much:
                outcome = f"it took {memory // MiB} MiB of memory"
            line = f"{number}\t{time.process_time() - start:.6f}\t{memory}\t{outcome}"
            os.write(pipe, line.replace("\n", "\v").encode("utf-8", "replace")[:4000] + b"\n")
            if too_much:
                return  # the peak stays with the process


def _peak() -> int:
    """The most bytes that were resident in this process at a time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def judge(kind: Format, data: bytes, seed: bytes) -> str:
    """``read``, ``refused`` with the sort of the first refusal, or what is wrong."""
    try:
        refused = kind.read(data, seed)
    except BaseException:  # this is what is looked for
        return traceback.format_exc()
    for error in refused:
        wrong = _wrong(error)
        if wrong:
            return "".join(traceback.format_exception(type(error), error, error.__traceback__)) + wrong
    if not refused:
        return "read"
    sort = _PARTICULARS.sub("#", refused[0].what)
    return f"refused {type(refused[0]).__name__} {refused[0].finding}: {sort}"


def _wrong(error: RespinError) -> Optional[str]:
    if error.exit_code not in _EXPECTED:
        return f"{type(error).__name__} is no error of an input"
    if not error.where or not error.what:
        return f"{type(error).__name__} does not say where"
    return None


class _Child:
    """A process with a batch of cases, and its lines."""

    def __init__(self, pid: int, pipe: int, subject: Subject, numbers: range) -> None:
        self.pipe = pipe
        self.subject = subject
        self.numbers = numbers
        self.ended = False
        self._pid = pid
        self._buffer = b""
        self._heard = time.monotonic()
        self._killed = False

    @property
    def reports(self) -> List[List[str]]:
        """Number, seconds, memory and outcome of each finished case."""
        lines = self._buffer.decode("utf-8", "replace").split("\n")[:-1]
        return [line.replace("\v", "\n").split("\t", 3) for line in lines]

    def listen(self) -> None:
        """Read what is there."""
        piece = os.read(self.pipe, MiB)
        self._buffer += piece
        self._heard = time.monotonic()
        self.ended = not piece

    def is_stuck(self, limits: Limits) -> bool:
        """Whether it has been silent for long; then it is killed."""
        if time.monotonic() - self._heard < limits.seconds + _SILENCE:
            return False
        os.kill(self._pid, signal.SIGKILL)
        self._killed = True
        return True

    def reap(self) -> Optional[str]:
        """Wait for its end; what went wrong with it."""
        os.close(self.pipe)
        _pid, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if self._killed:
            return "it hung without using the processor"
        if code == -signal.SIGPROF:
            return "it took more processor time than the limit"
        return f"the reader died by {signal.Signals(-code).name}" if code < 0 else None
