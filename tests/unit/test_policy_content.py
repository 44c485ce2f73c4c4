"""What may have become of a %ghost, whose content nobody signed."""

from __future__ import annotations

import stat
from types import SimpleNamespace
from typing import Any, Dict, List, Optional

import pytest

from respin.formats.rpmfile import FileEntry
from respin.policy.content import judge_content


class Root:
    """As much of a root as is asked for: inodes by path, contents and targets."""

    def __init__(self, files: Dict[str, Any]) -> None:
        self.files = files
        self.view = SimpleNamespace(name="root")

    def lookup(self, path: str) -> Any:
        return self.files.get(path)

    def resolve(self, path: str) -> Any:
        return self.files.get(path)

    def readlink(self, inode: Any) -> str:
        return str(inode.target)


def inode(mode: int, size: int = 0, uid: int = 0, target: str = "") -> Any:
    return SimpleNamespace(mode=mode, size=size, uid=uid, gid=0, mtime=0, target=target, is_file=False, rdev=0)


def linked(made: Dict[str, Any]) -> List[str]:
    """Which of these ghosts may not be what they are."""
    fields = dict.fromkeys(FileEntry.__dataclass_fields__)
    fields.update(
        mode=stat.S_IFREG | 0o644, user="root", group="root", size=3, mtime=1, flags=64, linkto="", digest="x"
    )
    ghost: Any = SimpleNamespace(**{**fields, "is_ghost": True, "digest_algorithm": "sha256"})
    files = {path: SimpleNamespace(entry=ghost, nevra="p-1-1") for path in made}
    vendor = Root({"/usr/bin/vendor": inode(0o100755)})
    plan: Any = SimpleNamespace(files=files, node=SimpleNamespace(root=vendor))
    return [one.place for one in judge_content(plan, Root({**vendor.files, **made}))]  # type: ignore[arg-type]


def found(path: str, made: Any, *, mode: int = stat.S_IFREG | 0o755, other: Optional[str] = None) -> List[str]:
    fields = dict.fromkeys(FileEntry.__dataclass_fields__)
    fields.update(path=path, mode=mode, user="root", group="root", size=3, mtime=1, flags=64, linkto="", digest="x")
    ghost: Any = SimpleNamespace(**{**fields, "is_ghost": True, "digest_algorithm": "sha256"})
    shipped: Any = SimpleNamespace(**{**fields, "is_ghost": False})
    files = {path: SimpleNamespace(entry=ghost, nevra="p-1-1")}
    after = Root({path: made})
    if other is not None:
        files[other] = SimpleNamespace(entry=shipped, nevra="p-1-1")
    there = {"/usr/bin/vendor": 0o100755, "/var/lib/vendor": 0o40755, "/tmp": 0o41777}
    vendor = Root({path: inode(mode) for path, mode in there.items()})
    plan: Any = SimpleNamespace(files=files, node=SimpleNamespace(root=vendor))
    findings = list(judge_content(plan, after))  # type: ignore[arg-type]
    return [one.id for one in findings if one.place == path]


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("/usr/bin/ghost", inode(stat.S_IFREG | 0o755, 10)),
        ("/etc/ghost.conf", inode(stat.S_IFREG | 0o644, 10)),
        ("/etc/systemd/system/ghost.service", inode(stat.S_IFREG | 0o644, 10)),
        ("/var/lib/ghost/tool", inode(stat.S_IFREG | 0o755, 10)),
        ("/var/lib/ghost/state", inode(stat.S_IFREG | 0o644, 10, uid=7)),
        ("/var/lib/ghost/state", inode(stat.S_IFREG | 0o4644, 0)),
        ("/var/lib/ghost/device", inode(stat.S_IFBLK | 0o644)),
        ("/etc/ghost", inode(stat.S_IFLNK | 0o777, 9, target="/tmp/evil")),
        ("/etc/ghost", inode(stat.S_IFLNK | 0o777, 9, target="nowhere")),
        ("/etc/cron.d/ghost", inode(stat.S_IFLNK | 0o777, 9, target="/var/lib/vendor")),
        ("/etc/cron.d", inode(stat.S_IFLNK | 0o777, 9, target="../tmp")),
    ],
)
def test_what_a_ghost_may_not_become(path: str, made: Any) -> None:
    assert found(path, made) == ["content"]


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("/etc/ghost.conf", None),
        ("/etc/ghost.conf", inode(stat.S_IFREG | 0o644)),
        ("/var/lib/ghost/state", inode(stat.S_IFREG | 0o644, 10)),
        ("/usr/bin/ghost", inode(stat.S_IFLNK | 0o777, 9, target="../libexec/own")),
        ("/usr/bin/ghost", inode(stat.S_IFLNK | 0o777, 9, target="vendor")),
        ("/etc/ghost", inode(stat.S_IFLNK | 0o777, 9, target="/dev/null")),
    ],
)
def test_what_a_ghost_may_become(path: str, made: Any) -> None:
    assert found(path, made, other="/usr/libexec/own") == []


@pytest.mark.parametrize("path", ["/etc/cron.d/ghost", "/var/lib/ghost/current"])
@pytest.mark.parametrize("target", ["/var/lib/ghost/state", "/etc/alternatives/ghost"])
def test_a_ghost_that_leads_to_another_one(path: str, target: str) -> None:
    """State that may hold anything would be read as configuration."""
    state = inode(stat.S_IFREG | 0o644, 100)
    found = linked({path: inode(stat.S_IFLNK | 0o777, 9, target=target), target: state})
    assert path in found


def test_links_of_alternatives() -> None:
    """A chain of ghosts that ends at a program which is signed."""
    chain = ("/usr/bin/ghost", "/etc/alternatives/ghost", "/usr/bin/vendor")
    links = {one: inode(stat.S_IFLNK | 0o777, 9, target=other) for one, other in zip(chain, chain[1:])}
    assert linked(links) == []
