"""Something goes wrong at every step of every command: the right status, a sentence, and nothing left behind.

The steps are those of a recorded run. The ordinary tests give every step one fault, in turn; the slow one gives every
step every fault, at its start, in its middle and at its end.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.support.faults import Ended, Fault, Stage, Step
from tests.support.forge import Forge

WHEN = ("start", "middle", "end")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
SIDECARS = ("out.iso.CHECKSUM", "out.iso.added.cdx.json", "out.iso.intoto.jsonl")
TMP_ROOM, OUT_ROOM = 500 << 20, 400 << 20


@dataclass(frozen=True)
class Command:
    """A command line on copies of its inputs, which may be damaged.

    ``argv`` may say {in} and {out}. ``inputs`` and ``before`` are files to make before it runs: in the directories for
    inputs and outputs. ``damaged`` is the input that media errors and other writers hit; ``makes`` what it makes.
    """

    name: str
    argv: Tuple[object, ...]
    inputs: Mapping[str, Path]
    before: Mapping[str, Path]
    damaged: str
    makes: Tuple[str, ...]

    def line(self, stage: Stage) -> List[str]:
        """The command line on a stage."""
        return [
            str(part).replace("{in}", str(stage.path / "in")).replace("{out}", str(stage.out)) for part in self.argv
        ]


@pytest.fixture(scope="module")
def commands(
    forge: Forge, respun: Respun, good_plugin: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Command]:
    keys = forge.keys
    ours = ["--sign-key", keys.fingerprints["respin"], "--gnupg-home", keys.gnupg_home]
    precious = tmp_path_factory.mktemp("precious") / "precious"
    precious.write_text("what was there before\n")
    old = {name: precious for name in ("out.iso", *SIDECARS)}
    node, plugin = forge.iso.name, good_plugin.name
    beside = {f"out{s.name[len('respun') :]}": s for s in respun.iso.parent.glob("respun.iso*")}
    rpm = forge.rpm("faulty")
    spec = tmp_path_factory.mktemp("spec") / "spec.toml"
    spec.write_text(
        'name = "faulty"\nversion = "1"\nrelease = "1"\narch = "noarch"\nvendor = "Test"\nsummary = "A test"\n'
        f'license = "Apache-2.0"\nrpms = ["{rpm.name}"]\n[target]\nprofiles = ["example-node"]\n[effects]\n'
    )
    build = ("build", "--base", f"{{in}}/{node}", "--base-checksum", "{in}/CHECKSUM", "--plugin", f"{{in}}/{plugin}")
    made = [
        Command(
            "build",
            (*build, "--trust", keys.trust, *ours, "--force", "--json", "-o", "{out}/out.iso"),
            {node: forge.iso, "CHECKSUM": forge.checksum, plugin: good_plugin},
            old,
            node,
            tuple(old),
        ),
        Command(
            "verify", ("verify", "{in}/x.iso", "--trust", keys.trust, "--json"), {"x.iso": respun.iso}, {}, "x.iso", ()
        ),
        Command(
            "verify --base",
            ("verify", respun.iso, "--base", f"{{in}}/{node}", "--trust", keys.trust, "--json"),
            {node: forge.iso},
            {},
            node,
            (),
        ),
        Command(
            "restore",
            ("restore", "{in}/x.iso", "-o", "{out}/out.iso", "--force", "--json"),
            {"x.iso": respun.iso},
            {"out.iso": precious},
            "x.iso",
            ("out.iso",),
        ),
        Command(
            "sign",
            ("sign", "{out}/out.iso", "--key", keys.fingerprints["plugin"], "--gnupg-home", keys.gnupg_home, "--json"),
            {},
            beside,
            "",
            ("out.iso", "out.iso.CHECKSUM", "out.iso.intoto.jsonl"),
        ),
        Command(
            "sbom",
            ("sbom", "{in}/x.iso", "-o", "{out}/bom", "--force", "--json"),
            {"x.iso": respun.iso},
            {"bom": precious},
            "x.iso",
            ("bom",),
        ),
        Command(
            "bundle create",
            ("bundle", "create", "{in}/spec.toml", "-o", "{out}", "--force", "--json"),
            {"spec.toml": spec, rpm.name: rpm},
            {"faulty-1-1.noarch.plugin.tar": precious},
            rpm.name,
            ("faulty-1-1.noarch.plugin.tar",),
        ),
        Command(
            "bundle sign",
            ("bundle", "sign", "{out}/p.tar", "--key", keys.fingerprints["rpm"], "--gnupg-home", keys.gnupg_home),
            {},
            {"p.tar": good_plugin},
            "",
            ("p.tar",),
        ),
    ]
    return {command.name: command for command in made}


@dataclass(frozen=True)
class Recorded:
    """A run without a fault: its steps, what was there before and after, how long it took."""

    steps: Sequence[Step]
    before: Mapping[str, str]
    after: Mapping[str, str]
    seconds: float


class Theatre:
    """Runs commands with faults on fresh stages and judges what came of it."""

    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        self.path = path
        self.commands = commands
        self._records: Dict[str, Recorded] = {}
        self._numbers = itertools.count()

    def run(
        self,
        command: Command,
        fault: Optional[Fault] = None,
        small: Sequence[str] = (),
        kill_after: Optional[float] = None,
    ) -> Tuple[Ended, Dict[str, str]]:
        """Run on a new stage; returns how it ended and the digests of its inputs afterwards."""
        stage = Stage(self.path / f"stage{next(self._numbers)}")
        inside = stage.path / "in"
        inside.mkdir()
        for name, source in command.inputs.items():
            shutil.copy(source, inside / name)
        if fault is not None and "target" in fault.details:
            target = str(fault.details["target"]).replace("{in}", str(inside)).replace("{out}", str(stage.out))
            target = target.replace("{tmp}", str(stage.tmp))
            fault = replace(fault, details={**fault.details, "target": target})
        room = {"tmp": (stage.tmp, TMP_ROOM), "out": (stage.out, OUT_ROOM)}
        ended = stage.run(
            *command.line(stage),
            fault=fault,
            mounts=dict(room[name] for name in small),
            copies={stage.out / name: source for name, source in command.before.items()},
            kill_after=kill_after,
        )
        inputs = {name: sha256(inside / name) for name in command.inputs}
        shutil.rmtree(stage.path)
        return ended, inputs

    def recorded(self, command: Command) -> Recorded:
        """The command without a fault; run once."""
        if command.name not in self._records:
            ended, _ = self.run(command)
            assert ended.code == 0, ended.err
            assert ended.survivors == [], ended.survivors
            assert (ended.left["tmp"], ended.left["other"]) == ({}, {})
            assert ended.steps
            before = {name: sha256(source) for name, source in command.before.items()}
            assert set(command.makes) <= set(ended.left["out"])
            self._records[command.name] = Recorded(ended.steps, before, ended.left["out"], ended.seconds)
        return self._records[command.name]

    def wrong(self, command: Command, ended: Ended, inputs: Mapping[str, str], damaged: bool) -> List[str]:
        """What is wrong with how it ended, apart from the status."""
        record = self.recorded(command)
        found = [f"ran on: {process}" for process in ended.survivors]
        found += [f"left behind: {path}" for name in ("tmp", "other") for path in ended.left[name]]
        if ended.mounts_stayed:
            found.append("a mount stayed")
        for name, source in command.inputs.items():
            if inputs[name] != sha256(source) and not (damaged and name == command.damaged):
                found.append(f"the input {name} was changed")
        if ended.code == 0:
            if set(ended.left["out"]) != set(record.after):
                found.append(f"made {sorted(ended.left['out'])} instead of {sorted(record.after)}")
        elif ended.left["out"] != record.before and not self._signed(command, ended, record):
            changed = {n for n, d in ended.left["out"].items() if record.before.get(n) != d}
            found.append(f"outputs: {sorted(changed | (set(record.before) - set(ended.left['out'])))}")
        return found

    def _signed(self, command: Command, ended: Ended, record: Recorded) -> bool:
        """Interrupted behind its last step, `sign` has signed; everything else of that is in test_kills."""
        return command.name == "sign" and set(ended.left["out"]) == set(record.after)


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory, commands: Mapping[str, Command]) -> Theatre:
    return Theatre(tmp_path_factory.mktemp("theatre"), commands)


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what it does, on which small file systems, and the statuses and findings it may end with."""

    name: str
    action: str
    details: Mapping[str, object]
    codes: Tuple[int, ...]
    findings: Tuple[str, ...] = ()
    small: Tuple[str, ...] = ()
    place: str = ""


