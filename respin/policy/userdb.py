"""The user database after the transaction: the vendor's lines untouched, new ones declared, locked, of their own.

No new line is root's, nor makes anybody who was there more than before.

Formats: passwd(5), group(5), shadow(5), gshadow(5), subuid(5), subgid(5).
"""

from __future__ import annotations

import posixpath
from typing import FrozenSet, Iterator, List, Mapping, Sequence, Tuple

from respin.policy.accounts import is_for_show
from respin.policy.findings import Finding
from respin.safepath import printable

FIELDS: Mapping[str, int] = {"passwd": 7, "group": 4, "shadow": 9, "gshadow": 4, "subuid": 3, "subgid": 3}
# Below are the ids of users and services; subordinate to a user, they would be that user's (subuid(5), login.defs(5)).
FIRST_SUBORDINATE = 100_000
_MOST_SUBORDINATE = 65_536  # what useradd gives by default
_NOBODY = (1 << 32) - 1  # as an argument of chown(2) and its kin: no change
_DECLARED_AS = {"passwd": "user", "shadow": "user", "subuid": "user", "subgid": "user"}


def judge(
    path: str,
    before: bytes,
    after: bytes,
    *,
    users: Sequence[str],
    groups: Sequence[str],
    vendor_groups: Mapping[str, str],
    shells: Mapping[str, FrozenSet[str]],
) -> Iterator[Finding]:
    """Judge one file of the database, given its content before and after.

    ``path`` is e.g. ``/etc/passwd`` or its backup ``/etc/passwd-``; for a backup ``before`` is the vendor's *main*
    file, since tools save the state before the last of their changes. ``vendor_groups`` are the vendor's by gid,
    ``shells`` those that let a user log in and that its package names.
    """
    name = path.rsplit("/", 1)[1].rstrip("-")
    old, new = _lines(before), _lines(after)
    position = 0
    added: List[str] = []
    for line in new:
        if position < len(old) and line == old[position]:
            position += 1
        else:
            added.append(line)
    if position < len(old):
        yield Finding(
            "user-database",
            path,
            f"the vendor's line for {_key(old[position])!r} was changed, moved or removed",
            "a plugin may only add users and groups",
        )
        return
    taken = {_number(name, line) for line in old}
    keys = {_key(line) for line in old}
    ranges = [line.split(":") for line in old] if name in ("subuid", "subgid") else []
    for line in added:
        if _key(line) in keys:
            yield Finding("user-database", path, f"there is a second line for {_key(line)!r}")
        keys.add(_key(line))
        yield from _judge_line(path, name, line, users, groups, taken, vendor_groups)
        taken.add(_number(name, line))
        fields = line.split(":")
        if len(fields) != FIELDS[name]:
            continue
        if name == "passwd":
            yield from _judge_login(path, fields, shells)
        elif name in ("group", "gshadow"):
            yield from _judge_members(path, name, fields, users)
        elif name in ("subuid", "subgid"):
            yield from _judge_range(path, fields, ranges)
            ranges.append(fields)


