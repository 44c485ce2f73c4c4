"""Measure respin against cp, sha256 and the usual tools, on one Node in one run; prints a table and writes JSON."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import bignode
from measuring import measure
from nodecosts import measure_node
from peers import pipeline

SHAPES = {"SMALL": bignode.Shape(), "REAL": bignode.REAL, "MANY": bignode.MANY}


def main() -> None:
    """Parse, prepare, measure, print."""
    arguments = _arguments()
    directory = arguments.dir.resolve()
    name = f"{arguments.size.lower()}-{arguments.root}-{arguments.compressor}"
    name += f"-{arguments.packages}" if arguments.packages else ""
    shape = replace(SHAPES[arguments.size], packages=arguments.packages)
    world, work = arguments.world or directory / "world", directory / f"work-{name}"
    iso, note = work / "node/node.iso", work / "made.json"
    try:
        if not note.exists():
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            if arguments.world is None:
                quickstart = arguments.checkout / "examples/quickstart"
                measure((quickstart, "--dir", world), log=work / "quickstart.log")
            roots = bignode.Roots(world, work / "node", shape)
            _, inodes = roots.node(iso.name, _keys(world)["base"], arguments.root, arguments.compressor)
            note.write_text(json.dumps({"inodes": inodes}))
        if arguments.prepare:
            arguments.keep = True
            print(f"Made: {iso}")
            return
        made = json.loads(note.read_text())
        results = {**_measure(arguments, world, work, iso, _keys(world)["respin"]), **made}
    finally:
        if not arguments.keep:
            shutil.rmtree(work)
    target = directory / f"benchmark-{name}.json"
    target.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    print(_table(results))
    print(f"\nWritten: {target}")


def _keys(world: Path) -> Dict[str, str]:
    """Role -> fingerprint."""
    found: Dict[str, str] = json.loads((world / "keys.json").read_text("ascii"))
    return found


def _measure(arguments: argparse.Namespace, world: Path, work: Path, iso: Path, key: str) -> Dict[str, Any]:
    bundles = sorted((world / "plugins").glob("*.plugin.tar"))
    respin = arguments.checkout / ".venv/bin/respin"
    costs = measure_node(respin, world, work, iso, key, bundles, arguments.repeat)
    peers = None
    if os.geteuid() == 0 and not arguments.no_peers:
        peers = pipeline(iso, bundles, work / "peers", arguments.root, arguments.compressor)
    ratios = dict(costs.ratios)
    if peers:
        ratios["peers / build"] = round(peers["total"].wall / costs.costs["respin build"].wall, 2)
    return {
        "schema": "respin.benchmark/1",
        "size": arguments.size,
        "root": arguments.root,
        "packages": arguments.packages,
        "compressor": arguments.compressor,
        "iso_bytes": iso.stat().st_size,
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        **costs.to_json(),
        "ratios": ratios,
        "peers": {name: cost.to_json() for name, cost in peers.items()} if peers else None,
    }


def _table(results: Dict[str, Any]) -> str:
    unit = results["costs"]["cp"]["wall"] + results["costs"]["sha256"]["wall"]
    lines = [
        f"{results['size']} Node, {results['root']} root, {results['inodes']} inodes, {results['compressor']},"
        f" {results['packages']} packages more in its RPM database,"
        f" {results['iso_bytes'] / 1e6:.0f} MB;"
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
    parser.add_argument("--size", choices=tuple(SHAPES), default="SMALL", help="SMALL: the example Node as it is")
    parser.add_argument("--root", choices=("nested", "flat"), default="nested", help="flat: only as root")
    parser.add_argument("--compressor", choices=tuple(bignode.COMPRESSORS), default="gzip", help="of the root image")
    parser.add_argument("--packages", type=int, default=0, help="more of them in the RPM database, with 100 files each")
    parser.add_argument("--dir", type=Path, default=Path("build/benchmark"), help="where to work (REAL needs 12 GB)")
    parser.add_argument("--world", type=Path, help="a directory that examples/quickstart has filled, to save its time")
    parser.add_argument("--repeat", type=int, default=3, help="how often each is measured; the best counts")
    parser.add_argument("--no-peers", action="store_true", help="leave the usual tools out")
    parser.add_argument("--keep", action="store_true", help="keep the ISOs; the next run measures on the same Node")
    parser.add_argument("--prepare", action="store_true", help="only make the Node, and keep it")
    parser.add_argument("--checkout", type=Path, default=Path(__file__).resolve().parents[1], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
