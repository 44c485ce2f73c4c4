"""Minimum versions: a validly signed Node or plugin that is older than what the trust store asks for is a rollback."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from respin import rpmbindings

NODE, PLUGIN = "node", "plugin"
_TEXT = re.compile(r"[A-Za-z0-9._+~^]{1,64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


@dataclass(frozen=True)
class Minimum:
    """The oldest version that is accepted of a Node (``name`` is its profile) or of a plugin (its bundle's name).

    Without a ``release`` any release of ``version`` is new enough.
    """

    kind: str
    name: str
    version: str
    release: Optional[str] = None

    def accepts(self, version: str, release: str) -> bool:
        """Whether a version is new enough, by rpm's own comparison of labels."""
        if not version or (self.release is not None and not release):
            return False  # whoever asks for a version does not take what says none
        theirs = (None, version, "0" if self.release is None else release)
        rpm: Any = rpmbindings.load()
        return bool(rpm.labelCompare(theirs, (None, self.version, self.release or "0")) >= 0)

    def __str__(self) -> str:
        return self.version if self.release is None else f"{self.version}-{self.release}"


def parse(kind: str, tables: Any) -> Tuple[Minimum, ...]:
    """The tables ``[minimum.KIND.NAME]``; ValueError says what is wrong with them."""
    if not isinstance(tables, dict):
        raise ValueError(f"minimum.{kind} must be tables by name")
    return tuple(_minimum(kind, name, table) for name, table in tables.items())


def _minimum(kind: str, name: str, table: Any) -> Minimum:
    if not NAME.fullmatch(name) or not isinstance(table, dict) or "version" not in table:
        raise ValueError(f"minimum.{kind}.{name} must be a table with a version")
    for field, value in table.items():
        if field not in ("version", "release"):
            raise ValueError(f"minimum.{kind}.{name} has an unknown field {field!r}")
        if not isinstance(value, str) or not _TEXT.fullmatch(value):
            raise ValueError(f"{field} of minimum.{kind}.{name} must be a version as RPM writes it, in quotes")
    return Minimum(kind, name, table["version"], table.get("release"))


def by_name(minimums: Tuple[Minimum, ...]) -> Mapping[Tuple[str, str], Minimum]:
    """The same by kind and name."""
    found: Dict[Tuple[str, str], Minimum] = {(one.kind, one.name): one for one in minimums}
    return found
