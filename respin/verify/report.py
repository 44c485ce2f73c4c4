"""What verification found: one link of the chain after the other, and a verdict over all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Dict, Mapping, Optional, Tuple

from respin.root.delta import Entry
from respin.root.growth import Growth, describe

SCHEMA = "respin.verify/1"


class Status(str, Enum):
    """How a link stands."""

    PASSED = "passed"
    NOT_DONE = "not done"


@dataclass(frozen=True)
class Link:
    """One link of the chain. A link that fails raises instead: there is no report of a failed verification."""

    name: str
    status: Status
    detail: str


@dataclass(frozen=True)
class Digests:
    """SHA-256 of the verified bytes: of the whole ISO (empty unless it was asked for), of its statement."""

    iso: str = ""
    statement: str = ""


@dataclass(frozen=True)
class Report:
    """The result of a verification in which nothing failed."""

    iso: str
    size: int
    links: Tuple[Link, ...]
    product: str
    base: Mapping[str, Any]
    plugins: Tuple[Mapping[str, Any], ...]
    packages: Tuple[Mapping[str, Any], ...]
    signer: Optional[Mapping[str, Any]]
    changes: Mapping[str, int] = field(default_factory=dict)
    signatures: Tuple[Mapping[str, Any], ...] = ()
    entries: Tuple[Entry, ...] = ()
    carrier: Optional[Mapping[str, Any]] = None
    digests: Digests = Digests()
    trust: Optional[Mapping[str, Any]] = None
    medium: Mapping[str, Any] = field(default_factory=dict)
    growth: Optional[Growth] = None

    @property
    def complete(self) -> bool:
        """Whether every link was checked."""
        return all(link.status is Status.PASSED for link in self.links)

    def to_json(self) -> Dict[str, Any]:
        """The report as one document."""
        return {
            "schema": SCHEMA,
            "verdict": "PASSED",
            "complete": self.complete,
            "iso": self.iso,
            "size": self.size,
            "carrier": None if self.carrier is None else dict(self.carrier),
            "product": self.product,
            "base": dict(self.base),
            "plugins": [dict(one) for one in self.plugins],
            "packages": [dict(one) for one in self.packages],
            "signer": None if self.signer is None else dict(self.signer),
            "signatures": [dict(one) for one in self.signatures],
            "changes": dict(self.changes),
            "medium": dict(self.medium),
            "grown": describe(self.growth),
            "trust": None if self.trust is None else dict(self.trust),
            "links": [{"name": link.name, "status": link.status.value, "detail": link.detail} for link in self.links],
        }
