"""Processes in which ``respin`` runs and something happens to it: ``python -m tests.support.faulty``.

A server has everything imported and forks for each specification that it is told on standard input. That process forks
again. The child runs the command line with a console whose steps set off the fault. The parent adopts whatever the
child leaves behind (PR_SET_CHILD_SUBREAPER), waits for it, and writes down what is still there. File systems of limited
size are mounted in a mount namespace of its own, so that nothing of them can stay either.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import respin.cli
import respin.cli.common as common

PATIENCE = 20.0
NOSUID_NODEV_NOEXEC = 2 | 4 | 8
SUBREAPER, NEW_MOUNTS, PRIVATE = 36, 0x20000, (1 << 14) | (1 << 18)
_libc = ctypes.CDLL(None, use_errno=True)


class Director:
    """Counts the steps and sets off the fault at its place, once."""

    def __init__(self, spec: Dict[str, Any]) -> None:
        self.spec = spec
        self.steps: List[Dict[str, Any]] = []
        self._lock = threading.Lock()
        self._done = False

    def at(self, title: str, when: str) -> None:
        fault = self.spec["fault"]
        if fault is None or (fault["title"], fault["when"]) != (title, when):
            return
        with self._lock:
            if self._done:
                return
            self._done = True
        Path(self.spec["fired"]).touch()
        getattr(self, "_" + fault["action"])(fault)

    def watch_reads(self, path: str) -> None:
        """Count in each step how often this process reads the file."""
        wanted = os.stat(path)
        real = os.pread

        def pread(fd: int, length: int, offset: int) -> bytes:
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino) and self.steps:
                self.steps[-1]["reads"] += 1
            return real(fd, length, offset)

        os.pread = pread

    def middle(self, title: str) -> Optional[threading.Timer]:
        """For steps that do not advance: half of the time that the step took when it was recorded."""
        fault = self.spec["fault"]
        if fault is None or (fault["title"], fault["when"]) != (title, "middle"):
            return None
        timer = threading.Timer(fault["seconds"] / 2, self.at, (title, "middle"))
        timer.daemon = True
        timer.start()
        return timer

    def _signal(self, fault: Dict[str, Any]) -> None:
        os.kill(os.getpid(), fault["number"])
        if fault["number"] == signal.SIGKILL:
            time.sleep(60)

    def _fill(self, fault: Dict[str, Any]) -> None:
        with open(Path(fault["target"]) / "filler", "wb", buffering=0) as file:
            piece = 1 << 20
            while piece:
                try:
                    if file.write(bytes(piece)) < piece:
                        piece //= 2
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece //= 2

    def _eio(self, fault: Dict[str, Any]) -> None:
        """What a broken medium does to whoever reads this file from now on."""
        wanted = os.stat(fault["target"])
        real = os.pread

        def pread(fd: int, length: int, offset: int) -> bytes:
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(fd, length, offset)

        os.pread = pread

    def _rewrite(self, fault: Dict[str, Any]) -> None:
        with suppress(BlockingIOError), open(fault["target"], "r+b", opener=_without_waiting) as file:
            file.seek(fault["offset"])
            data = file.read(fault["length"])
            file.seek(fault["offset"])
            file.write(bytes(byte ^ 0x55 for byte in data))

    def _truncate(self, fault: Dict[str, Any]) -> None:
        with suppress(BlockingIOError), open(fault["target"], "r+b", opener=_without_waiting) as file:
            file.truncate(fault["offset"])

    def _agent(self, fault: Dict[str, Any]) -> None:
        """Kill the sandbox's agent, as the kernel does when memory runs out."""
        for pid in agents():
            os.kill(pid, signal.SIGKILL)


def _without_waiting(path: str, flags: int) -> int:
    """Open a file to write to it, but not if somebody has a lease on it; who has it hears of that all the same."""
    return os.open(path, flags | os.O_NONBLOCK)


def run_cli(spec: Dict[str, Any]) -> None:
    """The child: the real command line, watched."""
    for number, limit in spec["limits"].items():
        import resource

        resource.setrlimit(int(number), (limit, limit))
    director = Director(spec)
    if spec["reads_of"]:
        director.watch_reads(spec["reads_of"])

    class Watched(common.Console):
        @contextmanager
        def step(self, title: str, total: Optional[int] = None) -> Iterator[Any]:
            started = time.monotonic()
            record: Dict[str, Any] = {"title": title, "advances": 0, "reads": 0, "sandbox": bool(agents())}
            record.update(started=started, ended=started)
            director.steps.append(record)
            with super().step(title, total) as step:
                director.at(title, "start")
                timer = director.middle(title)

                class Advancing:
                    def advance(self, amount: int) -> None:
                        record["advances"] += 1
                        director.at(title, "middle")
                        step.advance(amount)

                yield Advancing()
                if timer is not None:
                    timer.cancel()
                    timer.join()  # it may be about to do it: then it is done before this step ends
                    director.at(title, "middle")
                director.at(title, "end")
                record["ended"] = time.monotonic()

    common.Console = Watched  # type: ignore[misc]
    try:
        respin.cli.main([str(part) for part in spec["argv"]])
    finally:
        Path(spec["steps"]).write_text(json.dumps(director.steps))


