"""The second copy of /etc: made in a root, and the rules by which a delta is held against it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Optional

import pytest

from respin.errors import PolicyError
from respin.policy.factory import Factory
from respin.root.delta import Attributes, Change, Delta, Entry, Kind
from respin.root.factory import counterpart, mirror, mirrored_times

FACTORY = "/usr/share/factory/etc"
FILE = Attributes(Kind.FILE, 0o640, 0, 5, 1000, 4, "ab" * 32, None, {"user.x": b"1", "security.selinux": b"x\0"})
DIRECTORY = Attributes(Kind.DIRECTORY, 0o755, 0, 0, 1000)


class _Root:
    """A vendor's root of which only names and kinds matter."""

    def __init__(self, *paths: str) -> None:
        self._paths = paths

    def lookup(self, path: str) -> Optional[Any]:
        return SimpleNamespace(is_directory=path.endswith("etc")) if path in self._paths else None


def plan(*paths: str, factory: str = FACTORY) -> Any:
    marks = SimpleNamespace(factory=factory)
    return SimpleNamespace(node=SimpleNamespace(profile=SimpleNamespace(marks=marks), root=_Root(FACTORY, *paths)))


def judged(*entries: Entry, vendor: Any = None) -> List[str]:
    delta = Delta(tuple(sorted(entries, key=lambda entry: entry.path)))
    return [finding.place for finding in Factory(delta, vendor or plan()).judge()]


ADDED = Entry("/etc/new", Change.ADDED, FILE)
COPY = Entry(FACTORY + "/new", Change.ADDED, FILE)


def test_what_is_added_needs_the_same_copy() -> None:
    assert judged(ADDED, COPY) == []
    assert judged(ADDED) == [FACTORY + "/new"]
    for changed in ({"mode": 0o644}, {"uid": 1}, {"sha256": "cd" * 32}, {"xattrs": {}}, {"mtime": 7}):
        assert judged(ADDED, replace(COPY, new=replace(FILE, **changed))) == [FACTORY + "/new"], changed


def test_a_copy_has_the_label_of_its_own_place() -> None:
    other = replace(FILE, xattrs={"user.x": b"1", "security.selinux": b"y\0"})
    assert judged(ADDED, replace(COPY, new=other)) == []


def test_what_is_changed_needs_a_copy_where_there_is_one() -> None:
    changed = Entry("/etc/new", Change.CHANGED, FILE, replace(FILE, size=3))
    assert judged(changed) == []
    assert judged(changed, vendor=plan(FACTORY + "/new")) == [FACTORY + "/new"]


def test_without_such_a_directory_there_is_no_rule() -> None:
    assert judged(ADDED, vendor=plan(factory="")) == []
    assert judged(ADDED, vendor=plan(factory="/no/such/etc")) == []


def test_only_a_copy_of_what_changed_is_one() -> None:
    factory = Factory(Delta((ADDED, COPY)), plan())
    assert factory.is_copy(COPY)
    assert not factory.is_copy(ADDED)
    assert not factory.is_copy(replace(COPY, path=FACTORY + "/other"))
    assert not Factory(Delta((COPY,)), plan()).is_copy(COPY)
    link = Entry(FACTORY + "/new", Change.ADDED, Attributes(Kind.SYMLINK, 0o777, 0, 0, 1000, target="/x"))
    assert not factory.is_copy(link)


def test_times_of_copies_are_those_of_the_originals() -> None:
    assert mirrored_times({"/etc/a": 5, "/usr/b": 6}, FACTORY) == {"/etc/a": 5, "/usr/b": 6, FACTORY + "/a": 5}
    assert mirrored_times({"/etc/a": 5}, "") == {"/etc/a": 5}
    assert counterpart("/etcetera/a", FACTORY) == counterpart("/etc", FACTORY) == ""


def _scratch(tmp: Path) -> Any:
    for name in ("lower", "merged"):
        (tmp / name / FACTORY[1:] / "kept").mkdir(parents=True)
        (tmp / name / "etc").mkdir()
    return SimpleNamespace(lower=str(tmp / "lower"), merged=str(tmp / "merged"))


def _file(path: str, change: Change = Change.ADDED) -> Entry:
    return Entry(path, change, FILE, None if change is Change.ADDED else FILE)


def test_files_links_and_directories_are_copied_with_their_attributes(tmp_path: Path) -> None:
    scratch = _scratch(tmp_path)
    merged = tmp_path / "merged"
    (merged / "etc/dir").mkdir(mode=0o750)
    (merged / "etc/dir/file").write_text("text")
    (merged / "etc/dir/file").chmod(0o600)
    os.setxattr(merged / "etc/dir/file", "user.x", b"1")
    (merged / "etc/link").symlink_to("dir/file")
    (merged / "etc/changed").write_text("new")
    (merged / FACTORY[1:] / "changed").write_text("old")
    (tmp_path / "lower" / FACTORY[1:] / "changed").write_text("old")
    (merged / "etc/alone").write_text("changed, and has no copy")
    entries = (
        _file("/etc/alone", Change.CHANGED),
        _file("/etc/changed", Change.CHANGED),
        _file("/etc/dir/file"),
        Entry("/etc/link", Change.ADDED, Attributes(Kind.SYMLINK, 0o777, 0, 0, 0, target="dir/file")),
    )
    assert mirror(scratch, Delta(entries), FACTORY)
    copy = merged / FACTORY[1:]
    assert (copy / "dir/file").read_text() == "text"
    assert (copy / "dir").stat().st_mode & 0o7777 == 0o750
    assert (copy / "dir/file").stat().st_mode & 0o7777 == 0o600
    assert os.getxattr(copy / "dir/file", "user.x") == b"1"
    assert os.readlink(copy / "link") == "dir/file"
    assert (copy / "changed").read_text() == "new"
    assert not (copy / "alone").exists()


def test_a_link_on_the_way_to_the_copy_is_refused(tmp_path: Path) -> None:
    scratch = _scratch(tmp_path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "merged/etc/dir").mkdir()
    (tmp_path / "merged/etc/dir/file").write_text("text")
    (tmp_path / "merged" / FACTORY[1:] / "dir").symlink_to(tmp_path / "outside")
    with pytest.raises(PolicyError) as caught:
        mirror(scratch, Delta((_file("/etc/dir/file"),)), FACTORY)
    assert caught.value.finding == "factory"
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_root_without_the_directory_gets_none(tmp_path: Path) -> None:
    scratch = _scratch(tmp_path)
    (tmp_path / "merged/etc/file").write_text("text")
    assert not mirror(scratch, Delta((_file("/etc/file"),)), "/usr/share/other/etc")
    assert not (tmp_path / "merged/usr/share/other").exists()
