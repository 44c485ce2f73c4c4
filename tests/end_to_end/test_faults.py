"""Something goes wrong at every step of every command: the right status, a sentence, and nothing left behind.

The steps are those of a recorded run. The ordinary tests give every step one fault, in turn. The slow one gives every
step every fault at its start, in its middle and at its end, without what is the same: the end of a step that the next
one follows at once, the reading of an input that is not read any more, one of the signals that are handled alike in
turn, and of a command that runs through another one's steps only those that it has for itself.
"""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Iterator, List, Mapping, Tuple

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.end_to_end.test_reproduce import slot_of
from tests.support.faults import Step
from tests.support.forge import Forge
from tests.support.theatre import Command, Kind, Theatre

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
SIDECARS = ("out.iso.CHECKSUM", "out.iso.added.cdx.json", "out.iso.intoto.jsonl")
NAMES = (
    "build", "verify", "verify --base", "restore", "diff", "reproduce", "sign", "sign --signer", "sbom",
    "bundle create", "bundle sign", "bundle sign --signer", "pxe", "pxe --base-sha256",
)  # fmt: skip
HOST = ("verify --host", "verify --host --iso")
# Who has most of their steps from whom
LIKE = {
    "reproduce": "build", "verify --base": "verify", "verify --host --iso": "verify", "pxe": "verify",
    "pxe --base-sha256": "pxe",
}  # fmt: skip
SPARSE = ("build", "reproduce", "pxe")
INTERRUPTS = ("SIGTERM", "SIGINT", "SIGHUP")


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
    slots = {"out.iso": slot_of(respun.iso)}
    rpm = forge.rpm("faulty")
    spec = tmp_path_factory.mktemp("spec") / "spec.toml"
    spec.write_text(
        'name = "faulty"\nversion = "1"\nrelease = "1"\narch = "noarch"\nvendor = "Test"\nsummary = "A test"\n'
        f'license = "Apache-2.0"\nrpms = ["{rpm.name}"]\n[target]\nprofiles = ["example-node"]\n[effects]\n'
    )
    tar = "faulty-1-1.noarch.plugin.tar"
    base = ("--base", f"{{in}}/{node}", "--base-checksum", "{in}/CHECKSUM", "--plugin", f"{{in}}/{plugin}")
    trust = ("--trust", keys.trust, "--json")
    building = {node: forge.iso, "CHECKSUM": forge.checksum, plugin: good_plugin}
    iso = {"x.iso": respun.iso}
    home = ("--gnupg-home", keys.gnupg_home)

    def signer(key: str) -> Tuple[object, ...]:
        line = ["gpg", "--homedir", str(keys.gnupg_home), "--batch", "--armor", "--detach-sign"]
        return ("--signer", shlex.join([*line, "-u", keys.fingerprints[key]]))

    sign = ("sign", "{out}/out.iso", "--key", keys.fingerprints["plugin"], *home, "--json")
    signed = ("out.iso", "out.iso.CHECKSUM", "out.iso.intoto.jsonl")
    bundle = ("bundle", "sign", "{out}/p.tar", "--json")
    # Into a directory that this command made before
    listed = precious.with_name("SHA256SUMS")
    listed.write_text(f"{sha256(precious)}  menu\n")
    menus = ("SHA256SUMS", "boot.ipxe", "grub.cfg", "pxelinux.cfg/default", "isolinux/vmlinuz0", "isolinux/initrd0.img")
    pxe = [
        Command(
            name,
            ("pxe", f"{{in}}/{source}", "-o", "{out}/node", "--force", *options),
            inputs,
            {"node/menu": precious, "node/SHA256SUMS": listed},
            source,
            files := tuple(f"node/{one}" for one in (*menus, f"{source}.cpio")),
            files,
            guarded=True,
        )
        for name, source, inputs, options in (
            ("pxe", "x.iso", iso, trust),
            ("pxe --base-sha256", node, {node: forge.iso}, ("--base-sha256", sha256(forge.iso), "--json")),
        )
    ]
    made = [
        Command(
            "build",
            ("build", *base, *trust, *ours, "--force", "-o", "{out}/out.iso"),
            building,
            old,
            node,
            tuple(old),
            ("out.iso", "out.iso.added.cdx.json"),
            slots,
            broken=("base-changed",),
        ),
        Command("verify", ("verify", "{in}/x.iso", *trust), iso, {}, "x.iso", (), guarded=True),
        Command(
            "verify --base",
            ("verify", respun.iso, "--base", f"{{in}}/{node}", *trust),
            {node: forge.iso},
            {},
            node,
            (),
            guarded=True,
        ),
        Command(
            "restore",
            ("restore", "{in}/x.iso", "-o", "{out}/out.iso", "--force", "--json"),
            iso,
            {"out.iso": precious},
            "x.iso",
            ("out.iso",),
            ("out.iso",),
        ),
        Command("diff", ("diff", forge.iso, "{in}/x.iso", "--json"), iso, {}, "x.iso", (), status=1, guarded=True),
        Command(
            "reproduce",
            ("reproduce", "{in}/x.iso", "--plugin", f"{{in}}/{plugin}", *trust),
            {**iso, plugin: good_plugin},
            {},
            "x.iso",
            (),
            guarded=True,
        ),
        Command("sign", sign, {}, beside, "", signed, ("out.iso",), slots),
        Command("sign --signer", (*sign, *signer("plugin")), {}, beside, "", signed, ("out.iso",), slots),
        Command(
            "sbom",
            ("sbom", "{in}/x.iso", "-o", "{out}/bom", "--force", "--json"),
            iso,
            {"bom": precious},
            "x.iso",
            ("bom",),
            ("bom",),
            guarded=True,
        ),
        Command(
            "bundle create",
            ("bundle", "create", "{in}/spec.toml", "-o", "{out}", "--force", "--json"),
            {"spec.toml": spec, rpm.name: rpm},
            {tar: precious},
            rpm.name,
            (tar,),
            (tar,),
            broken=("malformed", "truncated"),
        ),
        Command(
            "bundle sign",
            (*bundle, "--key", keys.fingerprints["rpm"], *home),
            {},
            {"p.tar": good_plugin},
            "",
            ("p.tar",),
        ),
        Command("bundle sign --signer", (*bundle, *signer("rpm")), {}, {"p.tar": good_plugin}, "", ("p.tar",)),
        *pxe,
    ]
    return {command.name: command for command in made}


