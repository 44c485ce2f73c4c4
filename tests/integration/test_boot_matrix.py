"""The command that runs the boot matrix, with a stand-in for QEMU: what it says and writes, not what a Node does."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict

import pytest

from respin.provenance import testresult
from tests.support.qemu import EMULATION, MATRIX, PROMPT, ROWS, Machine, kvmprobe

# A machine that shows a menu, a media check that fails, and, for the Node that is called good, a parameter.
QEMU = """#!/bin/sh
case "$*" in *--version*) echo 'QEMU emulator version 0'; exit ;; esac
echo 'Automatic boot in 3 seconds...'
printf 'initrd=initrd0.img\\n'
case "$*" in *good*) echo 'NODE: arguments rd.live.image matrix.typed=yes' ;; *) echo 'Kernel panic' ;; esac
exec cat
"""


@pytest.fixture
def world(tmp_path: Path) -> Dict[str, Any]:
    """Two files in place of ISOs, and programs in place of QEMU and isoinfo."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("qemu-system-x86_64", QEMU), ("isoinfo", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "good").mkdir()
    for name in ("node.iso", "respun.iso"):
        (tmp_path / "good" / name).write_text(name)
    return {"path": tmp_path, "env": {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}}


def run(world: Dict[str, Any], *arguments: str, directory: str = "good") -> "subprocess.CompletedProcess[str]":
    path = world["path"]
    command = [MATRIX, "--dir", path / directory, "--logs", path / "logs", "--no-kvm", "--timeout", "20", *arguments]
    return subprocess.run(command, env=world["env"], capture_output=True, text=True, timeout=120)


def test_a_row_that_holds(world: Dict[str, Any]) -> None:
    results = world["path"] / "results.json"
    done = run(world, "--only", "bios-parameter", "--json", str(results))
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:-1]] == [["respun-bios-parameter", "PASSED"]]
    found = testresult.parse(results.read_bytes(), where="results.json")
    assert (found.iso_name, found.result, found.tests) == (
        "respun.iso",
        "PASSED",
        (("respun-bios-parameter", "PASSED"),),
    )
    assert found.iso_sha256 == hashlib.sha256(b"respun.iso").hexdigest()
    assert found.configuration[0].sha256 == hashlib.sha256(b"node.iso").hexdigest()
    assert found.configuration[1].annotations == {"version": "QEMU emulator version 0", "accelerator": "tcg"}
    assert "NODE: arguments" in (world["path"] / "logs" / "respun-bios-parameter.log").read_text()


def test_a_row_that_does_not(world: Dict[str, Any]) -> None:
    (world["path"] / "good").rename(world["path"] / "bad")
    results = world["path"] / "results.json"
    done = run(world, "--only", "bios-parameter", "--json", str(results), directory="bad")
    assert done.returncode == 1
    assert "Kernel panic" in done.stderr
    (test,) = json.loads(results.read_text())["tests"]
    assert (test["result"], "Kernel panic" in test["detail"]) == ("FAILED", True)


def test_what_is_missing_is_named(world: Dict[str, Any]) -> None:
    done = run(world, directory="nowhere")
    assert (done.returncode, "examples/quickstart" in done.stderr) == (5, True)
    done = run(world, "--flat", directory="nowhere")
    assert (done.returncode, "examples/quickstart --flat" in done.stderr) == (5, True)
    done = run(world, "--only", "no such row")
    assert (done.returncode, "respun-uefi-usb" in done.stderr) == (2, True)


def test_the_rows_have_names_of_their_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert [row.name for row in ROWS if row.quick] == ["respun-bios-cd"]
    listed = subprocess.run([MATRIX, "--list"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == [row.name for row in ROWS]


def test_the_probe_of_kvm_runs_on_a_processor_that_works() -> None:
    assert kvmprobe.runs(EMULATION, 60)


def test_the_probe_of_kvm_sees_a_machine_that_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a machine ends QEMU as one does that ran to its end: only the status differs."""
    sector = bytearray(kvmprobe._SECTOR)
    sector[:5] = bytes.fromhex("eaf0ff00f0")  # a jump to where a processor starts
    monkeypatch.setattr(kvmprobe, "_SECTOR", bytes(sector))
    assert not kvmprobe.runs(EMULATION, 10)


SHELL = r"""
printf '\033[?2004h[root@node ~]# '
read -r line
printf '%s\r\n\033[?2004l\ractive\r\ninactive\r\nstatus=0\r\n\033[?2004h[root@node ~]# ' "$line"
exec cat
"""


def test_what_a_command_prints_is_what_it_says_and_not_how_a_terminal_shows_it() -> None:
    with Machine(["bash", "-c", SHELL], io.BytesIO()) as machine:
        machine.wait(PROMPT, 20)
        assert machine.run("systemctl is-active", 20).split() == ["active", "inactive"]
