"""Measure how the cost of a respin grows with the Node's size, the plugin's size and the number of inodes.

Nodes of several sizes, nested and flat, packed with gzip, xz and zstd. All are made first, and kept until everything is
measured: packing takes most of the time and may share the machine with other work, measuring may not. Every measured
point is written at once to growth.json in the working directory; started again, the program goes on with what is
missing.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import bignode
import plugins
from bignode import MiB
from measuring import measure
from nodecosts import measure_node

SCHEMA = "respin.growth/1"
ROOTS = ("nested", "flat")
# Seconds on two slow idle cores for each GB of a root: making and packing it, and one measured round.
_PACK = {"gzip": 35, "zstd": 120, "xz": 330}
_MAKE, _ROUND = 60, 12
_NODE_SECONDS, _ROUND_SECONDS = 12, 12  # whatever the size


@dataclass(frozen=True)
class Point:
    """A Node and a plugin: bytes in the root beside the example's, inodes (None: as they come), MiB of plugin (0: the
    example's two)."""

    root: str
    compressor: str
    size: int
    inodes: Optional[int] = None
    plugin: int = 0

    @property
    def key(self) -> str:
        """Its name in the results."""
        return f"{self.node}-plugin{self.plugin}"

    @property
    def shape(self) -> bignode.Shape:
        """The root to make."""
        return bignode.Shape(self.size, self.inodes, 768 * MiB)

    @property
    def node(self) -> str:
        """The name of the Node that it is measured on."""
        return f"{self.root}-{self.compressor}-{self.size // MiB}MiB-{self.inodes or 'some'}"

    def seconds(self, repeat: int) -> float:
        """About how long it takes to measure, the Node being there."""
        each = _ROUND_SECONDS + _ROUND * self.gigabytes + self.plugin / 4 + (self.inodes or 0) / 12_000
        return repeat * each

    @property
    def gigabytes(self) -> float:
        """What is in the root."""
        return self.size / 1e9 + 0.25


@dataclass(frozen=True)
class Series:
    """What is measured: sizes of roots by compressor, plugins at one size, counts of inodes at one size."""

    sizes: Tuple[int, ...]
    compressors: Dict[str, Tuple[int, ...]]
    plugins: Tuple[int, ...]
    plugin_size: int
    inodes: Tuple[int, ...]
    inode_size: int
    repeat: int

    def points(self, roots: Tuple[str, ...]) -> List[Point]:
        """Every point once; those that share a root or a whole Node stand together."""
        found: Dict[Point, None] = {}
        for size in self.sizes:
            for root in roots:
                for compressor, sizes in self.compressors.items():
                    if size in sizes:
                        found[Point(root, compressor, size)] = None
                    if (compressor, size) == ("gzip", self.plugin_size):
                        found.update((Point(root, "gzip", size, None, plugin), None) for plugin in self.plugins)
        for inodes in self.inodes:
            found.update((Point(root, "gzip", self.inode_size, inodes), None) for root in roots)
        return list(found)


# The example's own root has about 0.2 GB in it; with these beside it the roots have 0.25, 1 and 4 GB.
_FULL_SIZES = (50 * MiB, 770 * MiB, 3640 * MiB)
FULL = Series(
    sizes=_FULL_SIZES,
    compressors={name: _FULL_SIZES for name in bignode.COMPRESSORS},
    plugins=(1, 8, 64, 256),
    plugin_size=770 * MiB,
    inodes=(2_000, 30_000, 130_000),
    inode_size=1600 * MiB,
    repeat=3,
)
QUICK = Series(
    sizes=(0, 200 * MiB),
    compressors={"gzip": (0, 200 * MiB), "xz": (0,), "zstd": (0,)},
    plugins=(1, 16),
    plugin_size=0,
    inodes=(1_000, 10_000),
    inode_size=50 * MiB,
    repeat=1,
)


def main() -> None:
    """Parse, measure what is missing, print the table, draw the plot."""
    arguments = _arguments()
    series = QUICK if arguments.quick else FULL
    roots = ROOTS if os.geteuid() == 0 else ROOTS[:1]
    points = series.points(roots)
    target = arguments.dir.resolve() / ("growth-quick.json" if arguments.quick else "growth.json")
    results = json.loads(target.read_text("utf-8")) if target.exists() else _empty()
    missing = [point for point in points if point.key not in results["points"]]
    print(f"{len(missing)} of {len(points)} points are missing: about {_said(estimate(missing, series.repeat))}")
    if arguments.estimate:
        return
    if len(roots) < len(ROOTS):
        print("Flat roots are left out: only root can make one with its owners.")
    _measure_all(arguments, series.repeat, missing, results, target)
    if arguments.prepare:
        return
    print(table(points, results))
    plot = arguments.plot or target.with_suffix(".svg")
    import drawing

    drawing.draw(series, roots, results, plot)
    print(f"\nWritten: {target}, {plot}")


def estimate(points: List[Point], repeat: int) -> float:
    """About how many seconds they take on two slow idle cores."""
    seconds = sum(point.seconds(repeat) for point in points)
    for _root, shape in {(point.root, point.shape) for point in points}:
        seconds += _MAKE * shape.size / 1e9 + (shape.inodes or 0) / 2000
    for point in {point.node: point for point in points}.values():
        seconds += _NODE_SECONDS + _PACK[point.compressor] * point.gigabytes
    return seconds


