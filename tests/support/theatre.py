"""Commands on copies of their inputs, with a fault at a step, and what is wrong with how they ended."""

from __future__ import annotations

import functools
import hashlib
import itertools
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from tests.support.faults import Ended, Fault, Stage, Step

TMP_ROOM, OUT_ROOM = 500 << 20, 400 << 20
# What takes less time than this between two steps is nothing that a fault could hit
BETWEEN = 0.02


@dataclass(frozen=True)
class Command:
    """A command line on copies of its inputs, which may be damaged.

    ``argv`` may say {in} and {out}. ``inputs`` and ``before`` are files or directories to copy before it runs: into the
    directories for inputs and outputs. ``damaged`` is the input, or the path in one, that media errors and other
    writers hit; ``makes`` what it makes. ``same`` are those that have the same bytes each time, but for a ``slots``
    range (offset, length). ``status`` is how it ends without a fault. ``guarded``: a change of the damaged input is
    noticed until the end. ``broken`` are further findings about it: it is copied, or changed, before it is looked at,
    or nobody may write to it at all.
    """

    name: str
    argv: Tuple[object, ...]
    inputs: Mapping[str, Path]
    before: Mapping[str, Path]
    damaged: str
    makes: Tuple[str, ...]
    same: Tuple[str, ...] = ()
    slots: Mapping[str, Tuple[int, int]] = field(default_factory=dict)
    status: int = 0
    guarded: bool = False
    broken: Tuple[str, ...] = ()

    def line(self, stage: Stage) -> List[str]:
        """The command line on a stage."""
        return [placed(str(part), stage) for part in self.argv]


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what it does, on which small file systems, and how it may end.

    ``ends`` has the findings that go with each exit status (none: an interrupt, or a signal). With status 0 all must be
    as without a fault. ``place`` is what the error must name.
    """

    name: str
    action: str
    details: Mapping[str, object]
    ends: Mapping[int, Sequence[str]]
    small: Tuple[str, ...] = ()
    place: str = ""


@dataclass(frozen=True)
class Recorded:
    """A run without a fault: its steps, the outputs before and after, what it printed."""

    steps: Sequence[Step]
    before: Mapping[str, str]
    after: Mapping[str, str]
    same: Mapping[str, str]
    out: str

    def points(self) -> List[Tuple[Step, str]]:
        """The moments that differ: each step's start and middle, and its end if something comes before the next one."""
        found = []
        for step, following in itertools.zip_longest(self.steps, self.steps[1:]):
            found += [(step, "start"), (step, "middle")]
            if following is None or following.started - step.ended > BETWEEN:
                found.append((step, "end"))
        return found

    def reads_after(self, step: Step) -> bool:
        """Whether the damaged input is read in this step or behind it, as far as the process itself reads it."""
        return any(other.reads for other in self.steps[step.number :])


def placed(text: str, stage: Stage) -> str:
    """``text`` with the directories of a stage."""
    for name, path in (("in", stage.path / "in"), ("out", stage.out), ("tmp", stage.tmp)):
        text = text.replace(f"{{{name}}}", str(path))
    return text


@functools.cache
def source_digest(path: Path) -> str:
    """The same of what nobody changes."""
    return digest(path)


def digest(path: Path) -> str:
    """The SHA-256 of a file, or of all names and files in a directory."""
    found = hashlib.sha256()
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        found.update(f"{one.relative_to(path)}\n".encode())
        found.update(one.read_bytes() if one.is_file() and not one.is_symlink() else b"")
    return found.hexdigest()