@pytest.fixture(scope="module")
def hosts(
    forge: Forge, respun: Respun, installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Command]:
    """Commands on an installed Node: on the part of its root that its facts speak of, and on all of it."""
    part = tmp_path_factory.mktemp("part") / "root"
    part.mkdir()
    places = [f".{file}" for file in respun.files if not file.startswith("/etc/")]
    places += ["./usr/share/respin", "./etc", "./var/lib/rpm", "./usr/lib/sysimage/rpm"]
    here = [place for place in places if os.path.lexists(installed / place)]
    subprocess.run(["cp", "-a", "--parents", *here, part], cwd=installed, check=True)
    database = next(path for path in part.rglob("rpmdb.sqlite") if not path.parent.is_symlink())
    trust = ("--trust", forge.keys.trust, "--json")
    made = [
        Command(
            "verify --host",
            ("verify", "--host", "{in}/root", "--json"),
            {"root": part},
            {},
            f"root/{database.relative_to(part)}",
            (),
            broken=("rpmdb",),
        ),
        Command(
            "verify --host --iso",
            ("verify", "--host", installed, "--iso", "{in}/x.iso", *trust),
            {"x.iso": respun.iso},
            {},
            "x.iso",
            (),
            guarded=True,
            broken=("subject-digest", "truncated"),
        ),
    ]
    return {command.name: command for command in made}


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Theatre:
    return Theatre(tmp_path_factory.mktemp("theatre"))


def interrupt(name: str) -> Kind:
    """A signal."""
    status = -9 if name == "SIGKILL" else 130
    return Kind(name, "signal", {"number": int(getattr(signal, name))}, {status: ()})


def full(command: Command) -> List[Kind]:
    """File systems that are full from now on; where nothing more is needed, it ends well."""
    ends = {command.status: (), 6: ("no-space",)}
    found = [Kind("full temp", "fill", {"target": "{tmp}"}, ends, ("tmp",), "{tmp}")]
    if command.makes:
        found.append(Kind("full output", "fill", {"target": "{out}"}, ends, ("out",), "{out}"))
    return found if os.geteuid() == 0 else []


