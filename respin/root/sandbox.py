"""The parent's side of the sandbox: starts the agent, writes its id maps, talks to it, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, List, Mapping, Optional, Sequence, Type

from respin import process
from respin.errors import BuildError
from respin.root import idmaps, protocol

_STOP_SECONDS = 15
# Isolated mode, so that no environment and no working directory decides what is imported, but from where this process
# imports: also from a user's own site directory, which isolated mode leaves out. Nothing else is looked for (-S), and
# this package is found where it is, whatever brought this process here.
_START = "import sys; sys.path[:] = sys.argv[3:]; from respin.root.agent import main; sys.exit(main(sys.argv[1:3]))"


def _search_path() -> List[str]:
    return [*filter(None, sys.path), str(Path(__file__).resolve().parents[2])]


class Sandbox:
    """An agent that is starting. Leaving the context kills it and all in its namespaces, and waits until they are gone.

    To be made by the main thread: the kernel ends the agent when the thread that made it does. What is wrong with this
    machine is said by :meth:`enter`, so it may be started before anybody knows whether it will be needed.
    """

    def __init__(self) -> None:
        self._channel, theirs = protocol.pair()
        self._stderr = os.fdopen(os.memfd_create("respin-agent", os.MFD_CLOEXEC), "w+b")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _START, str(theirs.fileno()), str(os.getpid()), *_search_path()],
                env=process.CLEAN_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
            )

    def enter(self, descriptors: Sequence[int] = ()) -> None:
        """Wait until the namespaces are there, and give the agent in them copies of ``descriptors``."""
        if os.geteuid() != 0:
            idmaps.required_ranges(os.getuid())  # a clear message before anything is tried
        self.expect("unshared")
        idmaps.write_maps(self._process.pid)
        self.send({"type": "mapped"})
        self.expect("inside")
        try:
            self._channel.send_descriptors(descriptors)
        except protocol.ClosedError:
            raise self._died() from None

    def send(self, message: Mapping[str, Any]) -> None:
        """Say something to the agent."""
        try:
            self._channel.send(message)
        except protocol.ClosedError:
            raise self._died() from None

    def receive(self) -> protocol.Message:
        """The agent's next message; an error that it reports is raised."""
        try:
            message = self._channel.receive()
        except protocol.ClosedError:
            raise self._died() from None
        if message["type"] == "error":
            raise protocol.rebuild_error(message)
        return message

    def expect(self, kind: str) -> protocol.Message:
        """The next message, which must be of ``kind``."""
        message = self.receive()
        if message["type"] != kind:
            raise BuildError(f"the sandbox said {message['type']} instead of {kind}", finding="sandbox-failed")
        return message

    def stop(self) -> None:
        """Stop everything in the sandbox."""
        if self._process.poll() is None:
            self._process.terminate()  # it kills pid 1 of the namespaces and waits until they are empty

    def close(self) -> None:
        """Stop everything in the sandbox and wait for it."""
        if self._process.poll() is None:
            self.stop()
            if not process.has_ended(self._process, _STOP_SECONDS):
                self._process.kill()
                self._process.wait()
        self._channel.close()
        self._stderr.close()

    def _died(self) -> BuildError:
        self._process.terminate()
        self._process.wait()
        self._stderr.seek(0)
        said = self._stderr.read(1 << 20).decode("utf-8", "backslashreplace").strip()
        last = said.splitlines()[-1] if said else f"status {self._process.returncode}"
        error = BuildError(f"the sandbox ended unexpectedly: {last}", finding="sandbox-failed")
        error.detail = said  # type: ignore[attr-defined]
        return error

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()
