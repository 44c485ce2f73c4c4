"""The result of a comparison: sections of differences, each difference with what stood there before and after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from respin.root.delta import Change

Facts = Mapping[str, Any]

# The sections, in the order in which they are told.
TITLES: Mapping[str, str] = {
    "packages": "packages",
    "files": "files of the root",
    "modules": "kernel modules",
    "initrds": "initrds",
    "boot": "boot configuration",
    "iso": "files of the ISO",
    "structure": "structure of the ISO",
}


@dataclass(frozen=True)
class Difference:
    """One thing that differs. ``old`` is None when it is only in B, ``new`` when it is only in A; both hold plain data.

    ``detail`` is what a finer look found: changed lines, members of an archive.
    """

    name: str
    old: Optional[Facts]
    new: Optional[Facts]
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def change(self) -> Change:
        """What happened to it on the way from A to B."""
        if self.old is None:
            return Change.ADDED
        return Change.REMOVED if self.new is None else Change.CHANGED

    @property
    def differs(self) -> Tuple[str, ...]:
        """The names of the facts that differ, sorted; empty for what is on one side only."""
        if self.old is None or self.new is None:
            return ()
        names = sorted({*self.old, *self.new})
        return tuple(name for name in names if self.old.get(name) != self.new.get(name))

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        document: Dict[str, Any] = {"name": self.name, "change": self.change.value, **self.detail}
        if self.old is not None:
            document["old"] = dict(self.old)
        if self.new is not None:
            document["new"] = dict(self.new)
        if self.differs:
            document["differs"] = list(self.differs)
        return document


@dataclass(frozen=True)
class Section:
    """Differences of one kind. ``not_compared`` says why there could be more than are listed; empty: there are not."""

    id: str
    differences: Tuple[Difference, ...] = ()
    not_compared: str = ""

    @property
    def title(self) -> str:
        """What to call it."""
        return TITLES[self.id]

    def count(self, change: Change) -> int:
        """How many differences are of that kind."""
        return sum(1 for one in self.differences if one.change is change)

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {
            **{change.value: self.count(change) for change in Change},
            "not_compared": self.not_compared or None,
            "differences": [one.to_json() for one in self.differences],
        }


@dataclass(frozen=True)
class Side:
    """One of the two ISOs, as a person would name it. ``plugins`` are those of its statement, unverified."""

    name: str
    size: int
    product: str
    profile: Optional[str]
    layout: str
    plugins: Optional[Tuple[str, ...]]

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {
            "name": self.name,
            "size": self.size,
            "product": self.product,
            "profile": self.profile,
            "layout": self.layout,
            "plugins": None if self.plugins is None else list(self.plugins),
        }


@dataclass(frozen=True)
class Diff:
    """All that differs from ``a`` to ``b``."""

    a: Side
    b: Side
    identical: bool
    sections: Tuple[Section, ...]

    def section(self, name: str) -> Section:
        """The section of that id."""
        return next(section for section in self.sections if section.id == name)

    def to_json(self) -> Dict[str, Any]:
        """The comparison as one document."""
        return {
            "schema": "respin.diff/1",
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "identical": self.identical,
            "sections": {section.id: section.to_json() for section in self.sections},
        }


def facts_differ(name: str, old: Optional[Facts], new: Optional[Facts], **detail: Any) -> Tuple[Difference, ...]:
    """The difference between two sets of facts, if there is one."""
    return () if old == new else (Difference(name, old, new, detail),)
