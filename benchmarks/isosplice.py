"""Measure the ISO splice alone beside cp of its output and beside xorriso; prints a table and writes JSON."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Callable, Dict, List

from measuring import Cost, measure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support import layouts

HERE = Path(__file__).resolve().parent
MD5 = """
import hashlib, sys
with open(sys.argv[1], "rb") as stream:
    digest = hashlib.md5()
    while piece := stream.read(1 << 20):
        digest.update(piece)
"""
PAYLOAD = "/LiveOS/squashfs.img"
MIB = 1 << 20


def main() -> None:
    """Prepare, measure, print."""
    arguments = _arguments()
    work = arguments.dir.resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        base, new = _prepare(work, arguments)
        results = _measure(work, base, new, arguments.repeat)
    finally:
        if not arguments.keep:
            for path in (*work.glob("*.iso"), *work.glob("*.img")):
                path.unlink()
            shutil.rmtree(work / "tree", ignore_errors=True)
    unit = results["cp of the output"].wall
    document = {
        "schema": "respin.benchmark.isosplice/1",
        "layout": arguments.layout,
        "mib": arguments.mib,
        "files": arguments.files,
        "load": round(os.getloadavg()[0], 1),
        "costs": {name: cost.to_json() for name, cost in results.items()},
        "targets": {"splice": 1.3, "splice with the media check": 2.0, "peak MB of a splice": 100},
    }
    (work / "isosplice.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(f"{arguments.layout}, {arguments.mib} MiB, {arguments.files} further files, load {document['load']}\n")
    print(f"{'':30}{'wall s':>9}{'cpu s':>9}{'x cp':>9}{'peak MB':>9}")
    for name, cost in results.items():
        print(f"{name:30}{cost.wall:9.2f}{cost.cpu:9.2f}{cost.wall / unit:9.2f}{cost.peak / 1e6:9.0f}")


def _prepare(work: Path, arguments: argparse.Namespace) -> "tuple[Path, Path]":
    tree = layouts.make_tree(work, {f"Packages/package-{i:05}.rpm": f"package {i}\n" for i in range(arguments.files)})
    _fill(tree / PAYLOAD[1:], arguments.mib * MIB + 12_345, 1)
    base, new = work / "base.iso", work / "new.img"
    layouts.LAYOUTS[arguments.layout](tree, base, "BENCHMARK")
    shutil.rmtree(tree)
    _fill(new, arguments.mib * MIB * 105 // 100 + 777, 2)
    return base, new


def _fill(path: Path, size: int, seed: int) -> None:
    """Bytes that no file system stores as holes, cheaply: one random MiB, each time with another start."""
    block = random.Random(seed).randbytes(MIB)
    with path.open("wb") as stream:
        for number in range(-(-size // MIB)):
            stream.write((number.to_bytes(8, "big") + block[8:])[: size - number * MIB])


def _measure(work: Path, base: Path, new: Path, repeat: int) -> Dict[str, Cost]:
    out, copy, log = work / "out.iso", work / "copy.iso", work / "log"
    splice = (sys.executable, HERE / "splice.py", base, out, PAYLOAD, new)
    replay = ("xorriso", "-indev", base, "-outdev", copy, "-compliance", "iso_9660_level=1", "-padding", "0")
    replay += ("-update", new, PAYLOAD, "-map", log, "/respin.json", "-boot_image", "any", "replay", "-commit")
    copying = ("cp", "--reflink=never", "--sparse=never", out, copy)
    # What is published is on the disk, so what is measured ends there: sync(1) of the one file that was made.
    durable = ("sh", "-c", '"$@" && sync "$0"', copy)
    measure(splice, log=log)
    programs: Dict[str, Callable[[], Cost]] = {
        "cp of the output": lambda: measure((*durable, *copying), log=log),
        "one MD5 pass over it": lambda: measure((sys.executable, "-c", MD5, out), log=log),
        "splice": lambda: measure(splice, log=log),
        "splice with the media check": lambda: measure((*splice, "--digest"), log=log),
        "xorriso replay": lambda: measure((*durable, *replay), log=work / "xorriso.log"),
    }
    results: Dict[str, List[Cost]] = {name: [] for name in programs}
    for _ in range(repeat):
        for name, program in programs.items():
            (out if name.startswith("splice") else copy).unlink(missing_ok=True)
            results[name].append(program())
            if not out.exists():
                measure(splice, log=log)
    return {name: min(costs, key=lambda cost: cost.wall) for name, costs in results.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/iso", description=__doc__)
    parser.add_argument("--mib", type=int, default=1300, help="size of the root image (default: 1300)")
    parser.add_argument("--files", type=int, default=3000, help="how many further files the ISO holds (default: 3000)")
    parser.add_argument("--layout", choices=sorted(layouts.LAYOUTS), default="lorax-9")
    parser.add_argument("--dir", type=Path, default=Path("build/benchmark-iso"), help="where to work (four ISOs' room)")
    parser.add_argument("--repeat", type=int, default=3, help="how often each is measured; the best counts")
    parser.add_argument("--keep", action="store_true", help="keep the ISOs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
