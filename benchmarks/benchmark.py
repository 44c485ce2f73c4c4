"""Measure respin against cp, sha256 and the usual tools, on one Node in one run; prints a table and writes JSON."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import bignode
from measuring import Cost, measure
from peers import pipeline

SHA256 = """
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as stream:
    while piece := stream.read(1 << 20):
        digest.update(piece)
print(digest.hexdigest())
"""


def main() -> None:
    """Parse, prepare, measure, print."""
    arguments = _arguments()
    directory = arguments.dir.resolve()
    world, work = arguments.world or directory / "world", directory / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    if arguments.world is None:
        quickstart = arguments.checkout / "examples/quickstart"
        measure((quickstart, "--dir", world), log=work / "quickstart.log")
    keys = json.loads((world / "keys.json").read_text("ascii"))
    try:
        large = arguments.size == "REAL"
        iso = bignode.make(world, work, "node.iso", keys["base"], arguments.compressor, large=large)
        results = _measure(arguments, world, work, iso, keys["respin"])
    finally:
        if not arguments.keep:
            shutil.rmtree(work)
    target = directory / f"benchmark-{arguments.size.lower()}-{arguments.compressor}.json"
    target.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    print(_table(results))
    print(f"\nWritten: {target}")


def _measure(arguments: argparse.Namespace, world: Path, work: Path, iso: Path, key: str) -> Dict[str, Any]:
    respin = arguments.checkout / ".venv/bin/respin"
    bundles = sorted((world / "plugins").glob("*.plugin.tar"))
    log, copy, output, stock = work / "log", work / "copy.iso", work / "respun.iso", work / "stock.iso"
    plugins = [argument for bundle in bundles for argument in ("--plugin", bundle)]
    base = ("--base", iso, "--base-checksum", f"{iso}.CHECKSUM", "--trust", world / "trust")
    sign = ("--sign-key", key, "--gnupg-home", world / "gnupg")
    build = (respin, "build", *base, *plugins, *sign, "-o", output, "--force")
    steps: List[Dict[str, float]] = []

    def best(make: Callable[[], Cost], steps_of: Optional[str] = None) -> Cost:
        costs = []
        for _ in range(arguments.repeat):
            costs.append(make())
            if steps_of:
                steps.append(_steps(log))
        return min(costs, key=lambda cost: cost.wall)

    _warm(iso)
    costs = {
        "cp": best(lambda: measure(("sh", "-c", 'cp "$0" "$1" && sync "$1"', iso, copy), log=log)),
        "sha256": best(lambda: measure((sys.executable, "-c", SHA256, iso), log=log)),
        "respin build": best(lambda: measure(build, log=log), "build"),
    }
    copy.unlink()
    own = min(one.get("compressing the changed blocks", 0.0) for one in steps)
    build_steps = steps[-1]
    costs["respin verify"] = best(
        lambda: measure((respin, "verify", output, "--trust", world / "trust"), log=log), "verify"
    )
    costs["respin restore"] = best(lambda: measure((respin, "restore", output, "-o", stock, "--force"), log=log))
    if (stock.stat().st_size, bignode.run("cmp", iso, stock, accept=1)) != (iso.stat().st_size, b""):
        raise SystemExit("what was restored is not the vendor's ISO")
    peers = None
    if os.geteuid() == 0 and not arguments.no_peers:
        peers = pipeline(iso, bundles, work / "peers", arguments.compressor)
    one_pass = costs["cp"].wall + costs["sha256"].wall
    verify_limit = 2.5 * costs["sha256"].wall + 5
    return {
        "schema": "respin.benchmark/1",
        "size": arguments.size,
        "compressor": arguments.compressor,
        "iso_bytes": iso.stat().st_size,
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "costs": {name: cost.to_json() for name, cost in costs.items()},
        "own_compression_wall": own,
        "ratios": {
            "build_without_own_compression / (cp + sha256)": round((costs["respin build"].wall - own) / one_pass, 2),
            "verify / (2.5 sha256 + 5 s)": round(costs["respin verify"].wall / verify_limit, 2),
            "restore / (cp + sha256)": round(costs["respin restore"].wall / one_pass, 2),
            **({"peers / build": round(peers["total"].wall / costs["respin build"].wall, 2)} if peers else {}),
        },
        "build_steps": build_steps,
        "verify_steps": steps[-1],
        "peers": {name: cost.to_json() for name, cost in peers.items()} if peers else None,
    }


def _steps(log: Path) -> Dict[str, float]:
    """The steps that respin shows as it goes, in seconds."""
    found: Dict[str, float] = {}
    for title, seconds in re.findall(r"^  (.+): ([0-9.]+) s$", log.read_text("utf-8"), re.MULTILINE):
        found[title] = found.get(title, 0.0) + float(seconds)
    return found


def _warm(path: Path) -> None:
    """Read the file once, so that everybody finds it in memory."""
    with path.open("rb") as stream:
        while stream.read(1 << 20):
            pass


def _table(results: Dict[str, Any]) -> str:
    unit = results["costs"]["cp"]["wall"] + results["costs"]["sha256"]["wall"]
    lines = [
        f"{results['size']} Node, {results['iso_bytes'] / 1e6:.0f} MB, {results['compressor']};"
        f" {results['processors']} processors, load {results['load']}",
        "",
        f"{'':24}{'wall s':>9}{'cpu s':>9}{'x (cp+sha256)':>15}{'peak MB':>9}",
    ]
    rows = dict(results["costs"])
    for name, cost in (results["peers"] or {}).items():
        rows[f"peers: {name}"] = cost
    for name, cost in rows.items():
        ratio = cost["wall"] / unit
        lines.append(f"{name:24}{cost['wall']:9.2f}{cost['cpu']:9.2f}{ratio:15.2f}{cost['peak'] / 1e6:9.0f}")
    if results["peers"] is None:
        lines.append("peers: not measured (root only, and a loop mount must be possible)")
    lines += ["", f"the plugin's own blocks were compressed in {results['own_compression_wall']:.1f} s of the build"]
    lines += [f"{name}: {ratio}" for name, ratio in results["ratios"].items()]
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run", description=__doc__)
    parser.add_argument("--size", choices=("SMALL", "REAL"), default="SMALL", help="SMALL: the example Node as it is")
    parser.add_argument("--compressor", choices=("gzip", "xz"), default="gzip", help="of the root image")
    parser.add_argument("--dir", type=Path, default=Path("build/benchmark"), help="where to work (REAL needs 12 GB)")
    parser.add_argument("--world", type=Path, help="a directory that examples/quickstart has filled, to save its time")
    parser.add_argument("--repeat", type=int, default=3, help="how often each is measured; the best counts")
    parser.add_argument("--no-peers", action="store_true", help="leave the usual tools out")
    parser.add_argument("--keep", action="store_true", help="keep the ISOs")
    parser.add_argument("--checkout", type=Path, default=Path(__file__).resolve().parents[1], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