def damage(command: Command) -> List[Kind]:
    """What becomes of an input while the command runs: a broken medium, another writer."""
    if not command.damaged:
        return []
    target = f"{{in}}/{command.damaged}"
    top, _, below = command.damaged.partition("/")
    place = f"{{in}}/{top}:/{below}" if below else target
    size = (command.inputs[top] / below).stat().st_size
    unread = {} if command.guarded else {command.status: ()}
    changed = {**unread, 3: ("changed-while-read", *command.broken)}
    half = {"target": target, "offset": size // 2, "length": min(65536, size // 4)}
    return [
        Kind("EIO", "eio", {"target": target}, {command.status: (), 6: ("cannot-read",)}, (), place),
        Kind("rewritten input", "rewrite", half, changed, (), place),
        Kind("truncated input", "truncate", {"target": target, "offset": size // 3}, changed, (), place),
    ]


def kinds(command: Command) -> List[Kind]:
    """The faults that make sense for a command."""
    return [*map(interrupt, ("SIGKILL", *INTERRUPTS)), *full(command), *damage(command)]


def in_turn(theatre: Theatre, command: Command, every: int = 1) -> Iterator[List[str]]:
    """Every step gets one of the faults, and every fault is there if there are enough steps."""
    chosen = itertools.cycle(kinds(command))
    when = itertools.cycle(("middle", "start", "end", "middle"))
    for step in theatre.recorded(command).steps[::every]:
        yield theatre.play(command, next(chosen), step, next(when))


def test_every_other_step_of_build_with_one_fault(theatre: Theatre, commands: Mapping[str, Command]) -> None:
    wrong = [one for found in in_turn(theatre, commands["build"], every=2) for one in found]
    assert wrong == [], "\n".join(wrong)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SPARSE])
def test_every_step_of_the_others_with_one_fault(theatre: Theatre, commands: Mapping[str, Command], name: str) -> None:
    wrong = [one for found in in_turn(theatre, commands[name]) for one in found]
    assert wrong == [], "\n".join(wrong)


def test_every_fifth_step_of_reproduce_with_one_fault(theatre: Theatre, commands: Mapping[str, Command]) -> None:
    wrong = [one for found in in_turn(theatre, commands["reproduce"], every=5) for one in found]
    assert wrong == [], "\n".join(wrong)


def test_every_third_step_of_pxe_with_one_fault(theatre: Theatre, commands: Mapping[str, Command]) -> None:
    wrong = [one for found in in_turn(theatre, commands["pxe"], every=3) for one in found]
    assert wrong == [], "\n".join(wrong)


@needs_root
@pytest.mark.parametrize("name", HOST)
def test_every_step_on_a_host_with_one_fault(theatre: Theatre, hosts: Mapping[str, Command], name: str) -> None:
    wrong = [one for found in in_turn(theatre, hosts[name]) for one in found]
    assert wrong == [], "\n".join(wrong)


KILLED_AGENT = Kind("killed agent", "agent", {}, {6: ("sandbox-failed",)})


def test_a_killed_agent_is_a_failed_build(theatre: Theatre, commands: Mapping[str, Command]) -> None:
    command = commands["build"]
    # Later on it may have done all that it is there for.
    (installing,) = [step for step in theatre.recorded(command).steps if step.title == "Installing the packages"]
    assert installing.sandbox
    wrong = theatre.play(command, KILLED_AGENT, installing, "middle")
    assert wrong == [], "\n".join(wrong)


@needs_root
def test_a_full_disk_is_named_by_what_runs_in_the_sandbox(theatre: Theatre, commands: Mapping[str, Command]) -> None:
    command = commands["build"]
    (comparing,) = [step for step in theatre.recorded(command).steps if step.title.startswith("Comparing the root")]
    wrong = theatre.play(command, full(command)[0], comparing, "start")
    assert wrong == [], "\n".join(wrong)


def matrix(theatre: Theatre, command: Command, others: Mapping[str, Command]) -> Iterator[Tuple[Kind, Step, str]]:
    """All that is to be tried on a command."""
    record = theatre.recorded(command)
    tried = {step.title for step in theatre.recorded(others[LIKE[command.name]]).steps} if command.name in LIKE else {}
    turn, once = itertools.cycle(INTERRUPTS), itertools.cycle(kinds(command))
    for step, when in record.points():
        if step.title in tried:
            if when == "middle":
                yield next(once), step, when
            continue
        yield interrupt("SIGKILL"), step, when
        yield interrupt(next(turn)), step, when
        for kind in [*full(command), *damage(command)]:
            if kind.action != "eio" or record.reads_after(step):
                yield kind, step, when
        if step.sandbox:
            yield Kind("killed agent", "agent", {}, {0: (), 6: ("sandbox-failed",)}), step, when


def all_wrong(theatre: Theatre, command: Command, others: Mapping[str, Command]) -> List[str]:
    """What is wrong with any of it."""
    return [one for case in matrix(theatre, command, others) for one in theatre.play(command, *case)]


@pytest.mark.slow
@pytest.mark.timeout(10800)
@pytest.mark.parametrize("name", NAMES)
def test_every_step_with_every_fault(theatre: Theatre, commands: Mapping[str, Command], name: str) -> None:
    wrong = all_wrong(theatre, commands[name], commands)
    assert wrong == [], "\n".join(wrong)


@needs_root
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", HOST)
def test_every_step_on_a_host_with_every_fault(
    theatre: Theatre, commands: Mapping[str, Command], hosts: Mapping[str, Command], name: str
) -> None:
    wrong = all_wrong(theatre, hosts[name], commands)
    assert wrong == [], "\n".join(wrong)
