"""The command line's contract: help with examples, exit codes, JSON documents, no traceback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Respun
from tests.support.commandline import every_command
from tests.support.forge import Forge, respin
from tests.support.images import run

COMMANDS = [name.split() for name in every_command()]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command: "list[str]") -> None:
    for flag, cold in (("-h", False), ("--help", True)):
        done = respin(*command, flag, cold=cold)  # each with what it imports itself, too
        assert done.code == 0
        assert re.search("Examples?:", done.out)
        assert "respin " + " ".join(command) in re.split("Examples?:", done.out)[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["build"],
        ["verify"],
        ["verify", "a", "--no-such-option"],
        ["build", "--base", "x", "--plugin", "y", "-o", "z"],
        ["verify", "x", "--base-checksum", "y"],
        ["inspect", "/nonexistent"],
        ["diff", "/nonexistent", "/nonexistent"],
        ["reproduce", "/nonexistent", "--plugin", "/nonexistent", "--trust", "/nonexistent"],
        ["verify", "/nonexistent", "--trust", "/nonexistent"],
    ],
    ids=" ".join,
)
def test_usage_errors_end_with_2_and_a_sentence(arguments: "list[str]") -> None:
    done = respin(*arguments)
    assert done.code == 2, done.err
    assert done.err.startswith("error: ")
    told = respin(*arguments, "--json")
    assert (told.code, told.json["schema"], told.json["error"]["exit_code"]) == (2, "respin.error/1", 2), told.err


def test_version_and_colour() -> None:
    assert respin("--version").out.startswith("respin ")
    plain = respin("--version", env={"NO_COLOR": "1"})
    assert "\x1b" not in plain.out
    coloured = respin("inspect", "/nonexistent", "--color")
    assert "\x1b" in coloured.err


def test_inspect_says_of_any_iso_what_it_lacks(tmp_path: Path) -> None:
    iso = tmp_path / "other.iso"
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/readme").write_text("no Node\n")
    run("xorrisofs", "-quiet", "-R", "-o", iso, tmp_path / "tree")
    done = respin("inspect", iso)
    assert done.code == 0, done.err
    assert "None" not in done.out
    assert re.search(r"(?m)^trees .*; 1 file$", done.out)


def test_inspect_shows_stock_and_respun_isos(forge: Forge, respun: Respun) -> None:
    stock = respin("inspect", forge.iso, "--json").json
    assert stock["schema"] == "respin.inspect/1"
    assert stock["profile"]["id"] == "example-node"
    assert stock["provenance"] is None
    assert stock["node"]["kernels"]
    assert {entry["platform"] for entry in stock["iso"]["boot"]} == {"BIOS", "UEFI"}
    ours = respin("inspect", respun.iso, "--json").json
    assert [plugin["name"] for plugin in ours["provenance"]["plugins"]] == ["good-1-1.noarch.plugin.tar"]
    assert "good-1.0-1.noarch" in respin("inspect", respun.iso).out


def test_doctor_says_that_this_machine_can_build() -> None:
    done = respin("doctor", "--json")
    assert done.code == 0, done.out
    assert done.json["ok"] is True


def test_results_go_to_stdout_and_progress_to_stderr(forge: Forge, respun: Respun) -> None:
    done = respin("verify", respun.iso, "--trust", forge.keys.trust, "-q")
    assert done.out.startswith("PASSED")
    assert done.err == ""
    loud = respin("verify", respun.iso, "--trust", forge.keys.trust)
    assert "reading" in loud.err
    assert "reading" not in loud.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_ends_with_130_and_leaves_nothing(
    forge: Forge, good_plugin: Path, tmp_path: Path, number: int
) -> None:
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()
    out.mkdir()
    command = [sys.executable, "-m", "respin", "build", "--base", forge.iso, "--base-checksum", forge.checksum]
    command += ["--trust", forge.keys.trust, "--unsigned", "--plugin", good_plugin, "-o", out / "out.iso"]
    command += ["--tmpdir", scratch]
    child = subprocess.Popen(
        [str(part) for part in command],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={"PATH": os.environ["PATH"]},
        # A shell has what it runs in the background ignore Ctrl-C, and then so does respin.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert child.stderr is not None
    for line in child.stderr:
        if "Opening the root image" in line:
            break
    child.send_signal(number)
    said = child.stderr.read()
    assert child.wait(60) == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    deadline = time.monotonic() + 10
    while list(scratch.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(scratch.iterdir()) == []
    assert list(out.iterdir()) == []
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(scratch) not in mounts
