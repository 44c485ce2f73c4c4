"""The plot of benchmarks/growth, from its own results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

import matplotlib

if TYPE_CHECKING:
    from growth import Series

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "respin", "svg.fonttype": "none", "font.size": 9, "legend.fontsize": 7})

_COLOURS = {"nested": "tab:blue", "flat": "tab:orange"}
_STYLES = {"gzip": "-", "zstd": "--", "xz": ":"}
_PEAK = ("respin build", "respin verify", "respin restore")

Found = Dict[str, Any]
Values = List[Tuple[float, float]]


def draw(series: "Series", roots: Tuple[str, ...], results: Found, output: Path) -> None:
    """Write an SVG with four panels: by the Node's size, by the plugin's, by inodes, and memory."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    points = results["points"]
    by_size, by_plugin, by_inodes, memory = axes.flat
    all_points = series.points(roots)

    for root in roots:
        for compressor in series.compressors:
            chosen = [
                points[point.key]
                for point in all_points
                if (point.root, point.compressor, point.inodes, point.plugin) == (root, compressor, None, 0)
                and point.key in points
            ]
            look = {"color": _COLOURS[root], "linestyle": _STYLES[compressor], "marker": "o", "markersize": 3}
            label = f"{root}, {compressor}"
            _line(by_size, chosen, _megabytes, _wall("respin build"), label=f"build, {label}", **look)
            _line(
                memory,
                chosen,
                _megabytes,
                lambda one: max(one["costs"][p]["peak"] for p in _PEAK) / 1e6,
                label=label,
                **look,
            )
            if compressor == "gzip":
                grey = {"color": "grey" if root == "nested" else "silver", "marker": "x", "markersize": 3}
                _line(by_size, chosen, _megabytes, _one_pass, label=f"cp + sha256, {root}", **grey)
        look = {"color": _COLOURS[root], "marker": "o", "markersize": 3}
        gzip = [
            point for point in all_points if (point.root, point.compressor) == (root, "gzip") and point.key in points
        ]
        plugins = [points[one.key] for one in gzip if one.plugin]
        _both(by_plugin, plugins, lambda one: one["plugin_bytes"] / 1e6, root, look)
        inodes = [points[one.key] for one in gzip if one.inodes]
        _both(by_inodes, inodes, lambda one: one["inodes"], root, look)

    for panel, title, x, y in (
        (by_size, "The Node's size, with the example's two plugins", "ISO, MB", "s"),
        (by_plugin, "The plugin's size, on one Node, gzip", "plugin's file, MB", "s"),
        (by_inodes, "The number of inodes, in roots of about the same size, gzip", "inodes", "s"),
        (memory, "Peak memory of build, verify and restore", "ISO, MB", "MB"),
    ):
        panel.set(title=title, xlabel=x, ylabel=y)
        panel.set_xlim(left=0)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend()
    loads = [one["load"] for one in points.values()]
    repeat = max((one["repeat"] for one in points.values()), default=0)
    figure.suptitle(
        f"{results['processors']} processors, load {min(loads, default=0)} to {max(loads, default=0)}, best of {repeat}"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def _both(panel: Any, found: List[Found], x: Callable[[Found], float], root: str, look: Dict[str, Any]) -> None:
    _line(panel, found, x, _wall("respin build"), label=f"build, {root}", **look)
    _line(panel, found, x, _wall("respin verify"), label=f"verify, {root}", linestyle="--", **look)


def _line(
    panel: Any, found: List[Found], x: Callable[[Found], float], y: Callable[[Found], float], **look: Any
) -> None:
    values: Values = sorted((x(one), y(one)) for one in found)
    if values:
        panel.plot([at for at, _ in values], [value for _, value in values], **look)


def _megabytes(one: Found) -> float:
    return float(one["iso_bytes"]) / 1e6


def _wall(program: str) -> Callable[[Found], float]:
    return lambda one: float(one["costs"][program]["wall"])


def _one_pass(one: Found) -> float:
    return float(one["costs"]["cp"]["wall"] + one["costs"]["sha256"]["wall"])
