"""A lint for people."""

from __future__ import annotations

from rich.text import Text

from respin.lint.lint import Linted
from respin.lint.model import Severity
from respin.safepath import show


def render(found: Linted) -> Text:
    """Each finding with what to do, and how many there are."""
    text = Text()
    for one in found.findings:
        style = "bold red" if one.severity is Severity.ERROR else "yellow"
        text.append(f"{one.severity.value}", style=style).append(f"  {one.id}  {one.place}\n  {one.message}\n")
        text.append("  what to do: ", style="bold").append(f"{one.remedy}\n\n")
    errors = sum(1 for one in found.findings if one.severity is Severity.ERROR)
    warnings = len(found.findings) - errors
    counts = f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"
    text.append("FAILED" if errors else "PASSED", style="bold red" if errors else "bold green")
    return text.append(f"  {show(found.name)}: {counts if found.findings else 'nothing to find fault with'}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
