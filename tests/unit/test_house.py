"""The house rules: style, types, layers, size of modules, scripts that parse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
LONGEST_MODULE = 310


def complaints(*command: str) -> str:
    """What a tool says when it is not content."""
    done = subprocess.run(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout if done.returncode else ""


def scripts() -> List[Path]:
    """The project's shell scripts."""
    candidates = [path for top in ("examples", "tests", ".ci") for path in (CHECKOUT / top).rglob("*")]
    shells = (b"#!/bin/bash", b"#!/bin/sh", b"# shellcheck shell=bash")
    return sorted(path for path in candidates if path.is_file() and path.read_bytes().startswith(shells))


@pytest.mark.parametrize("command", [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",), ("lint-imports",)])
def test_the_tools_are_content(command: "tuple[str, ...]") -> None:
    assert not complaints(str(TOOLS / command[0]), *command[1:])


def test_no_module_is_long() -> None:
    lengths = {
        str(path.relative_to(CHECKOUT)): len(path.read_text().splitlines())
        for path in (CHECKOUT / "respin").rglob("*.py")
    }
    assert len(lengths) > 50
    assert {path: length for path, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_every_shell_script_parses() -> None:
    found = scripts()
    assert {path.name for path in found} >= {"setup.sh", "quickstart", "run", "installer"}
    for path in found:
        assert not complaints("bash", "-n", str(path))
