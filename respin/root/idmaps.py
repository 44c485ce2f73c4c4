"""User and group id maps for the sandbox's user namespace (user_namespaces(7), newuidmap(1), subuid(5)).

root maps its own ids to themselves. An ordinary user becomes id 0 and owns the ids 1.. through a range that the
administrator reserved in /etc/subuid and /etc/subgid; the setuid programs newuidmap and newgidmap write the maps.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from respin import process
from respin.errors import BuildError, MissingToolError

# Every id that a distribution hands out, "nobody" (65534) included.
NEEDED_IDS = 65535
SUBUID = Path("/etc/subuid")
SUBGID = Path("/etc/subgid")


@dataclass(frozen=True)
class Range:
    """``count`` ids from ``start`` on, reserved for one user."""

    start: int
    count: int


def user_name(uid: int) -> str:
    """The login name of ``uid``, or the number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def find_range(table: Path, uid: int) -> Optional[Range]:
    """The first range in ``table`` (subuid(5)) for ``uid``, by name or number, that is large enough."""
    try:
        lines = table.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    owners = {user_name(uid), str(uid)}
    for line in lines:
        parts = line.strip().split(":")
        if len(parts) != 3 or parts[0] not in owners or not (parts[1].isdecimal() and parts[2].isdecimal()):
            continue
        found = Range(int(parts[1]), int(parts[2]))
        if found.count >= NEEDED_IDS:
            return found
    return None


def required_ranges(uid: int) -> Tuple[Range, Range]:
    """The user's subordinate uid and gid ranges; MissingToolError says how to get them."""
    uids, gids = find_range(SUBUID, uid), find_range(SUBGID, uid)
    if uids is None or gids is None:
        name = user_name(uid)
        missing = " and ".join(str(t) for t, r in ((SUBUID, uids), (SUBGID, gids)) if r is None)
        raise MissingToolError(
            f"the user {name} has no range of {NEEDED_IDS} subordinate ids in {missing}",
            remedy=f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
            " (choose another range if a line of these files uses it already)",
            finding="no-subordinate-ids",
        )
    return uids, gids


def write_maps(pid: int) -> None:
    """Map the ids of the user namespace that process ``pid`` has just made."""
    try:
        if os.geteuid() == 0:
            for name in ("uid_map", "gid_map"):
                table = Path(f"/proc/self/{name}").read_text()
                require_ids(table, name)
                Path(f"/proc/{pid}/{name}").write_text(_identity(table))
            return
    except OSError as error:
        raise MissingToolError(
            f"cannot write the id map of a user namespace: {error.strerror}",
            remedy="a container needs CAP_SETUID and CAP_SETGID for this",
            finding="no-user-namespace",
        ) from error
    uids, gids = required_ranges(os.getuid())
    for program, own, extra in (("newuidmap", os.getuid(), uids), ("newgidmap", os.getgid(), gids)):
        triples = [0, own, 1, 1, extra.start, extra.count]
        done = process.run([program, str(pid), *map(str, triples)], check=False, timeout=30)
        if done.returncode != 0:
            raise MissingToolError(
                done.explain(),
                remedy="reinstall the package uidmap (Debian) or shadow-utils (EL/Fedora): the program must be setuid"
                " root, and the range must be the one in /etc/subuid and /etc/subgid",
                finding="no-subordinate-ids",
            )


def require_ids(table: str, name: str) -> None:
    """MissingToolError unless the id map in ``table`` (user_namespaces(7)), called ``name``, has all ids needed."""
    count = sum(int(line.split()[2]) for line in table.splitlines() if len(line.split()) == 3)
    if count < NEEDED_IDS:
        raise MissingToolError(
            f"root has only {count} of the {NEEDED_IDS} ids here that files of a Node may belong to",
            where=f"/proc/self/{name}",
            remedy="on the container's host, for the user who runs it: usermod --add-subuids 100000-165535"
            " --add-subgids 100000-165535 USER; podman system migrate; then start it anew",
            finding="no-subordinate-ids",
        )


def _identity(table: str) -> str:
    lines = []
    for line in table.splitlines():
        fields = line.split()
        if len(fields) != 3:
            raise BuildError("the kernel's id map has an unknown form", where="/proc/self/uid_map")
        lines.append(f"{fields[0]} {fields[0]} {fields[2]}\n")
    return "".join(lines)
