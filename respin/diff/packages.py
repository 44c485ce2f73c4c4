"""The packages that two RPM databases record: added, removed, and those of another version or another build."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from respin import sbom
from respin.diff.model import Difference, Facts, Section
from respin.errors import UnsupportedError
from respin.formats.rpmfile import PackageInfo
from respin.node.image import ReadableNode


def compare_packages(old: ReadableNode, new: ReadableNode, scratch: Path) -> Section:
    """Compare by name and architecture; ``scratch`` is a private directory. Several versions may be installed."""
    try:
        mine, theirs = (_by_name(sbom.packages(node, scratch)) for node in (old, new))
    except UnsupportedError as error:
        return Section("packages", (), str(error))
    found: List[Difference] = []
    for name in sorted({*mine, *theirs}):
        found += _pairs(name, mine.get(name, []), theirs.get(name, []))
    return Section("packages", tuple(found))


def evr(facts: Facts) -> str:
    """``[epoch:]version-release`` of a package's facts."""
    epoch = "" if facts["epoch"] is None else f"{facts['epoch']}:"
    return f"{epoch}{facts['version']}-{facts['release']}"


def _by_name(headers: Sequence[PackageInfo]) -> Dict[str, List[Facts]]:
    found: Dict[str, List[Facts]] = {}
    for header in headers:
        facts = {
            "epoch": header.epoch,
            "version": header.version,
            "release": header.release,
            "header_sha256": header.sha256,
        }
        found.setdefault(f"{header.name}.{header.arch}", []).append(facts)
    return found


def _pairs(name: str, old: List[Facts], new: List[Facts]) -> List[Difference]:
    """What is on both sides goes; then what has the same version; one that is left of each is another version."""
    gone = [facts for facts in old if facts not in new]
    come = [facts for facts in new if facts not in old]
    pairs: List[Tuple[Optional[Facts], Optional[Facts]]] = []
    for facts in list(gone):
        twin = next((other for other in come if evr(other) == evr(facts)), None)
        if twin is not None:
            pairs.append((facts, twin))
            gone.remove(facts)
            come.remove(twin)
    if len(gone) == len(come) == 1:
        pairs.append((gone.pop(), come.pop()))
    pairs += [(facts, None) for facts in gone] + [(None, facts) for facts in come]
    return [Difference(name, before, after) for before, after in pairs]
