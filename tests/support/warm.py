"""Runs ``respin`` in processes of their own that need not import everything first.

Half of what a short command costs is Python reading modules. A server imports them once and then only forks; each
child gets its own descriptors, directory and arguments, runs what ``python -m respin`` runs, and ends as that does.
``RESPIN_TESTS_COLD=1`` starts an interpreter for each command instead.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import List, Mapping, Optional, Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
_REQUEST = 1 << 20


def run(
    arguments: Sequence[str],
    env: Optional[Mapping[str, str]],
    cwd: Optional[Path],
    timeout: float,
    *,
    cold: bool = False,
) -> "subprocess.CompletedProcess[str]":
    """``respin`` with these arguments, nothing on standard input and a bare environment besides ``env``."""
    own = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    if cold or env or os.environ.get("RESPIN_TESTS_COLD"):
        command = [sys.executable, "-m", "respin", *arguments]
        return subprocess.run(
            command,
            env={**own, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    return _Server.of(own).run(arguments, cwd, timeout)


class _Server:
    """The client's end: one server for each environment, as long as this process lives."""

    _running: "dict[tuple[tuple[str, str], ...], _Server]" = {}

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.support.warm", str(theirs.fileno())]
        # In a session of its own: a Ctrl-C that a test sends to its process group is not for this one.
        subprocess.Popen(
            command, env=environment, cwd=CHECKOUT, pass_fds=[theirs.fileno()], start_new_session=True
        )  # fmt: skip
        theirs.close()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "_Server":
        key = (*sorted(environment.items()), ("pid", str(os.getpid())))
        if key not in cls._running:
            cls._running[key] = cls(environment)
        return cls._running[key]

    def run(self, arguments: Sequence[str], cwd: Optional[Path], timeout: float) -> "subprocess.CompletedProcess[str]":
        with contextlib.ExitStack() as stack:
            nothing = stack.enter_context(open(os.devnull, "rb"))
            out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            mine, theirs = socket.socketpair()
            stack.callback(mine.close)
            request = json.dumps([list(arguments), str(cwd or Path.cwd())]).encode("utf-8", "surrogateescape")
            descriptors = array.array("i", [nothing.fileno(), out.fileno(), err.fileno(), theirs.fileno()])
            self._socket.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            theirs.close()
            mine.settimeout(timeout)
            child = int(mine.recv(32))
            try:
                code = int(mine.recv(32))
            except socket.timeout:
                os.kill(child, signal.SIGKILL)
                raise
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode("utf-8", "strict").replace("\r\n", "\n"))
        return subprocess.CompletedProcess(["respin", *arguments], code, *texts)


def _serve(requests: socket.socket) -> Optional[List[str]]:
    """Fork for each request and tell how the child ended; returns its arguments in the child, None when nobody asks."""
    while True:
        request, ancillary, _flags, _address = requests.recvmsg(_REQUEST, socket.CMSG_SPACE(16))
        if not request:
            return None
        descriptors = array.array("i")
        descriptors.frombytes(ancillary[0][2])
        waiter = os.fork()
        if waiter:
            for fd in descriptors:
                os.close(fd)
            os.waitpid(waiter, 0)  # it does not wait for the command
            continue
        # Whoever waits for the command is not the server, so that several can run at once.
        if os.fork():
            os._exit(0)
        answer = descriptors[3]
        child = os.fork()
        if child:
            os.write(answer, str(child).encode())
            for fd in descriptors[:3]:
                os.close(fd)
            _pid, status = os.waitpid(child, 0)
            os.write(answer, str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        for number, fd in enumerate(descriptors[:3]):
            os.dup2(fd, number)
        os.closerange(3, 1024)
        arguments, directory = json.loads(request.decode("utf-8", "surrogateescape"))
        os.chdir(directory)
        return [str(one) for one in arguments]


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from respin import cli

    import_module("respin.build.build")  # which the command itself imports when it is too late for this
    for name in cli._COMMANDS:
        cli.cli.get_command(cli.click.Context(cli.cli), name)
    arguments = _serve(socket.socket(fileno=int(sys.argv[1])))
    if arguments is not None:
        sys.argv = [str(CHECKOUT / "respin/__main__.py"), *arguments]
        cli.main()


if __name__ == "__main__":
    _main()
