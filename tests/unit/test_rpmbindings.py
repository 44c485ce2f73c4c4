"""The rpm bindings are loaded from where they lie, and a stand-in is asked only when they can't be."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from respin import rpmbindings

CHECKOUT = Path(__file__).resolve().parents[2]
STAND_IN = "labelCompare = None\n"
LOAD = "import sys; sys.path[:] = sys.argv[1:]; from respin import rpmbindings; print(rpmbindings.load().__file__)"


def loaded_from(*path: str) -> Path:
    """Where the module comes from in a fresh interpreter that searches the given directories."""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", LOAD, *path], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def stand_in(tmp_path: Path) -> str:
    (tmp_path / "rpm").mkdir()
    (tmp_path / "rpm/__init__.py").write_text(STAND_IN, "ascii")
    return str(tmp_path)


def standard_library() -> "list[str]":
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import sys; print(*sys.path, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\n")[:-1]


def test_a_stand_in_is_not_run_where_the_bindings_are_known(tmp_path: Path) -> None:
    place = rpmbindings.directory()
    assert place is not None
    found = loaded_from(stand_in(tmp_path), str(CHECKOUT), *standard_library(), place)
    assert found == Path(place, "rpm/__init__.py")


def test_bindings_that_cannot_be_loaded_are_left_to_the_stand_in(tmp_path: Path) -> None:
    place = tmp_path / "broken"
    (place / "rpm").mkdir(parents=True)
    (place / "rpm/__init__.py").write_text("from rpm._rpm import *\n", "ascii")
    (place / f"rpm/_rpm{EXTENSION_SUFFIXES[0]}").touch()
    found = loaded_from(stand_in(tmp_path), str(CHECKOUT), *standard_library(), str(place))
    assert found == tmp_path / "rpm/__init__.py"