def children(parent: int) -> List[int]:
    """The pids of a process's children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return found


def listing(directory: str, slots: Dict[str, Sequence[int]]) -> Tuple[Dict[str, str], Dict[str, str]]:
    """Every path below a directory but the filler, and the SHA-256 of those that are files.

    The second time with zeros in the files' slots, each (offset, length).
    """
    found, without = {}, {}
    for path in Path(directory).rglob("*"):
        if path.name != "filler":
            name = str(path.relative_to(directory))
            data = path.read_bytes() if path.is_file() else b""
            found[name] = without[name] = hashlib.sha256(data).hexdigest()
            offset, length = slots.get(name, (0, 0))
            if length and len(data) >= offset + length:
                blank = data[:offset] + bytes(length) + data[offset + length :]
                without[name] = hashlib.sha256(blank).hexdigest()
    return found, without


def agents() -> List[int]:
    """The children of this process that are a sandbox's agent."""
    found = []
    for pid in children(os.getpid()):
        try:
            if b"respin.root.agent" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def mount_small(directory: str, size: int) -> None:
    """A tmpfs of ``size`` bytes from which nothing can be executed."""
    options = f"size={size},mode=0755".encode()
    if _libc.mount(b"small", os.fsencode(directory), b"tmpfs", NOSUID_NODEV_NOEXEC, options) != 0:
        raise OSError(ctypes.get_errno(), "mount")


def supervise(spec: Dict[str, Any]) -> Dict[str, Any]:
    """Run the child, wait for all that it left, and say what is still there."""
    assert _libc.prctl(SUBREAPER, 1, 0, 0, 0) == 0
    if spec["mounts"]:
        assert _libc.unshare(NEW_MOUNTS) == 0
        assert _libc.mount(b"none", b"/", None, PRIVATE, None) == 0
        for directory, size in spec["mounts"].items():
            mount_small(directory, size)
    for path, source in spec["copies"].items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(Path(source).read_bytes())
    mounts = Path("/proc/self/mountinfo").read_text()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        # Whatever whoever runs the tests has ignored: a shell does that to what it runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        run_cli(spec)
        os._exit(99)
    status: Optional[int] = None
    deadline = started + 300
    seconds = 0.0
    while True:
        if spec["kill_after"] is not None and status is None and time.monotonic() - started >= spec["kill_after"]:
            os.kill(pid, spec["kill_with"])
            spec["kill_after"] = None
        try:
            done, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if done == pid:
            status, seconds = os.waitstatus_to_exitcode(code), time.monotonic() - started
            deadline = time.monotonic() + PATIENCE
        elif done == 0:
            time.sleep(0.005)
        if time.monotonic() > deadline:
            break
    survivors = []
    for left in children(os.getpid()):
        survivors.append(Path(f"/proc/{left}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        os.kill(left, signal.SIGKILL)
    lists = {name: listing(path, spec["slots"]) for name, path in spec["watched"].items()}
    return {
        "status": status,
        "seconds": seconds,
        "survivors": survivors,
        "mounts": Path("/proc/self/mountinfo").read_text() != mounts and not spec["shared_mounts"],
        "fired": Path(spec["fired"]).exists(),
        "left": {name: found for name, (found, _) in lists.items()},
        "same": {name: without for name, (_, without) in lists.items()},
    }


def perform(spec: Dict[str, Any]) -> None:
    """In a process of its own: what the specification says, in the environment that it says."""
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, spec["stdout"], os.O_WRONLY | os.O_CREAT),
        (2, spec["stderr"], os.O_WRONLY | os.O_CREAT),
    ):
        fd = os.open(name, flags, 0o600)
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(spec["environment"])
    tempfile.tempdir = None
    found = supervise(spec)
    Path(spec["report"]).write_text(json.dumps(found))


def serve() -> None:
    """One line in for each specification, one line out when it is done: the status that its process ended with."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            perform(json.loads(Path(line.rstrip("\n")).read_text()))
            os._exit(0)
        _, code = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(code)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    for command in ("build", "bundle", "diff", "pxe", "reproduce", "restore", "sbom", "sign", "verify"):
        importlib.import_module(f"respin.cli.{command}")
    serve()
