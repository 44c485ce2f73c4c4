"""A directory of outputs appears whole or not at all, and takes nobody else's files away."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Dict

import pytest

from respin import directory
from respin.directory import SUMS, OutputDirectory
from respin.errors import BuildError, UsageError
from tests.support.killing import killed_at

WHEN = 1_600_000_000
FILES = {"boot/kernel": b"kernel\n", "menu": b"menu\n"}


def write(target: Path, files: Dict[str, bytes] = FILES, *, force: bool = False) -> None:
    with OutputDirectory(target, WHEN, force=force) as output:
        for name, data in files.items():
            assert output.write(name, [data[:3], data[3:]]) == len(data)
        output.publish()


def contents(top: Path) -> Dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_it_holds_what_was_written_and_a_list_that_sha256sum_checks(tmp_path: Path) -> None:
    write(tmp_path / "out")
    found = contents(tmp_path)
    assert found.pop(f"out/{SUMS}").count(b"\n") == 2
    assert found == {f"out/{name}": data for name, data in FILES.items()}
    subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=tmp_path / "out", check=True, capture_output=True)
    everything = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert {path.stat().st_mtime for path in everything} == {WHEN}


def test_what_is_not_published_leaves_nothing(tmp_path: Path) -> None:
    with OutputDirectory(tmp_path / "out", WHEN) as output:
        output.write("menu", [b"menu\n"])
        assert [path.name[:7] for path in tmp_path.iterdir()] == ["respin-"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["directory", "empty directory", "file", "dangling link"])
def test_an_output_that_exists_is_refused(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out"
    if kind == "directory":
        write(target)
    elif kind == "empty directory":
        target.mkdir()
    elif kind == "file":
        target.write_bytes(b"precious")
    else:
        target.symlink_to("nowhere")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="exists already"):
        OutputDirectory(target, WHEN)
    assert contents(tmp_path) == before


def test_force_replaces_what_was_made_this_way(tmp_path: Path) -> None:
    write(tmp_path / "out")
    write(tmp_path / "out", {"other": b"other\n"}, force=True)
    assert sorted(contents(tmp_path)) == [f"out/{SUMS}", "out/other"]
    write(tmp_path / "new", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out"]


@pytest.mark.parametrize("name", ["notes", "boot/more", ".hidden"])
def test_force_does_not_lose_what_others_put_there(tmp_path: Path, name: str) -> None:
    write(tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(b"precious")
    with pytest.raises(UsageError, match=name) as caught:
        OutputDirectory(tmp_path / "out", WHEN, force=True)
    assert caught.value.finding == "foreign-file"
    assert (tmp_path / "out" / name).read_bytes() == b"precious"


def test_force_does_not_lose_what_comes_in_while_it_writes(tmp_path: Path) -> None:
    write(tmp_path / "out")
    with OutputDirectory(tmp_path / "out", WHEN, force=True) as output:
        (tmp_path / "out" / "notes").write_bytes(b"precious")
        with pytest.raises(UsageError, match="notes"):
            output.publish()
    assert contents(tmp_path)["out/notes"] == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["a directory with files", "a link", "a file"])
def test_force_replaces_nothing_that_is_not_ours(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out"
    if kind == "a directory with files":
        target.mkdir()
        (target / "menu").write_bytes(b"precious")
    elif kind == "a link":
        write(tmp_path / "real")
        target.symlink_to("real")
    else:
        target.write_bytes(b"precious")
    before = contents(tmp_path)
    with pytest.raises(UsageError):
        OutputDirectory(target, WHEN, force=True)
    assert contents(tmp_path) == before


def test_a_name_that_is_taken_meanwhile_stays_with_who_took_it(tmp_path: Path) -> None:
    with OutputDirectory(tmp_path / "out", WHEN) as output:
        output.write("menu", [b"menu\n"])
        (tmp_path / "out").mkdir()
        with pytest.raises(UsageError, match="exists already"):
            output.publish()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list((tmp_path / "out").iterdir()) == []


def test_without_renameat2_a_new_directory_gets_its_name_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("respin.naming._LIBC", object())
    write(tmp_path / "out")
    before = contents(tmp_path)
    with pytest.raises(BuildError, match="in one step"):
        write(tmp_path / "out", {"other": b"other\n"}, force=True)
    assert contents(tmp_path) == before


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(tmp_path / "out")
    before = contents(tmp_path)
    monkeypatch.setattr(directory, "write_all", full)
    with pytest.raises(BuildError) as caught:
        write(tmp_path / "out", force=True)
    assert caught.value.finding == "no-space"
    assert caught.value.where == str(tmp_path / "out")
    assert contents(tmp_path) == before


def test_a_parent_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        OutputDirectory(tmp_path / "no" / "out", WHEN)


KILLED = """
from pathlib import Path
import respin.directory, respin.naming
from respin.directory import OutputDirectory

target, force = Path(sys.argv[1]), sys.argv[2] == "force"
count("mkdir", "open", "write", "fsync", "utime", "close")
respin.naming._renameat2 = counted(respin.naming._renameat2)
with OutputDirectory(target, 1, force=force) as output:
    output.write("boot/kernel", [b"new"])
    output.publish()
"""


def is_beside(top: Path) -> bool:
    """Whether there is something but the output."""
    return any(path.name != "out" for path in top.iterdir())


@pytest.mark.parametrize("how", ["new", "force"])
def test_killed_at_any_system_call_it_is_old_or_new(tmp_path: Path, how: str) -> None:
    states = []
    for at in range(1, 200):
        top = tmp_path / f"{at}"
        top.mkdir()
        old = {}
        if how == "force":
            write(top / "out", {"boot/kernel": b"old"})
            old = contents(top)
        status = killed_at(at, KILLED, top / "out", how, leaves=partial(is_beside, top))
        found = contents(top)
        states.append(found.get("out/boot/kernel"))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        assert found == old or (found["out/boot/kernel"] == b"new" and f"out/{SUMS}" in found), f"killed at call {at}"
    assert status == 0
    assert len(states) > 12, "this many calls at least"
    assert states[0] != b"new"
    assert states[-2] == b"new", "killed behind the last moment that counts"
