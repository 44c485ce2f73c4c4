"""The house rules that a program can check: style, types, layers, length, and what must not stand in the tree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], ["lint-imports"]], ids=" ".join
)
def test_the_tree_is_clean(command: List[str]) -> None:
    if not (BIN / command[0]).exists():
        pytest.skip(f"{command[0]} is not installed; the extra lint brings it")
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_is_longer_than_300_lines() -> None:
    long = {
        str(path.relative_to(CHECKOUT)): lines
        for path in (CHECKOUT / "respin").rglob("*.py")
        if (lines := len(path.read_text("utf-8").splitlines())) > 300
    }
    assert long == {}


def test_nothing_is_left_open_in_the_code() -> None:
    left = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    found = [
        f"{path.relative_to(CHECKOUT)}:{number}"
        for directory in ("respin", "examples")
        for path in (CHECKOUT / directory).rglob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if left.search(line)
    ]
    assert found == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "respin").rglob("*.py")
        if not path.read_text("utf-8").startswith('"""')
    ]
    assert silent == []


@pytest.mark.parametrize("document", [*sorted(CHECKOUT.glob("docs/**/*.md")), CHECKOUT / "README.md"], ids=str)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target
