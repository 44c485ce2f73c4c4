"""Findings: what a rule has to say about one place, with a stable id; and the step from findings to a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Tuple

from respin.errors import PolicyError
from respin.safepath import show


@dataclass(frozen=True)
class Finding:
    """One statement of a rule. ``id`` is stable, ``place`` a path or name, ``remedy`` what its reader can do."""

    id: str
    place: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{show(self.place)}: {self.message} [{self.id}]"


def require_none(findings: Iterable[Finding]) -> None:
    """Raise a PolicyError that names every finding; return if there is none."""
    found: Tuple[Finding, ...] = tuple(findings)
    if not found:
        return
    first = found[0]
    raise PolicyError(
        first.message,
        where=show(first.place),
        remedy=first.remedy or None,
        finding=first.id,
        also=[str(finding) for finding in found[1:]],
    )
