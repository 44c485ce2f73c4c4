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


def found(path: str, made: Any, *, mode: int = stat.S_IFREG | 0o755, other: Optional[str] = None) -> List[str]:
    fields = dict.fromkeys(FileEntry.__dataclass_fields__)
    fields.update(path=path, mode=mode, user="root", group="root", size=3, mtime=1, flags=64, linkto="", digest="x")
    ghost: Any = SimpleNamespace(**{**fields, "is_ghost": True, "digest_algorithm": "sha256"})
    shipped: Any = SimpleNamespace(**{**fields, "is_ghost": False})
    files = {path: SimpleNamespace(entry=ghost, nevra="p-1-1")}
    after = Root({path: made})
    if other is not None:
        files[other] = SimpleNamespace(entry=shipped, nevra="p-1-1")
    plan: Any = SimpleNamespace(files=files, node=SimpleNamespace(root=Root({"/usr/bin/vendor": inode(0o100755)})))
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