class Theatre:
    """Runs commands with faults on fresh stages and judges what came of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: Dict[str, Recorded] = {}
        self._numbers = itertools.count()

    def recorded(self, command: Command) -> Recorded:
        """The command without a fault; run once."""
        if command.name not in self._records:
            stage = self._stage(command)
            before = {name: hashlib.sha256(source.read_bytes()).hexdigest() for name, source in command.before.items()}
            parents = {str(parent) for name in before for parent in PurePath(name).parents} - {"."}
            before.update(dict.fromkeys(parents, hashlib.sha256().hexdigest()))
            ended = self._run(command, stage, reads_of=self._damaged(command, stage))
            assert ended.code == command.status, ended.err
            assert ended.survivors == [], ended.survivors
            assert (ended.left["tmp"], ended.left["other"]) == ({}, {})
            assert ended.steps
            # A fault is set off by the title of a step, which must be the same on every stage
            assert not [step.title for step in ended.steps if str(stage.path) in step.title]
            assert set(command.makes) <= set(ended.left["out"])
            shutil.rmtree(stage.path)
            printed = ended.out.replace(str(stage.path), "")
            self._records[command.name] = Recorded(ended.steps, before, ended.left["out"], ended.same, printed)
        return self._records[command.name]

    def play(self, command: Command, kind: Kind, step: Step, when: str) -> List[str]:
        """Run with one fault; returns what is wrong, each with what happened where."""
        record = self.recorded(command)
        stage = self._stage(command)
        details = {
            name: placed(value, stage) if isinstance(value, str) else value for name, value in kind.details.items()
        }
        ended = self._run(command, stage, Fault(step, when, kind.action, details), kind.small)
        harmful = kind.action in ("rewrite", "truncate")
        wrong = self._left(command, record, ended)
        for name, source in command.inputs.items():
            mine = harmful and name == command.damaged.partition("/")[0]
            if not mine and digest(stage.path / "in" / name) != source_digest(source):
                wrong.append(f"the input {name} was changed")
        printed = replace(ended, out=ended.out.replace(str(stage.path), "")) if ended.code == command.status else ended
        wrong += self._said(replace(kind, place=placed(kind.place, stage)), command, record, printed)
        shutil.rmtree(stage.path)
        return [
            f"{command.name}, {kind.name} {when} of {step.number} ({step.title}): {one}\n{ended.err}" for one in wrong
        ]

    def _stage(self, command: Command) -> Stage:
        stage = Stage(self.path / f"stage{next(self._numbers)}")
        inside = stage.path / "in"
        inside.mkdir()
        for name, source in command.inputs.items():
            subprocess.run(["cp", "-a", source, inside / name], check=True)
        return stage

    def _damaged(self, command: Command, stage: Stage) -> Optional[Path]:
        return stage.path / "in" / command.damaged if command.damaged else None

    def _run(
        self,
        command: Command,
        stage: Stage,
        fault: Optional[Fault] = None,
        small: Sequence[str] = (),
        reads_of: Optional[Path] = None,
    ) -> Ended:
        room = {"tmp": (stage.tmp, TMP_ROOM), "out": (stage.out, OUT_ROOM)}
        return stage.run(
            *command.line(stage),
            fault=fault,
            mounts=dict(room[name] for name in small),
            copies={stage.out / name: source for name, source in command.before.items()},
            slots=command.slots,
            reads_of=reads_of,
        )

    def _left(self, command: Command, record: Recorded, ended: Ended) -> List[str]:
        found = [f"ran on: {process}" for process in ended.survivors]
        found += [f"left behind: {path}" for name in ("tmp", "other") for path in ended.left[name]]
        if ended.mounts_stayed:
            found.append("a mount stayed")
        left = ended.left["out"]
        if ended.code == command.status:
            found += self._made(command, record, ended)
        elif left != record.before:
            # Behind its last step a command publishes, and cannot be stopped any more; it did all of it then
            published = all(left.get(name) != record.before.get(name) for name in command.makes)
            if not published or ended.code not in (130, -9):
                changed = {name for name in {*left, *record.before} if left.get(name) != record.before.get(name)}
                found.append(f"outputs: {sorted(changed)}")
            else:
                found += self._made(command, record, ended)
        return found

    def _made(self, command: Command, record: Recorded, ended: Ended) -> List[str]:
        found = []
        if set(ended.left["out"]) != set(record.after):
            found.append(f"made {sorted(ended.left['out'])} instead of {sorted(record.after)}")
        found += [f"made another {name}" for name in command.same if ended.same.get(name) != record.same[name]]
        return found

    def _said(self, kind: Kind, command: Command, record: Recorded, ended: Ended) -> List[str]:
        if not ended.fired:
            return [] if ended.code == command.status else [f"status {ended.code} without a fault"]
        if ended.code == command.status and command.status in kind.ends:
            return [] if command.makes or ended.out == record.out else ["it printed something else"]
        if ended.code not in kind.ends:
            return [f"status {ended.code} {ended.out[:400]}"]
        found = []
        if ended.code > 0:
            if ended.err.count("error: ") + ended.err.count("interrupted") != 1:
                found.append("not one sentence")
            if ended.code != 130:
                error = ended.error
                if error["finding"] not in kind.ends[ended.code]:
                    found.append(f"status {ended.code}, finding {error['finding']}")
                if kind.place not in str(error["where"]):
                    found.append(f"it names {error['where']}, not {kind.place}")
        return found