def kinds(command: Command) -> List[Kind]:
    """The faults that make sense for a command."""
    found = [
        Kind(name, "signal", {"number": int(getattr(signal, name))}, (130,) if name != "SIGKILL" else (-9,))
        for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
    ]
    if os.geteuid() == 0:
        # Nothing more may be needed there: then it ends well
        found.append(Kind("full temp", "fill", {"target": "{tmp}"}, (0, 6), ("no-space",), ("tmp",), "temp"))
        if command.makes:
            found.append(Kind("full output", "fill", {"target": "{out}"}, (0, 6), ("no-space",), ("out",), "out"))
    if command.damaged:
        target = {"target": f"{{in}}/{command.damaged}"}
        found.append(Kind("EIO", "eio", target, (0, 6), ("cannot-read",), (), command.damaged))
        size = command.inputs[command.damaged].stat().st_size
        other = {**target, "offset": size // 2, "length": min(65536, size // 4)}
        found.append(Kind("rewritten input", "rewrite", other, (0, 3, 4, 6, 7)))
        found.append(Kind("truncated input", "truncate", {**target, "offset": size // 3}, (0, 3, 4, 6, 7)))
    return found


def play(theatre: Theatre, command: Command, kind: Kind, step: Step, when: str) -> List[str]:
    """Run with one fault; returns what is wrong, each with what happened where."""
    fault = Fault(step, when, kind.action, kind.details)
    ended, inputs = theatre.run(command, fault, kind.small)
    wrong = theatre.wrong(command, ended, inputs, damaged=kind.action in ("rewrite", "truncate"))
    if ended.code not in (kind.codes if ended.fired else (0,)):
        wrong.append(f"status {ended.code}")
    elif ended.code > 0:
        if ended.code != 130 and kind.findings:
            if ended.error["finding"] not in kind.findings:
                wrong.append(f"finding {ended.error['finding']}")
            if kind.place not in str(ended.error["where"]) and "tmp" not in str(ended.error["where"]):
                wrong.append(f"it names {ended.error['where']}, not {kind.place}")
        if ended.err.count("error: ") + ended.err.count("interrupted") != 1:
            wrong.append("not one sentence")
    return [f"{command.name}, {kind.name} {when} of {step.number} ({step.title}): {one}\n{ended.err}" for one in wrong]


def in_turn(theatre: Theatre, command: Command, every: int = 1) -> Iterator[List[str]]:
    """Every step gets one of the faults, and every fault is there if there are enough steps."""
    chosen = itertools.cycle(kinds(command))
    when = itertools.cycle(("middle", "start", "end", "middle"))
    for step in theatre.recorded(command).steps[::every]:
        yield play(theatre, command, next(chosen), step, next(when))


def test_every_other_step_of_build_with_one_fault(theatre: Theatre, commands: Mapping[str, Command]) -> None:
    wrong = [one for found in in_turn(theatre, commands["build"], every=2) for one in found]
    assert wrong == [], "\n".join(wrong)


@pytest.mark.parametrize("name", ["verify", "verify --base", "restore", "sign", "sbom", "bundle create", "bundle sign"])
def test_every_step_of_the_others_with_one_fault(theatre: Theatre, commands: Mapping[str, Command], name: str) -> None:
    wrong = [one for found in in_turn(theatre, commands[name]) for one in found]
    assert wrong == [], "\n".join(wrong)


def test_a_killed_agent_is_a_failed_build(theatre: Theatre, commands: Mapping[str, Command]) -> None:
    command = commands["build"]
    inside = [step for step in theatre.recorded(command).steps if step.sandbox]
    assert len(inside) >= 4
    kind = Kind("killed agent", "agent", {}, (6,), ("sandbox-failed",))
    wrong = play(theatre, command, kind, inside[-2], "middle")
    assert wrong == [], "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "name", ["build", "verify", "verify --base", "restore", "sign", "sbom", "bundle create", "bundle sign"]
)
def test_every_step_with_every_fault(theatre: Theatre, commands: Mapping[str, Command], name: str) -> None:
    command = commands[name]
    wrong: List[str] = []
    for step in theatre.recorded(command).steps:
        found = kinds(command)
        if step.sandbox:
            found.append(Kind("killed agent", "agent", {}, (0, 6), ("sandbox-failed",)))
        for kind, when in itertools.product(found, WHEN):
            wrong += play(theatre, command, kind, step, when)
    assert wrong == [], "\n".join(wrong)
