"""The small parts of the sandbox: id ranges, messages, paths in a root, the stand-in for uname, the transcript."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from respin import errors, process
from respin.errors import BuildError, MissingToolError, RespinError, UnsupportedError
from respin.root import chroot, database, idmaps, isolation, mounts, protocol
from respin.root.idmaps import Range


def test_ranges(tmp_path: Path) -> None:
    table = tmp_path / "subuid"
    name = idmaps.user_name(0)
    table.write_text(f"other:1:70000\n{name}:5:10\nbroken\n{name}:x:70000\n{name}:100000:65536\n{name}:9:99999\n")
    assert idmaps.find_range(table, 0) == Range(100000, 65536)
    table.write_text("4242424:7:65535\n")
    assert idmaps.find_range(table, 4242424) == Range(7, 65535)
    assert idmaps.find_range(table, 0) is None
    assert idmaps.find_range(tmp_path / "missing", 0) is None


def test_missing_ranges_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idmaps, "SUBUID", tmp_path / "subuid")
    with pytest.raises(MissingToolError) as caught:
        idmaps.required_ranges(4242424)
    assert caught.value.exit_code == 5
    assert "usermod --add-subuids" in str(caught.value.remedy)


def test_without_squashfuse_a_flat_root_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SEARCH_PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="squashfuse_ll") as caught:
        mounts.mount_squashfs("root.img", 0, str(tmp_path))
    assert caught.value.exit_code == 5
    assert "apt install squashfuse" in str(caught.value.remedy)


@pytest.mark.parametrize(
    "kind", [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, RespinError)]
)
def test_errors_travel(kind: "type[RespinError]") -> None:
    error = kind("what", where="where", remedy="remedy", finding="finding")
    back = protocol.rebuild_error(protocol.describe_error(error))
    assert type(back) is kind
    assert (back.what, back.where, back.remedy, back.finding) == ("what", "where", "remedy", "finding")


def test_other_errors_become_one_line() -> None:
    back = protocol.rebuild_error(protocol.describe_error(ValueError("first\nsecond")))
    assert type(back) is BuildError
    assert str(back) == "the sandbox failed: ValueError: first"
    assert "second" in back.detail  # type: ignore[attr-defined]


def test_channel() -> None:
    channel, theirs = protocol.pair()
    other = protocol.Channel(theirs)
    other.send({"type": "x", "text": "\udcff\u2028"})
    assert channel.receive() == {"type": "x", "text": "\udcff\u2028"}
    theirs.sendall(b'{"half": ')
    theirs.shutdown(socket.SHUT_RDWR)
    other.close()
    with pytest.raises(protocol.ClosedError):
        channel.receive()
    with pytest.raises(protocol.ClosedError):
        channel.send({"a": "b" * 1_000_000})
    channel.close()


def test_resolve(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/x").mkdir(parents=True)
    for name, target in (
        ("lib", "usr/lib"), ("abs", "/usr/lib"), ("up", "../../../usr"), ("loop", "loop"), ("dangling", "/nowhere"),
    ):  # fmt: skip
        (tmp_path / name).symlink_to(target)
    expected = {
        "/": "/", "/lib/x": "/usr/lib/x", "/abs/x": "/usr/lib/x", "/up/lib": "/usr/lib", "/lib/../lib": "/usr/lib",
        "/loop": None, "/dangling": None, "/usr/none": None, "/../../usr": "/usr", "/./lib/.": "/usr/lib",
    }  # fmt: skip
    assert {path: chroot.resolve(str(tmp_path), path) for path in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ("", "Linux"), ("-r", "6.1 'node'"), ("-sr", "Linux 6.1 'node'"), ("-s -r", "Linux 6.1 'node'"),
        ("-n", "respin"), ("--kernel-release", "6.1 'node'"), ("--nodename", "respin"), ("-rs", "Linux 6.1 'node'"),
        ("-a", "Linux respin 6.1 'node' #1 SMP MACHINE GNU/Linux"), ("-mr", "6.1 'node' MACHINE"),
        ("--help", "real --help"), ("-x", "real -x"), ("more", "real more"), ("-rx", "real -rx"),
    ],
)  # fmt: skip
def test_uname(arguments: str, answer: str, tmp_path: Path) -> None:
    shim, real = tmp_path / "uname", tmp_path / "real"
    chroot.write_uname(str(shim), "6.1 'node'")
    shim.write_text(shim.read_text().replace("/run/respin/uname", str(real)))
    real.write_text('#!/bin/sh\n[ "$*" = -m ] && echo MACHINE || echo real "$@"\n')
    real.chmod(0o755)
    for shell in ("dash", "bash"):
        if shutil.which(shell):
            done = subprocess.run([shell, shim, *arguments.split()], capture_output=True, text=True, check=True)
            assert done.stdout == answer + "\n"


def test_transcript_is_bounded_and_printable() -> None:
    transcript = isolation.Transcript()
    transcript.add(b"caf\xc3\xa9 \xff \x1b[2J\n\tlast line\n")
    assert transcript.text == "café \\xff \\x1b[2J\n\tlast line\n"
    assert transcript.tail(1) == "last line"
    for _ in range(3):
        transcript.add(b"x" * (1 << 20))
    assert len(transcript.text) < (1 << 20) + 100
    assert "cut off" in transcript.text


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((), "no rpm database"), (("Packages.db", "Packages"), "ndb and bdb"),
        (("rpmdb.sqlite", "Packages"), "sqlite and bdb"),
    ],
)  # fmt: skip
def test_other_databases(files: "tuple[str, ...]", words: str, tmp_path: Path) -> None:
    (tmp_path / "usr/db").mkdir(parents=True)
    (tmp_path / "db").symlink_to("/usr/db")
    for name in files:
        (tmp_path / "usr/db" / name).touch()
    with pytest.raises(UnsupportedError) as caught:
        database.find(str(tmp_path), "/db")
    assert words in caught.value.what
    for name in files:
        (tmp_path / "usr/db" / name).unlink()
    (tmp_path / "usr/db/rpmdb.sqlite").touch()
    assert database.find(str(tmp_path), "/db") == database.Database("/usr/db", "sqlite", "rpmdb.sqlite")
    assert os.listdir(tmp_path / "usr/db") == ["rpmdb.sqlite"]
