"""Runs one task in a process, mount and pid namespace of its own, with a time limit and its output captured.

The task is pid 1 of the new namespace: when it ends, the kernel kills whatever it left running.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from dataclasses import dataclass
from typing import Any, Callable, List, Sequence

from respin.errors import BuildError
from respin.root import chroot, protocol, syscalls
from respin.safepath import printable

_TRANSCRIPT_LIMIT = 1 << 20


class Transcript:
    """What programs in the sandbox printed: bounded, unprintable characters escaped."""

    def __init__(self) -> None:
        self._pieces: List[bytes] = []
        self._size = 0
        self._cut = False

    def add(self, data: bytes) -> None:
        """Append, or drop what is over the limit."""
        room = _TRANSCRIPT_LIMIT - self._size
        if len(data) > room:
            self._cut = True
            data = data[:room]
        self._size += len(data)
        self._pieces.append(data)

    @property
    def text(self) -> str:
        """All of it."""
        text = b"".join(self._pieces).decode("utf-8", "backslashreplace")
        shown = "".join(c if c in "\n\t" or printable(c) else c.encode("unicode_escape").decode("ascii") for c in text)
        return shown + ("\n[the rest was cut off]\n" if self._cut else "")

    def tail(self, lines: int = 3) -> str:
        """The last lines, on one line."""
        return " | ".join(line.strip() for line in self.text.splitlines()[-lines:] if line.strip())


@dataclass(frozen=True)
class Outcome:
    """How a task ended: its exit status (negative: signal) and what it returned, None if it executed a program."""

    status: int
    result: Any


def run(task: Callable[[], Any], *, title: str, keep: Sequence[int], timeout: float, transcript: Transcript) -> Outcome:
    """Run ``task`` and wait for it. Its standard output and error go to ``transcript``, its input is empty.

    ``keep`` names the descriptors it may have. What it returns must be plain data; an error that it raises is raised
    here. After ``timeout`` seconds everything in it is killed and BuildError raised.
    """
    reader, writer = os.pipe()
    answer = os.memfd_create("respin-answer")
    pid = os.fork()
    if pid == 0:
        _outer(task, writer, answer, (*keep, answer))
    os.close(writer)
    try:
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise BuildError(
                    f"{title} did not end within {timeout:.0f} seconds and was killed",
                    remedy="a scriptlet must not wait for a service or for input",
                    finding="timeout",
                )
            ready, _, _ = select.select([reader], [], [], min(left, 0.5))
            if ready:
                data = os.read(reader, 1 << 16)
                if not data:
                    break
                transcript.add(data)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        pid = 0
        size = os.fstat(answer).st_size
        message = json.loads(os.pread(answer, size, 0)) if size else None
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            # The pid namespace dies with that process; the pipe ends when the last of it is gone.
            while os.read(reader, 1 << 16):
                pass
        os.close(reader)
        os.close(answer)
    if message is not None and message["type"] == "error":
        raise protocol.rebuild_error(message)
    return Outcome(status, message["result"] if message else None)


def execute(argv: Sequence[str]) -> None:
    """For a task: become the program ``argv`` with the environment as it is."""
    os.execv(argv[0], list(argv))  # noqa: S606 - no shell is wanted


def _outer(task: Callable[[], Any], writer: int, answer: int, keep: Sequence[int]) -> None:
    """Make the namespaces and wait for the process in them, with its status."""
    code = 70
    try:
        os.setsid()
        syscalls.die_with_parent()
        syscalls.unshare(syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS)
        pid = os.fork()
        if pid == 0:
            _inner(task, writer, answer, keep)
        os.close(writer)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        code = status if status >= 0 else 128 - status
    finally:
        os._exit(code)


def _inner(task: Callable[[], Any], writer: int, answer: int, keep: Sequence[int]) -> None:
    try:
        syscalls.die_with_parent()
        empty = os.open("/dev/null", os.O_RDONLY)
        for descriptor, standard in ((empty, 0), (writer, 1), (writer, 2)):
            os.dup2(descriptor, standard)
        chroot.close_other_descriptors(keep)
        _write(answer, {"type": "result", "result": task()})
        os._exit(0)
    except BaseException as error:  # also KeyboardInterrupt and SystemExit: nothing may return from here
        _write(answer, protocol.describe_error(error))
        os._exit(71)


def _write(descriptor: int, message: protocol.Message) -> None:
    with open(descriptor, "wb", closefd=False) as stream:
        stream.write(json.dumps(message).encode("ascii"))
