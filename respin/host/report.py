"""What the check of an installed Node found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from respin.provenance.facts import Facts

SCHEMA = "respin.verify-host/1"
PROVES = (
    "The facts in the root are unsigned: whoever can write to the root can write them, too. What agrees with them is"
    " consistent, not proven. Verify the ISO that they describe (respin verify OUT.iso); with --iso the root's files"
    " are compared with those in it."
)
PROVES_WITH_ISO = (
    "The root's files were compared with those of a verified ISO. What this cannot see: the kernel that runs, what was"
    " loaded before, and whether the root was read truly. Look at a root that may be hostile from trusted media."
)


@dataclass(frozen=True)
class Drift:
    """One thing that is not as it was installed. ``package`` owns the path; ``config`` marks a %config file of it."""

    path: str
    what: str
    package: str = ""
    config: bool = False

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {"path": self.path, "what": self.what, "package": self.package or None, "config": self.config}


@dataclass(frozen=True)
class HostReport:
    """The result. ``product`` is what the root's version file says; ``counts`` says how much was looked at.

    ``iso`` describes the verified ISO that the root was compared with, if one was given.
    """

    root: str
    facts: Facts
    product: str
    drift: Tuple[Drift, ...]
    counts: Mapping[str, int]
    iso: Optional[Mapping[str, Any]] = None

    @property
    def consistent(self) -> bool:
        return not self.drift

    @property
    def proves(self) -> str:
        """What the result says, and what it cannot say."""
        return PROVES if self.iso is None else PROVES_WITH_ISO

    def to_json(self) -> Dict[str, Any]:
        """The report as one document."""
        facts = self.facts
        return {
            "schema": SCHEMA,
            "verdict": "CONSISTENT" if self.consistent else "DRIFT",
            "root": self.root,
            "product": self.product,
            "base": {
                "name": facts.base_name,
                "product": facts.base_product,
                "sha256": facts.base_sha256,
                "verified": facts.base_verified,
                "signer": facts.base_signer,
            },
            "plugins": [
                {
                    "name": plugin.name,
                    "version": plugin.version,
                    "release": plugin.release,
                    "sha256": plugin.sha256,
                    "signer": plugin.signer,
                    "packages": [{"nevra": one.nevra, "sha256": one.sha256} for one in plugin.packages],
                }
                for plugin in facts.plugins
            ],
            "drift": [one.to_json() for one in self.drift],
            "checked": dict(self.counts),
            "iso": None if self.iso is None else dict(self.iso),
            "proves": self.proves,
        }
