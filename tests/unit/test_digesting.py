"""A digest that is made beside other work: the right one, or none, and nothing is left of whoever makes it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import List

import pytest

from respin.digesting import PIECE, digesting
from respin.errors import VerificationError
from respin.node.base import claim_pinned, verify_base
from respin.progress import SILENT
from respin.unchanged import ReadLease, _file_system


@pytest.mark.parametrize("size", [0, 1, PIECE, 35 * PIECE + 17])
def test_it_is_what_others_compute(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    advanced: List[int] = []
    with digesting(tmp_path / "file") as running:
        assert running is not None
        found = running.result(advanced.append)
    assert found == (
        hashlib.sha256(data).hexdigest(),
        tuple(zlib.crc32(data[at : at + PIECE]) for at in range(0, size, PIECE)),
    )
    assert sum(advanced) == size


def test_what_is_no_file_is_left_to_whoever_opens_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "pipe", "missing"):
        with digesting(tmp_path / name) as running:
            assert running is None


def test_a_base_is_verified_by_it(tmp_path: Path) -> None:
    base, other = tmp_path / "base", tmp_path / "other"
    base.write_bytes(b"x" * 5_000_000)
    other.write_bytes(b"y" * 5_000_000)
    with digesting(base) as begun, base.open("rb") as file, other.open("rb") as wrong:
        # Asked for another file, it is not believed: that one is read.
        claims = [claim_pinned(hashlib.sha256(path.read_bytes()).hexdigest(), "x") for path in (base, other)]
        assert verify_base(wrong.fileno(), other, claims[1], SILENT, begun).lease is None
        with pytest.raises(VerificationError):
            verify_base(wrong.fileno(), other, claims[0], SILENT, begun)
        verified = verify_base(file.fileno(), base, claims[0], SILENT, begun)
        assert verified.lease is not None
    assert verified.checks == tuple(zlib.crc32(b"x" * size) for size in (PIECE,) * 4 + (5_000_000 - 4 * PIECE,))


def test_one_that_was_killed_has_no_result(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(64 * PIECE))
    with digesting(tmp_path / "file") as running, (tmp_path / "file").open("rb") as file:
        assert running is not None
        os.kill(running._pid, signal.SIGKILL)
        base = verify_base(
            file.fileno(), tmp_path, claim_pinned(hashlib.sha256(bytes(64 * PIECE)).hexdigest(), "x"), SILENT, running
        )
    assert base.lease is None
    assert base.size == 64 * PIECE


def test_it_does_not_outlive_whoever_asked(tmp_path: Path) -> None:
    (tmp_path / "file").open("wb").truncate(64 << 30)
    script = (
        "import os, sys; from pathlib import Path; from respin.digesting import digesting\n"
        "with digesting(Path(sys.argv[1])) as running: print(running._pid, flush=True); sys.stdin.read()\n"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "file"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert asking.stdout is not None
    pid = int(asking.stdout.readline())
    asking.kill()
    asking.communicate()
    for _ in range(200):
        if not _is_running(pid):
            return
        time.sleep(0.05)
    raise AssertionError("it still reads")


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


class TestReadLease:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        (tmp_path / "file").write_bytes(b"content")
        return tmp_path / "file"

    def test_it_holds_while_nobody_writes(self, file: Path) -> None:
        with file.open("rb") as mine:
            lease = ReadLease(mine.fileno())
            if not lease.holds:
                pytest.skip("no leases on this file system")
            assert file.read_bytes() == b"content"
            assert lease.holds

    def test_none_is_asked_for_where_others_write_behind_the_kernels_back(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("respin.unchanged._file_system", lambda fd: "fuse.sshfs")
        with file.open("rb") as mine:
            assert not ReadLease(mine.fileno()).holds

    def test_it_is_known_what_a_file_lies_on(self, file: Path) -> None:
        kind = subprocess.run(
            ["findmnt", "-n", "-o", "FSTYPE", "-T", file], capture_output=True, text=True, check=True
        ).stdout.split()[-1]
        with file.open("rb") as mine, open("/proc/self/status", "rb") as other:
            assert _file_system(mine.fileno()) == kind
            assert _file_system(other.fileno()) == "proc"

    def test_it_is_not_given_while_somebody_writes(self, file: Path) -> None:
        with file.open("r+b"), file.open("rb") as mine:
            assert not ReadLease(mine.fileno()).holds

    @pytest.mark.parametrize("how", ["open", "truncate"])
    def test_whoever_writes_breaks_it_first(self, file: Path, how: str) -> None:
        with file.open("rb") as mine:
            lease = ReadLease(mine.fileno())
            if not lease.holds:
                pytest.skip("no leases on this file system")
            script = "open(path, 'r+b').write(b'CONTENT')" if how == "open" else "os.truncate(path, 3)"
            writer = subprocess.Popen([sys.executable, "-c", f"import os, sys; path = sys.argv[1]; {script}", file])
            for _ in range(200):
                if not lease.holds:
                    break
                time.sleep(0.05)
            assert not lease.holds
            assert os.pread(mine.fileno(), 10, 0) == b"content", "it has to wait"
            assert writer.poll() is None
        assert writer.wait() == 0
        assert file.read_bytes() == (b"CONTENT" if how == "open" else b"con")
