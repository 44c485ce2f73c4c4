"""The benchmark that measures growth: its points, and the plot and table that it makes of its own results."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator
from xml.etree import ElementTree

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The program as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import growth

    yield growth
    for name in ("growth", "bignode", "running", "recorded", "plugins", "measuring", "nodecosts", "drawing"):
        sys.modules.pop(name, None)


def result(point: Any) -> Dict[str, Any]:
    """What a measurement of a point might be."""
    programs = ("cp", "sha256", "respin build", "respin verify", "respin restore")
    return {
        "iso_bytes": 80_000_000 + point.size // 3,
        "inodes": point.inodes or 3000,
        "plugin_bytes": point.plugin << 20,
        "load": 0.5,
        "repeat": 3,
        "costs": {name: {"wall": 1.5, "cpu": 1.0, "peak": 100_000_000} for name in programs},
    }


def test_what_is_measured(growth: Any) -> None:
    """Roots of 0.25, 1 and 4 GB, nested and flat, by three methods; plugins and inodes on one Node each."""
    points = growth.FULL.points(growth.ROOTS)
    assert len({point.key for point in points}) == len(points)
    matrix = [point for point in points if not point.plugin and point.inodes is None]
    assert len(matrix) == 3 * 2 * 3
    assert {one.compressor for one in matrix} == {"gzip", "xz", "zstd"}
    assert [round(size * 1e-9 + 0.2, 1) for size in growth.FULL.sizes] == [0.3, 1.0, 4.0]
    for root in growth.ROOTS:
        assert len({one.plugin for one in points if one.root == root and one.plugin}) >= 3
        assert max(one.inodes or 0 for one in points if one.root == root) == 130_000
    assert growth.estimate(growth.QUICK.points(growth.ROOTS), 1) < growth.estimate(points, 3) / 10


def test_points_on_one_node_follow_each_other(growth: Any) -> None:
    """Only the last Node is kept, so each is made once."""
    nodes = [point.node for point in growth.FULL.points(growth.ROOTS)]
    changes = sum(1 for one, other in zip(nodes, nodes[1:]) if one != other)
    assert changes + 1 == len(set(nodes))


@pytest.mark.parametrize("missing", [0, 3])
def test_the_table_has_what_is_there(growth: Any, missing: int) -> None:
    points = growth.QUICK.points(growth.ROOTS)
    results = {"points": {point.key: result(point) for point in points[missing:]}}
    assert growth.table(points, results).count("\n| ") == len(points) - missing


def test_finished_results_are_only_drawn(growth: Any, tmp_path: Path) -> None:
    """And drawn to the same bytes each time."""
    pytest.importorskip("matplotlib")
    points = growth.QUICK.points(growth.ROOTS)
    results = {"schema": growth.SCHEMA, "processors": 2, "points": {point.key: result(point) for point in points}}
    (tmp_path / "growth-quick.json").write_text(json.dumps(results))
    line = [sys.executable, str(BENCHMARKS / "growth.py"), "--quick", "--dir", str(tmp_path)]
    plots = []
    for name in ("one.svg", "two.svg"):
        done = subprocess.run([*line, "--plot", tmp_path / name], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert re.match(r"0 of \d+ points are missing", done.stdout)
        plots.append((tmp_path / name).read_bytes())
    assert plots[0] == plots[1]
    words = "".join(ElementTree.fromstring(plots[0].decode()).itertext())
    for title in ("The Node's size", "The plugin's size", "The number of inodes", "Peak memory", "best of 3"):
        assert title in words
