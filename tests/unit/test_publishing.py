"""Several files get their names: killed at any system call, all of them are old or all of them are new."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Dict, List

import pytest

from respin.errors import UsageError
from respin.workspace import Output, publish_all, staged_file
from tests.support.killing import killed_at

PUBLISHES = """
import errno
from pathlib import Path
from respin.scratch import Workspace
from respin.workspace import publish_all, staged_file

out, tmp, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
real_open = os.open

def without_tmpfile(path, flags, *rest, **more):
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        raise OSError(errno.EOPNOTSUPP, "not supported")
    return real_open(path, flags, *rest, **more)

if "plain" in how:
    os.open = without_tmpfile
with Workspace(tmp) as workspace:
    count("link", "replace", "rename", "unlink", "fsync")
    force = "force" in how
    outputs = [staged_file(out / name, b"new", force=force, reaper=workspace.reaper) for name in ("a", "b", "c")]
    if "alone" in how:
        os.kill(workspace.reaper._process.pid, signal.SIGKILL)
    publish_all(outputs, [out / "stale"] if force else [])
    for output in outputs:
        output.close()
"""


def contents(directory: Path) -> Dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def left_by(how: str, at: int, path: Path) -> "tuple[int, Dict[str, bytes]]":
    """The status of one that is killed at its ``at``-th system call, and what is there when its helper is done."""
    out, tmp = path / f"{at}", path / f"{at}.tmp"
    out.mkdir()
    tmp.mkdir()
    (out / "other").write_bytes(b"somebody's")
    if "force" in how:
        for name in ("a", "b", "stale"):
            (out / name).write_bytes(b"old")
    patience = 0 if "alone" in how else 20
    status = killed_at(at, PUBLISHES, out, tmp, how, leaves=lambda: any(tmp.iterdir()), patience=patience)
    return status, contents(out)


@pytest.mark.parametrize("how", ["new", "force", "new plain", "force plain"])
def test_killed_at_any_system_call_all_are_old_or_all_are_new(tmp_path: Path, how: str) -> None:
    other = {"other": b"somebody's"}
    old = {**other, "a": b"old", "b": b"old", "stale": b"old"} if "force" in how else other
    new = {**other, "a": b"new", "b": b"new", "c": b"new"}
    seen: List[Dict[str, bytes]] = []
    for at in range(1, 60):
        status, left = left_by(how, at, tmp_path)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        assert left in (old, new), f"killed at call {at}"
        seen.append(left)
    assert len(seen) > 8, "this many calls at least"
    assert left == new, "the one that was not killed"
    assert seen[0] == old
    assert seen == sorted(seen, key=lambda one: one == new), "never back"


@pytest.mark.parametrize("how", ["new alone", "force alone"])
def test_killed_with_the_helper_the_last_one_is_new_only_if_all_are(tmp_path: Path, how: str) -> None:
    """The ISO is the last one: whoever sees a new one sees what belongs to it."""
    mixed = 0
    for at in range(1, 60):
        status, left = left_by(how, at, tmp_path)
        if status == 0:
            break
        states = [left.get(name) for name in ("a", "b", "c")]
        fresh = [state == b"new" for state in states]
        assert fresh == sorted(fresh, reverse=True), "in their order"
        assert "stale" not in left or not any(fresh)
        mixed += any(fresh) and not all(fresh)
        with staged_file(tmp_path / f"{at}" / "next", b""):
            assert not [name for name in contents(tmp_path / f"{at}") if name.endswith(".part")], "swept"
    assert status == 0
    assert mixed > 0


def test_what_was_not_replaced_yet_is_not_left_with_a_second_name(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"old")
    first, second = Output(tmp_path / "a"), staged_file(tmp_path / "b", b"new", force=True)
    (tmp_path / "a").write_bytes(b"somebody else's")
    with pytest.raises(UsageError, match="exists"):
        publish_all([first, second])
    first.close()
    second.close()
    assert contents(tmp_path) == {"a": b"somebody else's", "b": b"old"}


def test_what_others_named_meanwhile_stays(tmp_path: Path) -> None:
    """The helper takes away what its command made, and nothing else."""
    out, tmp = tmp_path / "out", tmp_path / "tmp"
    out.mkdir()
    tmp.mkdir()
    (out / "a").write_bytes(b"somebody else's")
    status = os.stat(out / "a")
    code = (
        "from pathlib import Path; from respin.scratch import Workspace\n"
        "workspace = Workspace(Path(sys.argv[1]))\n"
        "workspace.reaper.undo([(Path(sys.argv[2]), None, (1, int(sys.argv[3])))])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert killed_at(0, code, tmp, out / "a", status.st_ino, leaves=lambda: any(tmp.iterdir())) == -signal.SIGKILL
    assert contents(out) == {"a": b"somebody else's"}


def test_files_of_several_directories_are_published_alone_in_each(tmp_path: Path) -> None:
    """A directory by two names is locked once: nobody waits for themselves."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "also").symlink_to("one")
    with ExitStack() as stack:
        places = ("one/a", "two/b", "also/c")
        outputs = [stack.enter_context(staged_file(tmp_path / place, place.encode())) for place in places]
        held = os.open(tmp_path / "two", os.O_RDONLY)
        stack.callback(os.close, held)
        fcntl.flock(held, fcntl.LOCK_EX)
        publishing = threading.Thread(target=publish_all, args=(outputs,), daemon=True)
        publishing.start()
        publishing.join(0.3)
        assert publishing.is_alive(), "it waits for whoever publishes in the other directory"
        assert not any((tmp_path / place).exists() for place in places)
        fcntl.flock(held, fcntl.LOCK_UN)
        publishing.join(20)
        assert not publishing.is_alive()
    assert contents(tmp_path / "one") == {"a": b"one/a", "c": b"also/c"}
    assert contents(tmp_path / "two") == {"b": b"two/b"}
