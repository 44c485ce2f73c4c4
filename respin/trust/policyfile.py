"""``policy.toml`` of a trust store: one ``[[key]]`` table for each key and role, minimum versions, the store's end.

Unknown fields are errors.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any, List, Mapping, Optional, Tuple

from respin.errors import UsageError
from respin.safepath import printable
from respin.trust import minimum
from respin.trust.minimum import Minimum
from respin.trust.model import TIERS, Role

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VERSION = 1
_FINGERPRINT = re.compile(r"[0-9A-F]{40}")
_HEADING = """\
# Trust store of respin: who may sign what. See docs/reference/trust.md.
# Each key's file is ROLE/FINGERPRINT.asc beside this file.

version = 1
"""


@dataclass(frozen=True)
class PolicyEntry:
    """One ``[[key]]`` table."""

    fingerprint: str
    role: Role
    tier: str
    scope: Tuple[str, ...]
    allow_expired: bool = False
    allow_weak: bool = False
    comment: str = ""

    @property
    def file_name(self) -> str:
        """Where the key lies below the store."""
        return f"{self.role}/{self.fingerprint}.asc"


@dataclass(frozen=True)
class Policy:
    """A ``policy.toml``. ``expires`` is when the store stops to count, in seconds since 1970."""

    entries: Tuple[PolicyEntry, ...]
    minimums: Tuple[Minimum, ...] = ()
    expires: Optional[int] = None


def parse(text: str, *, where: str) -> Policy:
    """Read a ``policy.toml``; UsageError says which line or entry is wrong."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _bad(f"this is not TOML: {error}", where) from error
    if document.get("version") != VERSION or isinstance(document.get("version"), bool):
        raise _bad(f"version must be {VERSION}", where)
    unknown = sorted(set(document) - {"version", "key", "minimum", "expires"})
    tables = document.get("key", [])
    if unknown or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _bad(
            f"only version, expires, [[key]] and [minimum] may stand here, not {', '.join(unknown) or 'this key'}",
            where,
        )
    entries = [_entry(table, f"{where}: key {number}") for number, table in enumerate(tables, 1)]
    for number, entry in enumerate(entries, 1):
        if (entry.fingerprint, entry.role) in [(other.fingerprint, other.role) for other in entries[: number - 1]]:
            raise _bad(f"{entry.fingerprint} stands twice with role {entry.role}", f"{where}: key {number}")
    return Policy(tuple(entries), _minimums(document.get("minimum", {}), where), _expires(document, where))


def _minimums(tables: Any, where: str) -> Tuple[Minimum, ...]:
    if not isinstance(tables, dict) or set(tables) - {minimum.NODE, minimum.PLUGIN}:
        raise _bad("minimum holds tables as [minimum.node.PROFILE] and [minimum.plugin.NAME]", where)
    try:
        return tuple(one for kind in sorted(tables) for one in minimum.parse(kind, tables[kind]))
    except ValueError as error:
        raise _bad(str(error), where) from error


def _expires(document: Mapping[str, Any], where: str) -> Optional[int]:
    day = document.get("expires")
    if day is None:
        return None
    if type(day) is not date:  # a datetime is a date, too
        raise _bad("expires must be a day, as 2027-06-30 without quotes", where)
    return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp())


def _entry(table: Mapping[str, Any], where: str) -> PolicyEntry:
    fields = {"fingerprint", "role", "tier", "scope", "allow-expired", "allow-weak", "comment"}
    unknown = sorted(set(table) - fields)
    missing = sorted({"fingerprint", "role", "tier", "scope"} - set(table))
    if unknown or missing:
        problem = f"unknown field {unknown[0]!r}" if unknown else f"{missing[0]} is missing"
        raise _bad(problem, where)
    fingerprint, role, tier, scope = table["fingerprint"], table["role"], table["tier"], table["scope"]
    if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
        raise _bad("fingerprint must be 40 upper-case hex digits", where)
    if role not in [str(known) for known in Role]:
        raise _bad(f"role must be one of {', '.join(map(str, Role))}", where)
    if tier not in TIERS:
        raise _bad(f"tier must be one of {', '.join(TIERS)}", where)
    if not isinstance(scope, list) or not scope or not all(isinstance(item, str) and item for item in scope):
        raise _bad('scope must be a list of name patterns; ["*"] allows every name', where)
    flags = [table.get(name, False) for name in ("allow-expired", "allow-weak")]
    comment = table.get("comment", "")
    if not all(isinstance(flag, bool) for flag in flags):
        raise _bad("allow-expired and allow-weak must be true or false", where)
    if not isinstance(comment, str) or not all(printable(item) for item in [comment, *scope]):
        raise _bad("scope and comment must be printable text", where)
    return PolicyEntry(fingerprint, Role(role), tier, tuple(scope), flags[0], flags[1], comment)


def render(policy: Policy) -> str:
    """A ``policy.toml`` that says this; :func:`parse` reads it back."""
    parts: List[str] = [_HEADING]
    if policy.expires is not None:
        parts[0] += f"expires = {datetime.fromtimestamp(policy.expires, timezone.utc):%Y-%m-%d}\n"
    for one in policy.minimums:
        release = "" if one.release is None else f"release = {_string(one.release)}\n"
        parts.append(f"[minimum.{one.kind}.{_string(one.name)}]\nversion = {_string(one.version)}\n{release}")
    for entry in policy.entries:
        lines = [
            "[[key]]",
            f"fingerprint = {_string(entry.fingerprint)}",
            f"role = {_string(str(entry.role))}",
            f"tier = {_string(entry.tier)}",
            f"scope = [{', '.join(_string(pattern) for pattern in entry.scope)}]",
        ]
        lines += ["allow-expired = true"] if entry.allow_expired else []
        lines += ["allow-weak = true"] if entry.allow_weak else []
        lines += [f"comment = {_string(entry.comment)}"] if entry.comment else []
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _string(text: str) -> str:
    # JSON's string escapes are a subset of TOML's basic strings
    return json.dumps(text, ensure_ascii=False)


def _bad(what: str, where: str) -> UsageError:
    return UsageError(what, where=where, remedy="see docs/reference/trust.md", finding="trust-store")
