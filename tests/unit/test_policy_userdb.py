"""The user database: vendor lines untouched; new ones declared, locked, never root."""

from __future__ import annotations

import stat
from types import SimpleNamespace
from typing import Any, Dict, List, Sequence

import pytest

from respin.policy import userdb
from respin.policy.accounts import judge_pairs, shells

PASSWD = b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/usr/sbin/nologin\n"
GOOD = b"agent:x:990:990::/var/lib/agent:/usr/sbin/nologin\n"


def findings(path: str, before: bytes, after: bytes) -> List[str]:
    return [
        f"{one.id}: {one.message}"
        for one in userdb.judge(
            path,
            before,
            after,
            users=["agent", "other"],
            groups=["agents"],
            vendor_groups={"6": "disk"},
            shells={"agent": frozenset(("/bin/zsh",))},
        )
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
        (b"agent:x:4294967295:990::/:/sbin/nologin\n", "uid 4294967295"),
        (b"agent:x:990:4294967295::/:/sbin/nologin\n", "gid 4294967295"),
        (b"agent:x:990:990::/root:/sbin/nologin\n", "home in root's"),
        (b"agent:x:990:990:://root/./.x:/sbin/nologin\n", "home in root's"),
        (b"agent:x:990:990::/srv/../root/:/sbin/nologin\n", "home in root's"),
        (b"agent:x:990:990::/:/bin/bash\n", "does not ask for"),
        (b"agent:x:990:990::/:\n", "does not ask for"),
        (b"daemon:x:990:990::/:/sbin/nologin\n", "second line"),
        (GOOD + GOOD, "second line"),
        (GOOD + GOOD.replace(b"agent", b"other"), "shares the id"),
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


def test_a_line_of_the_plugins_before_its_other_one() -> None:
    """Programs take the first line of a name."""
    other = b"agent:x:12345:12345::/:/sbin/nologin\n"
    assert any("second line" in one for one in findings("/etc/passwd", PASSWD, other + PASSWD + GOOD))
    assert findings("/etc/passwd", PASSWD, PASSWD + GOOD.replace(b"/usr/sbin/nologin", b"/bin/zsh")) == []


@pytest.mark.parametrize(
    ("path", "line", "says"),
    [
        ("/etc/group", b"agents:$6$abc$def:991:\n", "password"),
        ("/etc/group", b"agents:x:991:agent,daemon\n", "member 'daemon'"),
        ("/etc/group", b"agents:x:4294967295:\n", "gid 4294967295"),
        ("/etc/gshadow", b"agents:!:daemon:\n", "member 'daemon'"),
        ("/etc/gshadow", b"agents:!::root\n", "member 'root'"),
    ],
)
def test_one_thing_wrong_with_a_new_group_is_refused(path: str, line: bytes, says: str) -> None:
    assert any(says in one for one in findings(path, b"", line))


def test_members_that_the_plugin_makes_are_let_through() -> None:
    assert findings("/etc/group", b"", b"agents::991:agent,other\n") == []
    assert findings("/etc/gshadow", b"", b"agents:!:agent:agent,other\n") == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"agent:100000:4294867295\n", "has 4294867295 ids"),
        (b"agent:200000:65537\n", "has 65537 ids"),
        (b"agent:4294967000:65536\n", "has 65536 ids"),
        (b"agent:200000:-1\n", "is none"),
        (b"agent:200000:\n", "is none"),
        (b"agent:165535:65536\n", "overlaps that of 'admin'"),
        (b"agent:99999:2\n", "overlaps that of 'admin'"),
        (b"agent:200000:65536\nother:265535:1\n", "overlaps that of 'agent'"),
    ],
)
def test_subordinate_ids_are_few_and_nobody_elses(line: bytes, says: str) -> None:
    vendor = b"admin:100000:65536\n"
    assert any(says in one for one in findings("/etc/subgid", vendor, vendor + line))
    assert findings("/etc/subgid", vendor, vendor + b"agent:165536:65536\nother:231072:65536\n") == []


class Root:
    """A root of texts."""

    def __init__(self, files: Dict[str, str]) -> None:
        self.files = files

    def lookup(self, path: str) -> Any:
        text = self.files.get(path)
        return None if text is None else SimpleNamespace(is_file=True, mode=stat.S_IFREG, text=text)

    def read(self, inode: Any, _limit: int) -> bytes:
        return str(inode.text).encode()


def plan(vendor: Dict[str, str], *scriptlets: str, files: Sequence[str] = ()) -> Any:
    header = SimpleNamespace(scriptlets=[SimpleNamespace(body=one) for one in scriptlets])
    rpms = [SimpleNamespace(header=header)]
    root = Root(vendor)
    return SimpleNamespace(node=SimpleNamespace(root=root), rpms=rpms, files=files, declared=lambda effect: ("agent",))


def test_which_shells_a_package_asks_for() -> None:
    vendor = {"/etc/default/useradd": "GROUP=100\nSHELL=/bin/ash\n"}
    none: Any = Root({})

    def of(*scriptlets: str) -> Sequence[str]:
        return sorted(shells(plan(vendor, *scriptlets), none)["agent"])

    assert of("useradd -r agent") == ["", "/bin/ash", "/bin/bash", "/bin/sh"]
    assert of("useradd -r -s /usr/sbin/nologin agent", "echo /bin/zsh agents") == ["/usr/sbin/nologin"]
    assert "/usr/bin/agent-shell" in of("useradd -r -s /usr/bin/agent-shell agent")
    conf = "/usr/lib/sysusers.d/agent.conf"
    after: Any = Root({conf: 'u agent - "An agent" /var/lib/agent /bin/zsh\n'})
    assert "/bin/zsh" in shells(plan(vendor, files=[conf]), after)["agent"]


def test_an_account_without_the_entry_that_locks_it() -> None:
    vendor = {"/etc/passwd": "root:x\n", "/etc/shadow": "root:*\n", "/etc/group": "root:x\n"}
    after: Any = Root({**vendor, "/etc/passwd": "root:x\nagent:x\n", "/etc/group": "root:x\nagent:x\n"})
    assert [one.place for one in judge_pairs(plan(vendor), after)] == ["/etc/shadow"], "the vendor has no gshadow"
    both: Any = Root({**after.files, "/etc/shadow": "root:*\nagent:!\n"})
    assert list(judge_pairs(plan(vendor), both)) == []
    with_groups = {**vendor, "/etc/gshadow": "root:*\n"}
    assert [one.place for one in judge_pairs(plan(with_groups), both)] == ["/etc/gshadow"]
