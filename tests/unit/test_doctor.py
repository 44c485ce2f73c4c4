"""respin doctor: it asks for every program that respin runs, and says how to get what is missing."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator

import pytest

import respin
from respin import doctor, process

SOURCES = sorted(Path(respin.__file__).parent.rglob("*.py"))


def programs_run(source: Path) -> Iterator[str]:
    """The names of programs in calls like process.run(["rpm", ...]) and process.find("gpg")."""
    for node in ast.walk(ast.parse(source.read_text())):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func) in ("process.run", "process.find")):
            continue
        first = node.args[0]
        if isinstance(first, ast.List):
            first = first.elts[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


def test_doctor_asks_for_every_program_that_respin_runs() -> None:
    needed = {name for source in SOURCES for name in programs_run(source)}
    assert {"gpg", "rpm", "depmod", "fuse2fs", "squashfuse_ll"} <= needed  # the search finds what it should
    assert needed <= {check.name for check in doctor.examine()}


@pytest.mark.parametrize("program", ["rpm", "depmod", "gpgconf"])
def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    """A machine that has everything but one program cannot build."""
    for name in (*doctor.PROGRAMS, "fuse2fs", "debugfs", "e2fsck", "resize2fs", "newuidmap", "newgidmap"):
        if name != program:
            (tmp_path / name).symlink_to(process.find(name))
    monkeypatch.setattr(process, "SEARCH_PATH", str(tmp_path))
    assert doctor.ways(doctor.examine()) == ()
    (missing,) = [check for check in doctor.examine() if check.name == program]
    assert not missing.ok
    assert missing.detail == "not installed"
    package = {"rpm": "rpm", "depmod": "kmod", "gpgconf": "gpgconf"}[program]
    assert f"apt install {package};" in missing.remedy
