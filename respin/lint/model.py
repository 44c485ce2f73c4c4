"""What the lint says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Dict


class Severity(str, Enum):
    """An ERROR keeps somebody from booting or installing; a WARNING may be meant."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class LintFinding:
    """One defect. ``id`` is stable; ``place`` says where on the ISO, ``remedy`` what to do."""

    id: str
    severity: Severity
    place: str
    message: str
    remedy: str

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {
            "id": self.id,
            "severity": self.severity.value,
            "place": self.place,
            "message": self.message,
            "remedy": self.remedy,
        }


def error(finding: str, place: str, message: str, remedy: str) -> LintFinding:
    """A finding of severity ERROR."""
    return LintFinding(finding, Severity.ERROR, place, message, remedy)


def warning(finding: str, place: str, message: str, remedy: str) -> LintFinding:
    """A finding of severity WARNING."""
    return LintFinding(finding, Severity.WARNING, place, message, remedy)
