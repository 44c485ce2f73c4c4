"""The result of a build for people: the verdict first, then counters that can be checked."""

from __future__ import annotations

from typing import List, Mapping, Optional

from rich.text import Text

from respin.build.build import BuildResult
from respin.report.verify import render as render_report
from respin.root.growth import Growth, megabytes


def render(result: BuildResult) -> Text:
    """The verification of what was built, where it is, and what it cost."""
    counters = result.counters
    lines = [
        f"\nWritten: {result.output} ({result.size} bytes)",
        f"  sha256 {result.sha256}",
        *(f"  beside it: {path}" for path in result.sidecars),
        "",
        "What it cost",
        *_root_image(counters),
        *_growth(result.growth),
        f"  restore map: {counters['bytes_restore_map']} bytes, for the vendor's ISO bit for bit"
        if counters["bytes_restore_map"]
        else "  no restore map: the vendor's ISO cannot be had from this one",
        f"  ISO: {counters['bytes_copied']} of {counters['bytes_written']} bytes copied from the vendor's",
        f"  root: {counters['paths_added']} paths added, {counters['paths_changed']} changed",
    ]
    return Text.assemble(render_report(result.report), "\n".join(lines))


def _growth(growth: Optional[Growth]) -> List[str]:
    if growth is None:
        return []
    return [
        "  the root's file system had too little room for the plugins and was grown from"
        f" {megabytes(growth.old_size)} to {megabytes(growth.new_size)}"
    ]


def _root_image(counters: Mapping[str, int]) -> List[str]:
    """What became of the root image. Of a flat one squashfuse reads, nobody counts what."""
    stored, reused = counters["root_blocks_stored"], counters["root_blocks_reused"]
    read, checked = counters["root_blocks_read"], counters["root_blocks_read_for_check"]
    if not read and not checked:
        return [
            f"  root image: {stored} compressed blocks of new and changed files, {reused} of them as they are;"
            " everything else stays where it is"
        ]
    share = 100 * reused / stored if stored else 100.0
    return [
        f"  root image: {reused} of {stored} compressed blocks reused as they are ({share:.1f} %),"
        f" {counters['root_blocks_recompressed']} compressed anew",
        f"  blocks read to install and apply: {read} of {stored} ({checked} to check the file system afterwards)",
    ]
