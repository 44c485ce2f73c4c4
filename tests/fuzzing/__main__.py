"""Fuzz the readers of root images: damaged images of every format are read in a child with limits.

Exit status 0: every image was read or refused by a typed error within 5 s and 512 MB; 1: there were failures, and
their images are kept.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path
from typing import List

from tests.fuzzing.campaign import Campaign, Subject, Tally, judge
from tests.fuzzing.formats import FORMATS, Format

_ROUND = 1000


def main() -> int:
    """Run what the command line asks for."""
    arguments = _arguments()
    formats = [kind for kind in FORMATS if re.search(arguments.only, kind.name)]
    if not formats:
        print(f"No format is called {arguments.only}.", file=sys.stderr)
        return 2
    if arguments.replay:
        return _replay(formats, arguments.replay)
    campaign = Campaign(formats, arguments.seed, arguments.failures)
    per_format = -(-arguments.count // len(formats))
    started = time.monotonic()
    for done in range(0, per_format, _ROUND):
        campaign.run(min(_ROUND, per_format - done), arguments.jobs, first=arguments.first + done)
        total = sum(tally.cases for tally in campaign.tallies.values())
        print(f"{total} images, {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(summary(campaign, time.monotonic() - started))
    return 1 if campaign.failures else 0


def summary(campaign: Campaign, seconds: float) -> str:
    """A table of the formats, and the failures."""
    lines = [
        f"{'format':14}{'images':>9}{'read':>9}{'refused':>9}{'kinds':>7}{'failed':>8}{'slowest':>9}{'peak MB':>9}"
    ]
    total = Tally()
    for name, tally in campaign.tallies.items():
        lines.append(_row(name, tally))
        total.cases += tally.cases
        total.read += tally.read
        total.refused += tally.refused
        total.failed += tally.failed
        total.reasons.update(tally.reasons)
        total.slowest, total.memory = max(total.slowest, tally.slowest), max(total.memory, tally.memory)
    lines += [_row("all", total), f"{seconds:.0f} s"]
    lines += [f"{one.format}, case {one.number}: {one.why}\n  {one.kept}" for one in campaign.failures]
    return "\n".join(lines)


def _row(name: str, tally: Tally) -> str:
    return (
        f"{name:14}{tally.cases:9}{tally.read:9}{tally.refused:9}{len(tally.reasons):7}{tally.failed:8}"
        f"{tally.slowest:8.2f}s{tally.memory / 1e6:9.0f}"
    )


def _replay(formats: List[Format], images: List[Path]) -> int:
    """Read kept images once more, here, without limits: for a debugger."""
    bad = 0
    for image in images:
        kinds = [kind for kind in formats if image.name.startswith(f"{kind.name}-")]
        kind = max(kinds, key=lambda one: len(one.name), default=None)
        if kind is None:
            print(f"{image}: the name does not begin with a format's", file=sys.stderr)
            return 2
        outcome = judge(kind, image.read_bytes(), Subject(kind).spoiler.data)
        bad += outcome != "read" and not outcome.startswith("refused ")
        print(f"{image}: {outcome}")
    return 1 if bad else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=15_000, help="images in all (default: 15000, some minutes)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same damage (default: 1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each format")
    parser.add_argument("--only", default="", metavar="REGEX", help="formats by name; --list names them")
    parser.add_argument("--list", action="store_true", help="name the formats")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per processor)")
    parser.add_argument("--failures", type=Path, default=Path("build/fuzz"), help="where images that failed are kept")
    parser.add_argument(
        "--replay", type=Path, nargs="+", metavar="IMAGE", help="read kept images again, without limits"
    )
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(kind.name for kind in FORMATS))
        sys.exit(0)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
