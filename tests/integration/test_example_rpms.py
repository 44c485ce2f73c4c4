"""The examples' RPMs build from a checkout whose path has a space in it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import List

import pytest

from tests.support.quickstart import CHECKOUT

EXAMPLES = CHECKOUT / "examples"
RELEASE = "6.1.0-1-amd64"


@pytest.fixture
def spaced(tmp_path: Path) -> Path:
    """A copy of what is needed of examples/."""
    examples = tmp_path / "my nodes" / "examples"
    for part in ("node/files", "node/rpm", "plugin-agent", "plugin-exnic"):
        shutil.copytree(EXAMPLES / part, examples / part, symlinks=True)
    shutil.copy(EXAMPLES / "build-rpm", examples)
    tree = examples / "tree"
    (tree / "lib" / "modules" / RELEASE / "kernel").mkdir(parents=True)
    (tree / "lib" / "modules" / RELEASE / "kernel" / "some.ko").write_bytes(b"module")
    (tree / "boot").mkdir()
    (tree / "boot" / f"System.map-{RELEASE}").write_bytes(b"map")
    return examples


@pytest.mark.parametrize(
    ("spec", "macros", "count"),
    [
        ("plugin-agent/example-agent.spec", ["plugin={}/plugin-agent"], 1),
        (
            "plugin-exnic/kmod-exnic.spec",
            ["plugin={}/plugin-exnic", "module={}/tree/lib/modules/" + RELEASE + "/kernel/some.ko"],
            1,
        ),
        ("node/rpm/example-node.spec", ["node_files={}/node/files", "node_version=1.0", "node_release=1"], 4),
        ("node/rpm/kernel.spec", ["kernel_tree={}/tree", "kernel_version=6.1.1", "node_release=1"], 1),
    ],
)
def test_a_space_in_the_path_does_no_harm(
    spaced: Path, tmp_path: Path, spec: str, macros: List[str], count: int
) -> None:
    out = tmp_path / "some rpms"
    out.mkdir()
    given = [macro.format(spaced) for macro in macros] + [f"kernel_release={RELEASE}"]
    done = subprocess.run(
        [spaced / "build-rpm", spaced / spec, out, *given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(out.glob("*.rpm"))) == count