def table(points: List[Point], results: Dict[str, Any]) -> str:
    """All points in Markdown."""
    lines = [
        "| root | packed | ISO MB | inodes | plugin | build s | verify s | restore s"
        " | build / (cp + sha256) | peak MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for point in points:
        one = results["points"].get(point.key)
        if one is None:
            continue
        cost = one["costs"]
        build, verify, restore = (cost[f"respin {name}"] for name in ("build", "verify", "restore"))
        ratio = build["wall"] / (cost["cp"]["wall"] + cost["sha256"]["wall"])
        peak = max(build["peak"], verify["peak"], restore["peak"]) / 1e6
        plugin = f"{point.plugin} MiB" if point.plugin else "example's"
        lines.append(
            f"| {point.root} | {point.compressor} | {one['iso_bytes'] / 1e6:.0f} | {one['inodes']} | {plugin}"
            f" | {build['wall']:.1f} | {verify['wall']:.1f} | {restore['wall']:.1f} | {ratio:.1f} | {peak:.0f} |"
        )
    return "\n".join(lines)


def _measure_all(
    arguments: argparse.Namespace, repeat: int, missing: List[Point], results: Dict[str, Any], target: Path
) -> None:
    directory = target.parent
    world = arguments.world or directory / "world"
    work, nodes = directory / "work", _Nodes(world, directory / "nodes")
    bignode.run("rm", "-rf", work)
    work.mkdir(parents=True)
    if arguments.world is None and missing and not (world / "node.iso").exists():
        measure((arguments.checkout / "examples/quickstart", "--dir", world), log=work / "quickstart.log")
    nodes.make(missing, work / "roots")
    if arguments.prepare:
        return
    started = time.monotonic()
    for number, point in enumerate(missing):
        results["points"][point.key] = _measure(arguments, world, work, nodes, point, repeat)
        partial = target.with_suffix(".new")
        partial.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
        partial.replace(target)
        speed = (time.monotonic() - started) / sum(one.seconds(repeat) for one in missing[: number + 1])
        left = sum(one.seconds(repeat) for one in missing[number + 1 :])
        print(f"{number + 1}/{len(missing)} {point.key}; about {_said(left * speed)} left", flush=True)
    bignode.run("rm", "-rf", work, directory / "nodes")


class _Nodes:
    """Nodes in a directory, each with its CHECKSUM and the number of inodes in its root."""

    def __init__(self, world: Path, directory: Path) -> None:
        self._world = world
        self._directory = directory

    def make(self, points: List[Point], work: Path) -> None:
        """Make what is missing, small ones first; roots that several Nodes share are made once."""
        wanted = {point.node: point for point in points if not self._facts(point).exists()}
        if not wanted:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        key = json.loads((self._world / "keys.json").read_text("ascii"))["base"]
        shape, roots = None, None
        for point in sorted(wanted.values(), key=lambda one: (one.size, one.inodes or 0, _PACK[one.compressor])):
            if roots is None or shape != point.shape:
                bignode.run("rm", "-rf", work)
                shape, roots = point.shape, bignode.Roots(self._world, work, point.shape)
            iso, inodes = roots.node("node.iso", key, point.root, point.compressor)
            place = self._place(point)
            place.mkdir(exist_ok=True)
            for made in (iso, iso.with_name("node.iso.CHECKSUM")):
                made.replace(place / made.name)
            self._facts(point).write_text(json.dumps({"inodes": inodes}), "ascii")  # the last: it is complete
            print(f"made: {point.node}", flush=True)
        bignode.run("rm", "-rf", work)

    def get(self, point: Point) -> Tuple[Path, int]:
        """The ISO for a point, and the number of inodes in its root."""
        return self._place(point) / "node.iso", json.loads(self._facts(point).read_text("ascii"))["inodes"]

    def _place(self, point: Point) -> Path:
        return self._directory / point.node

    def _facts(self, point: Point) -> Path:
        return self._place(point) / "facts.json"


def _measure(
    arguments: argparse.Namespace, world: Path, work: Path, nodes: _Nodes, point: Point, repeat: int
) -> Dict[str, Any]:
    keys = json.loads((world / "keys.json").read_text("ascii"))
    iso, inodes = nodes.get(point)
    if point.plugin:
        bundles = [plugins.make(arguments.checkout, world, work / "plugin", keys, point.plugin * MiB)]
    else:
        bundles = sorted((world / "plugins").glob("*.plugin.tar"))
    respin = arguments.checkout / ".venv/bin/respin"
    costs = measure_node(respin, world, work, iso, keys["respin"], bundles, repeat)
    return {
        "root": point.root,
        "compressor": point.compressor,
        "size": point.size,
        "inodes": inodes,
        "plugin_bytes": point.plugin * MiB,
        "iso_bytes": iso.stat().st_size,
        "load": round(os.getloadavg()[0], 1),
        "repeat": repeat,
        **costs.to_json(),
    }


def _empty() -> Dict[str, Any]:
    return {"schema": SCHEMA, "processors": os.cpu_count(), "points": {}}


def _said(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small Nodes, one round each: under ten minutes")
    parser.add_argument("--estimate", action="store_true", help="say how long it would take, and end")
    parser.add_argument("--dir", type=Path, default=Path("build/growth"), help="where to work (needs 45 GB; quick: 4)")
    parser.add_argument("--prepare", action="store_true", help="make the Nodes that are missing, and end")
    parser.add_argument("--world", type=Path, help="a directory that examples/quickstart has filled, to save its time")
    parser.add_argument("--plot", type=Path, help="where the plot goes (default: beside the results)")
    parser.add_argument("--checkout", type=Path, default=Path(__file__).resolve().parents[1], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
