"""The result of a build for people: the verdict first, then counters that can be checked."""

from __future__ import annotations

from rich.text import Text

from respin.build.build import BuildResult
from respin.report.verify import render as render_report


def render(result: BuildResult) -> Text:
    """The verification of what was built, where it is, and what it cost."""
    counters = result.counters
    stored, reused = counters["root_blocks_stored"], counters["root_blocks_reused"]
    share = 100 * reused / stored if stored else 100.0
    lines = [
        f"\nWritten: {result.output} ({result.size} bytes)",
        f"  sha256 {result.sha256}",
        *(f"  beside it: {path}" for path in result.sidecars),
        "",
        "What it cost",
        f"  root image: {reused} of {stored} compressed blocks reused as they are ({share:.1f} %),"
        f" {counters['root_blocks_recompressed']} compressed anew",
        f"  blocks read to install and apply: {counters['root_blocks_read']} of {stored}"
        f" ({counters['root_blocks_read_for_check']} to check the file system afterwards)",
        f"  restore map: {counters['bytes_restore_map']} bytes, for the vendor's ISO bit for bit"
        if counters["bytes_restore_map"]
        else "  no restore map: the vendor's ISO cannot be had from this one",
        f"  ISO: {counters['bytes_copied']} of {counters['bytes_written']} bytes copied from the vendor's",
        f"  root: {counters['paths_added']} paths added, {counters['paths_changed']} changed",
    ]
    return Text.assemble(render_report(result.report), "\n".join(lines))
