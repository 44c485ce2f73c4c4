"""Temporary space and outputs when things go wrong around them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List

import pytest

from respin import workspace as workspace_module
from respin.byteview import FileView
from respin.errors import BuildError, UsageError
from respin.formats.openpgp import home
from respin.process import Completed
from respin.scratch import Reaper, Workspace
from respin.workspace import Output, publish_all, staged_file, write_file

MAKES_ONE = """
import sys, time, pathlib
from respin.scratch import Workspace
workspace = Workspace(pathlib.Path(sys.argv[1]))
(workspace.path / "x").write_text("x")
print(workspace.reaper._process.pid, flush=True)
time.sleep(60)
"""


def started(tmp_path: Path) -> "tuple[subprocess.Popen[bytes], int]":
    """A process with a workspace, and its reaper's pid."""
    child = subprocess.Popen([sys.executable, "-c", MAKES_ONE, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    return child, int(child.stdout.readline())


def test_what_was_killed_with_its_reaper_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "respin-mine").mkdir()
    (tmp_path / "respin-0123456789abcdef").write_text("a file of somebody's")
    killed, reaper = started(tmp_path)
    living, _ = started(tmp_path)
    before = set(tmp_path.iterdir())
    os.kill(reaper, signal.SIGKILL)
    killed.kill()
    killed.wait()
    try:
        assert set(tmp_path.iterdir()) == before, "nobody is left who would have removed it"
        with Workspace(tmp_path) as workspace:
            gone = before - set(tmp_path.iterdir())
            assert len(gone) == 1
            assert workspace.path.is_dir()
    finally:
        living.kill()
        living.wait()
    deadline = time.monotonic() + 20
    while len(list(tmp_path.iterdir())) > 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["respin-0123456789abcdef", "respin-mine"]


def test_a_sweep_between_making_and_locking_costs_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command that starts at this moment takes the new directory for one whose owner is dead."""
    mkdir, made = Path.mkdir, []

    def swept(path: Path, *arguments: Any, **options: Any) -> None:
        mkdir(path, *arguments, **options)
        made.append(path)
        if len(made) == 1:
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", swept)
    with Workspace(tmp_path) as workspace:
        assert workspace.path.is_dir()
    assert made == [workspace.path] * 2
    assert not list(tmp_path.iterdir())


def test_many_commands_that_start_at_once_leave_each_other_their_directories(tmp_path: Path) -> None:
    script = "import sys, pathlib\nfrom respin.scratch import Workspace\nplace = pathlib.Path(sys.argv[1])\n"
    script += "for _ in range(20):\n    with Workspace(place) as one:\n        (one.path / 'x').write_text('x')\n"
    children = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(4)
    ]
    told = [child.communicate(timeout=120)[1] for child in children]
    assert told == [b""] * len(children)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_removed_at_once_is_removed_as_soon_as_it_can(tmp_path: Path) -> None:
    """Whoever is killed leaves programs that go on to write until they notice; here a file that stays for a second."""
    killed, _ = started(tmp_path)
    (place,) = tmp_path.iterdir()
    if subprocess.run(["chattr", "+i", place / "x"], capture_output=True, check=False).returncode:
        killed.kill()
        pytest.skip("only root can make a file stay, on a file system that can")
    killed.kill()
    killed.wait()
    time.sleep(1)
    assert [path.name for path in place.iterdir()] == ["x"]
    subprocess.run(["chattr", "-i", place / "x"], check=True)
    deadline = time.monotonic() + 20
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught, Workspace(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (caught.value.finding, caught.value.where) == ("no-space", str(tmp_path))
    assert "--tmpdir" in (caught.value.remedy or "")
    with pytest.raises(OSError, match="elsewhere"), Workspace(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere")
    assert list(tmp_path.iterdir()) == []


def test_a_reaper_does_what_it_was_told_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys,time; from respin.scratch import Reaper; r = Reaper()\n"
        "r.run(['/usr/bin/touch', sys.argv[1]], {}); print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "done")], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    assert list(tmp_path.iterdir()) == []
    child.kill()
    child.wait()
    deadline = time.monotonic() + 20
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["done"]


def test_a_dismissed_reaper_does_nothing(tmp_path: Path) -> None:
    reaper = Reaper()
    reaper.remove(tmp_path)
    reaper.dismiss()
    assert tmp_path.is_dir()


def test_a_key_that_finds_no_room_is_not_an_unknown_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = b"gpg: error writing keyring: No space left on device\n"
    monkeypatch.setattr(home.process, "run", lambda argv, **_: Completed(tuple(argv), 2, b"", said))
    with pytest.raises(BuildError) as caught:
        home.gpg(tmp_path, ["--import"])
    assert caught.value.finding == "no-space"


def test_a_byte_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")

    def broken(fd: int, length: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    fd = os.open(tmp_path / "x", os.O_RDONLY)
    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(BuildError, match=r"byte 7 .*Input/output error") as caught:
        FileView(fd, "the ISO", 5).read(2, 3)
    assert (caught.value.where, caught.value.finding) == ("the ISO", "cannot-read")
    os.close(fd)


# --- outputs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no files without a name, as FUSE and NFS."""
    real = os.open

    def without_tmpfile(path: Any, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", without_tmpfile)


@pytest.fixture
def without_links(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links besides, as on a USB stick."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", refuse)


def check_outputs(tmp_path: Path) -> None:
    """New, kept and replaced outputs."""
    write_file(tmp_path / "new", b"new")
    with pytest.raises(UsageError, match="exists"):
        write_file(tmp_path / "new", b"other")
    write_file(tmp_path / "new", b"replaced", force=True)
    with Output(tmp_path / "given up") as output:
        os.write(output.fd, b"half")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"new": b"replaced"}


def test_outputs_without_unnamed_files(tmp_path: Path, plain: None) -> None:
    check_outputs(tmp_path)


def test_outputs_without_links(tmp_path: Path, without_links: None) -> None:
    check_outputs(tmp_path)


def test_a_part_of_a_killed_command_is_removed_and_one_of_a_living_is_not(tmp_path: Path, plain: None) -> None:
    stale = tmp_path / ".respin-0123456789abcdef.part"
    stale.write_bytes(b"half an ISO")
    with Output(tmp_path / "one") as one:
        assert not stale.exists()
        parts = list(tmp_path.iterdir())
        assert len(parts) == 1
        with Output(tmp_path / "two"):
            assert set(parts) < set(tmp_path.iterdir())
        os.write(one.fd, b"whole")
        one.publish()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_of_several_outputs_all_get_their_names_or_none(tmp_path: Path) -> None:
    for name in ("a", "b", "stale"):
        (tmp_path / name).write_bytes(b"old")
    outputs = [staged_file(tmp_path / name, b"new", force=True) for name in ("a", "b", "c")]
    with Output(tmp_path / "d") as last:
        (tmp_path / "d").write_bytes(b"somebody else's")
        with pytest.raises(UsageError, match="exists"):
            publish_all([*outputs, last], [tmp_path / "stale"])
    for output in outputs:
        output.close()
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert left == {"a": b"old", "b": b"old", "stale": b"old", "d": b"somebody else's"}


def test_an_interruption_waits_until_all_are_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = [staged_file(tmp_path / name, b"new") for name in ("a", "b")]
    real = workspace_module.link_unnamed

    def interrupted(fd: int, target: Path) -> None:
        signal.raise_signal(signal.SIGINT)
        real(fd, target)

    monkeypatch.setattr(workspace_module, "link_unnamed", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            publish_all(outputs)
    finally:
        signal.signal(signal.SIGINT, before)
    names: List[str] = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a", "b"]
    for output in outputs:
        output.close()
