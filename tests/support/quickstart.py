"""The world that examples/quickstart makes, as fixtures: a conftest that needs one imports it from here.

It lives in build/test-world, with a flat root in build/test-world-flat, and keeps its keys from run to run, so that the
Node comes from the cache.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DIRECTORY = CHECKOUT / "build" / "test-world"
FLAT = CHECKOUT / "build" / "test-world-flat"


@dataclass(frozen=True)
class ExampleNode:
    """The stock Node and its vendor."""

    directory: Path

    @property
    def iso(self) -> Path:
        return self.directory / "node.iso"

    @property
    def checksum(self) -> Path:
        return self.directory / "node.iso.CHECKSUM"

    @property
    def trust(self) -> Path:
        return self.directory / "trust"

    @property
    def gnupg(self) -> Path:
        return self.directory / "gnupg"

    @property
    def keys(self) -> Dict[str, str]:
        """Role -> fingerprint."""
        found: Dict[str, str] = json.loads((self.directory / "keys.json").read_text())
        return found


@dataclass(frozen=True)
class Quickstart(ExampleNode):
    """All that the quickstart leaves behind, and what it said."""

    transcript: str

    @property
    def respun(self) -> Path:
        return self.directory / "respun.iso"

    @property
    def plugins(self) -> Path:
        return self.directory / "plugins"


@functools.cache
def _run(directory: Path, *options: str) -> str:
    command = [str(CHECKOUT / "examples" / "quickstart"), "--dir", str(directory), *options]
    # A caller may have temporary files where the Node's root has no directory.
    with tempfile.TemporaryDirectory(prefix="respin-") as temporary:
        done = subprocess.run(
            command,
            env={**os.environ, "TMPDIR": temporary},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if done.returncode:
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}", pytrace=False)
    return done.stdout


@pytest.fixture(scope="session")
def example_node() -> ExampleNode:
    """The stock example Node and its vendor's keys."""
    _run(DIRECTORY, "--only-node")
    return ExampleNode(DIRECTORY)


@pytest.fixture(scope="session")
def flat_node() -> ExampleNode:
    """The same with a flat root."""
    _run(FLAT, "--flat", "--only-node")
    return ExampleNode(FLAT)


@pytest.fixture(scope="session")
def quickstart() -> Quickstart:
    """The example Node, its plugins and the respun ISO."""
    return Quickstart(DIRECTORY, _run(DIRECTORY))


@pytest.fixture(scope="session")
def flat_quickstart() -> Quickstart:
    """The same with a flat root."""
    return Quickstart(FLAT, _run(FLAT, "--flat"))