def _judge_line(
    path: str,
    name: str,
    line: str,
    users: Sequence[str],
    groups: Sequence[str],
    taken: "set[str]",
    vendor_groups: Mapping[str, str],
) -> Iterator[Finding]:
    fields = line.split(":")
    key = fields[0]
    if len(fields) != FIELDS[name] or not key or not printable(line):
        yield Finding("user-database", path, f"the new line {line!r} is malformed")
        return
    kind = _DECLARED_AS.get(name, "group")
    declared = users if kind == "user" else [*groups, *users]
    if key not in declared:
        yield Finding(
            "undeclared-effect",
            path,
            f"the {kind} {key!r} is added but the manifest does not declare it",
            f"declare it under effects.{kind}s in the plugin's manifest",
        )
    if name == "passwd":
        if not _positive(fields[2]) or not _positive(fields[3]):
            yield Finding("user-database", path, f"the new user {key!r} has uid {fields[2]} and gid {fields[3]}")
        if fields[3] in vendor_groups and vendor_groups[fields[3]] not in groups:
            yield Finding(
                "user-database",
                path,
                f"the new user {key!r} has the vendor's group {vendor_groups[fields[3]]!r} as its own",
                "give the user a group of its own, or declare that group under effects.groups",
            )
        if fields[1] not in ("x", "*", "!"):
            yield Finding("user-database", path, f"the new user {key!r} has its password in passwd")
    if name == "group" and not _positive(fields[2]):
        yield Finding("user-database", path, f"the new group {key!r} has gid {fields[2]}")
    if name in ("subuid", "subgid") and not (_positive(fields[1]) and int(fields[1]) >= FIRST_SUBORDINATE):
        yield Finding("user-database", path, f"the new range of {key!r} starts at {fields[1]}, among real users")
    if name in ("passwd", "group") and fields[2] in taken:
        yield Finding("user-database", path, f"the new {kind} {key!r} shares the id {fields[2]} with another")
    if name in ("shadow", "gshadow") and not fields[1].startswith(("!", "*")):
        yield Finding(
            "user-database",
            path,
            f"the new {kind} {key!r} is not locked",
            "create system accounts without a password (useradd --system)",
        )


def _judge_login(path: str, fields: Sequence[str], shells: Mapping[str, FrozenSet[str]]) -> Iterator[Finding]:
    key, home, shell = fields[0], fields[5], fields[6]
    if f"/{posixpath.normpath(home).lstrip('/')}/".startswith("/root/"):
        yield Finding("user-database", path, f"the new user {key!r} has its home in root's")
    if not is_for_show(shell) and shell not in shells.get(key, frozenset()):
        yield Finding(
            "user-database",
            path,
            f"the new user {key!r} has the shell {shell!r}, which its package does not ask for",
            "create system accounts that nobody logs in as (useradd --system --shell /usr/sbin/nologin)",
        )


def _judge_members(path: str, name: str, fields: Sequence[str], users: Sequence[str]) -> Iterator[Finding]:
    """Who is in a new group, and for gshadow who administers it."""
    if name == "group" and fields[1] not in ("", "x", "!", "*"):
        yield Finding("user-database", path, f"the new group {fields[0]!r} has a password")
    lists = fields[3:] if name == "group" else fields[2:]
    for member in sorted({one for names in lists for one in names.split(",") if one} - set(users)):
        yield Finding(
            "user-database",
            path,
            f"the new group {fields[0]!r} has the member {member!r}, whom the manifest does not declare",
            "declare it under effects.users if the plugin makes it; a vendor's user gets no more rights",
        )


def _judge_range(path: str, fields: Sequence[str], others: Sequence[Sequence[str]]) -> Iterator[Finding]:
    if not _positive(fields[1]) or not _positive(fields[2]):
        yield Finding("user-database", path, f"the new range of {fields[0]!r} is none: {fields[1]}:{fields[2]}")
        return
    start, count = int(fields[1]), int(fields[2])
    if count > _MOST_SUBORDINATE or start + count > _NOBODY:
        yield Finding("user-database", path, f"the new range of {fields[0]!r} has {count} ids from {start} on")
    for other in others:
        if len(other) == 3 and all(one.isascii() and one.isdigit() for one in other[1:]):
            first, size = int(other[1]), int(other[2])
            if start < first + size and first < start + count:
                yield Finding("user-database", path, f"the new range of {fields[0]!r} overlaps that of {other[0]!r}")


def _lines(data: bytes) -> Tuple[str, ...]:
    # As the C library tells lines apart: by nothing but a newline.
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    return tuple(lines[:-1] if not lines[-1] else lines)


def _key(line: str) -> str:
    return line.split(":", 1)[0]


def _number(name: str, line: str) -> str:
    fields = line.split(":")
    return fields[2] if name in ("passwd", "group") and len(fields) > 2 else ""


def _positive(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < _NOBODY and str(int(text)) == text
