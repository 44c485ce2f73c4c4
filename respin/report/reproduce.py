"""A reproduction for people."""

from __future__ import annotations

from rich.text import Text

from respin.report.diff import render_sections
from respin.reproduce.reproduce import Reproduction
from respin.safepath import show


def render(found: Reproduction) -> Text:
    """The verdict, what it was built from, and if it differs: where first, why perhaps, what else."""
    claims, text = found.claims, Text()
    if found.difference is None:
        text.append("REPRODUCED", style="bold green")
        text.append(f"  {show(found.iso)}: all {found.size:,} bytes but the signature slot are the rebuilt ones\n")
    else:
        text.append("NOT REPRODUCED", style="bold red")
        where, offset = found.difference.place, found.difference.offset
        text.append(f"  {show(found.iso)} first differs at byte {offset}: {show(str(where))}\n")
    for reason in found.reasons:
        text.append("  likely reason  ", style="bold").append(f"{reason}\n")
    text.append(f"\nbase     {show(claims.base_name)}, sha256 {claims.base_sha256} ({show(claims.base_kind)})\n")
    for plugin in claims.plugins:
        text.append(f"plugin   {show(str(plugin['name']))}, sha256 {plugin['sha256']}\n")
    versions = ", ".join(f"{name} {show(version)}" for name, version in sorted(found.here.items()))
    text.append(f"built    with {versions}; epoch {claims.epoch}{'' if claims.restorable else '; no restore map'}\n")
    text.append(f"rebuilt  sha256 {found.rebuilt_sha256} (unsigned)")
    text.append(f", kept as {show(str(found.kept))}\n" if found.kept is not None else ", not kept\n")
    if found.details is not None:
        text.append("\nFrom the ISO that was given (A) to the rebuilt one (B):\n")
        render_sections(text, [section for section in found.details.sections if section.differences])
    text.rstrip()
    return text
