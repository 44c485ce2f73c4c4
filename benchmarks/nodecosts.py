"""What respin costs on one Node: build, verify and restore beside cp and one pass of SHA-256, the best of some runs."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Union

import bignode
from measuring import Cost, measure

SHA256 = """
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as stream:
    while piece := stream.read(1 << 20):
        digest.update(piece)
print(digest.hexdigest())
"""
OWN_COMPRESSION = ("compressing the changed blocks", "adding the changes to the root image")


@dataclass(frozen=True)
class NodeCosts:
    """The costs by program, and the seconds of the steps that build and verify show."""

    costs: Dict[str, Cost]
    own_compression: float
    build_steps: Dict[str, float]
    verify_steps: Dict[str, float]

    @property
    def ratios(self) -> Dict[str, float]:
        """Against copying and hashing."""
        costs = self.costs
        one_pass = costs["cp"].wall + costs["sha256"].wall
        build = costs["respin build"].wall - self.own_compression
        verify_limit = 2.5 * costs["sha256"].wall + 5
        return {
            "build_without_own_compression / (cp + sha256)": round(build / one_pass, 2),
            "verify / (2.5 sha256 + 5 s)": round(costs["respin verify"].wall / verify_limit, 2),
            "restore / (cp + sha256)": round(costs["respin restore"].wall / one_pass, 2),
        }

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {
            "costs": {name: cost.to_json() for name, cost in self.costs.items()},
            "own_compression_wall": self.own_compression,
            "ratios": self.ratios,
            "build_steps": self.build_steps,
            "verify_steps": self.verify_steps,
        }


def measure_node(
    respin: Path, world: Path, work: Path, iso: Path, key: str, bundles: Sequence[Path], repeat: int
) -> NodeCosts:
    """Measure on ``iso``; ``key`` signs the statements. What is restored must be the vendor's ISO, bit for bit.

    Each of ``repeat`` rounds measures everything once: a machine that becomes slower meanwhile does so for all.
    """
    log, copy, output, stock = work / "log", work / "copy.iso", work / "respun.iso", work / "stock.iso"
    plugins = [argument for bundle in bundles for argument in ("--plugin", bundle)]
    base = ("--base", iso, "--base-checksum", f"{iso}.CHECKSUM", "--trust", world / "trust")
    sign = ("--sign-key", key, "--gnupg-home", world / "gnupg")
    build = (respin, "build", *base, *plugins, *sign, "-o", output, "--force")
    programs: Dict[str, Sequence[Union[str, Path]]] = {
        "cp": ("sh", "-c", 'cp "$0" "$1" && sync "$1"', iso, copy),
        "sha256": (sys.executable, "-c", SHA256, iso),
        "respin build": build,
        "respin verify": (respin, "verify", output, "--trust", world / "trust"),
        "respin restore": (respin, "restore", output, "-o", stock, "--force"),
    }
    rounds: Dict[str, List[Cost]] = {name: [] for name in programs}
    steps: Dict[str, List[Dict[str, float]]] = {name: [] for name in programs}
    _warm(iso)
    for _ in range(repeat):
        for name, program in programs.items():
            rounds[name].append(measure(program, log=log))
            steps[name].append(_steps(log))
    costs = {name: min(found, key=lambda cost: cost.wall) for name, found in rounds.items()}
    best = {name: steps[name][rounds[name].index(cost)] for name, cost in costs.items()}
    if (stock.stat().st_size, bignode.run("cmp", iso, stock, accept=1)) != (iso.stat().st_size, b""):
        raise SystemExit("what was restored is not the vendor's ISO")
    for path in (copy, stock, *work.glob(f"{output.name}*")):
        path.unlink()
    own = sum(best["respin build"].get(title, 0.0) for title in OWN_COMPRESSION)
    return NodeCosts(costs, own, best["respin build"], best["respin verify"])


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
