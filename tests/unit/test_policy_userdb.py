"""The user database: vendor lines untouched; new ones declared, locked, never root."""

from __future__ import annotations

from typing import List

import pytest

from respin.policy import userdb

PASSWD = b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/usr/sbin/nologin\n"
GOOD = b"agent:x:990:990::/var/lib/agent:/usr/sbin/nologin\n"


def findings(path: str, before: bytes, after: bytes) -> List[str]:
    return [
        f"{one.id}: {one.message}"
        for one in userdb.judge(path, before, after, users=["agent"], groups=["agents"], vendor_groups={"6": "disk"})
    ]


def test_a_declared_locked_user_is_accepted() -> None:
    assert findings("/etc/passwd", PASSWD, PASSWD + GOOD) == []
    assert findings("/etc/shadow", b"root:*:1::::::\n", b"root:*:1::::::\nagent:!:2::::::\n") == []
    assert findings("/etc/group", b"root:x:0:\n", b"root:x:0:\nagents:x:991:\n") == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"agent:x:0:990::/:/bin/sh\n", "uid 0"),
        (b"agent:x:990:0::/:/bin/sh\n", "gid 0"),
        (b"agent:x:00:990::/:/bin/sh\n", "uid 00"),
        (b"agent:x:1:990::/:/bin/sh\n", "shares the id"),
        (b"agent:x:990:6::/:/bin/sh\n", "vendor's group 'disk'"),
        (b"agent:hash:990:990::/:/bin/sh\n", "password in passwd"),
        (b"agent:x:990:990\n", "malformed"),
        (b"stranger:x:992:992::/:/bin/sh\n", "does not declare"),
    ],
)
def test_one_thing_wrong_with_a_new_user_is_refused(line: bytes, says: str) -> None:
    assert any(says in found for found in findings("/etc/passwd", PASSWD, PASSWD + line))


@pytest.mark.parametrize(
    "after",
    [
        PASSWD.replace(b"/bin/sh", b"/bin/bash"),
        PASSWD.splitlines(keepends=True)[1],
        b"".join(reversed(PASSWD.splitlines(keepends=True))),
        b"",
    ],
)
def test_a_vendor_line_that_changed_moved_or_went_is_refused(after: bytes) -> None:
    assert any("vendor's line" in found for found in findings("/etc/passwd", PASSWD, after + GOOD))


def test_an_unlocked_account_is_refused() -> None:
    before = b"root:*:1::::::\n"
    assert any("not locked" in found for found in findings("/etc/shadow", before, before + b"agent::2::::::\n"))
    assert any("not locked" in found for found in findings("/etc/shadow", before, before + b"agent:$6$x:2::::::\n"))


def test_a_backup_may_hold_an_earlier_state_of_the_additions() -> None:
    groups = b"root:x:0:\n"
    assert findings("/etc/group-", groups, groups) == []
    assert findings("/etc/group-", groups, groups + b"agents:x:991:\n") == []


@pytest.mark.parametrize("start", [b"0", b"1", b"1000", b"99999", b"-1", b"x", b""])
def test_subordinate_ids_never_reach_into_those_of_users(start: bytes) -> None:
    assert findings("/etc/subuid", b"", b"agent:200000:65536\n") == []
    assert any("among real users" in one for one in findings("/etc/subuid", b"", b"agent:" + start + b":65536\n"))


@pytest.mark.parametrize("separator", [b"\x0b", b"\x0c", b"\x1c", b"\r", b"\xc2\x85", b"\xe2\x80\xa8", b"\0"])
def test_a_vendors_line_hidden_behind_another_one(separator: bytes) -> None:
    """To the C library it is the end of the new line, and the vendor's user is gone."""
    for after in (GOOD.rstrip() + separator + PASSWD, PASSWD + GOOD.rstrip() + separator + GOOD):
        assert [one.partition(":")[0] for one in findings("/etc/passwd", PASSWD, after)] == ["user-database"]
