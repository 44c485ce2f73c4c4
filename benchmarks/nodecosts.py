"""What respin costs on one Node: build, verify and restore beside cp and one pass of SHA-256, the best of some runs."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

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
    """Measure on ``iso``; ``key`` signs the statements. What is restored must be the vendor's ISO, bit for bit."""
    log, copy, output, stock = work / "log", work / "copy.iso", work / "respun.iso", work / "stock.iso"
    plugins = [argument for bundle in bundles for argument in ("--plugin", bundle)]
    base = ("--base", iso, "--base-checksum", f"{iso}.CHECKSUM", "--trust", world / "trust")
    sign = ("--sign-key", key, "--gnupg-home", world / "gnupg")
    build = (respin, "build", *base, *plugins, *sign, "-o", output, "--force")
    steps: List[Dict[str, float]] = []

    def best(make: Callable[[], Cost], steps_of: Optional[str] = None) -> Cost:
        costs = []
        for _ in range(repeat):
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
    own = min(sum(one.get(title, 0.0) for title in OWN_COMPRESSION) for one in steps)
    build_steps = steps[-1]
    verify = (respin, "verify", output, "--trust", world / "trust")
    costs["respin verify"] = best(lambda: measure(verify, log=log), "verify")
    costs["respin restore"] = best(lambda: measure((respin, "restore", output, "-o", stock, "--force"), log=log))
    if (stock.stat().st_size, bignode.run("cmp", iso, stock, accept=1)) != (iso.stat().st_size, b""):
        raise SystemExit("what was restored is not the vendor's ISO")
    for path in (stock, *work.glob(f"{output.name}*")):
        path.unlink()
    return NodeCosts(costs, own, build_steps, steps[-1])


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
