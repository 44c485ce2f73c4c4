"""A function in a process of its own, beside what this one goes on to do.

The process is a copy of this one (fork), so that the function may refer to anything. Python runs one thread at a time:
with another thread at work, threads that hash a stream would wait for each piece.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
from contextlib import ExitStack
from typing import Callable, Generic, NoReturn, Optional, Sequence, Tuple, TypeVar, Union

from respin.errors import BuildError
from respin.root import syscalls
from respin.root.chroot import close_other_descriptors

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_Outcome = Union[Tuple[T, None], Tuple[None, Exception]]


class Beside(Generic[T]):
    """Runs ``function``, which may use the descriptors in ``keep`` and no other. ``stack`` ends it, finished or not.

    To be made by the main thread: the kernel ends the process when the thread that made it does.
    """

    def __init__(self, function: Callable[[], T], stack: ExitStack, keep: Sequence[int]) -> None:
        self._outcome: Optional[_Outcome[T]] = None
        ours, theirs = os.pipe()
        this = os.getpid()
        # What the copy does with a signal must be settled before it gets one: it must never go this process's way.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._pid = os.fork()
            if self._pid == 0:
                _run(function, theirs, keep, this)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(theirs)
        self._pipe = os.fdopen(ours, "rb")
        stack.callback(self._close)

    @property
    def is_done(self) -> bool:
        """Whether :meth:`result` needs no waiting to speak of."""
        return self._outcome is not None or bool(select.select([self._pipe], [], [], 0)[0])

    def result(self) -> T:
        """Wait for what the function returns; raises what it raised."""
        if self._outcome is None:
            data = self._pipe.read()
            status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._pid = 0
            if status:
                raise BuildError(f"a helping process ended with status {status}", finding="helper-failed")
            self._outcome = pickle.loads(data)  # noqa: S301 - what this very program wrote
        value, error = self._outcome
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def _close(self) -> None:
        self._pipe.close()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def _run(function: Callable[[], T], pipe: int, keep: Sequence[int], parent: int) -> NoReturn:
    status = 1
    try:
        gc.disable()  # what the copy has inherited must not be finalized a second time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        # Whoever waits for the end of one of this process's pipes must not wait for the copy, too.
        close_other_descriptors([pipe, *keep])
        syscalls.die_with_parent()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if os.getppid() == parent:
            _answer(function, pipe)
            status = 0
    finally:
        os._exit(status)


def _answer(function: Callable[[], T], pipe: int) -> None:
    outcome: _Outcome[T]
    try:
        outcome = (function(), None)
    except Exception as error:  # the other process has to hear of anything
        outcome = (None, error)
    with os.fdopen(pipe, "wb") as stream:
        pickle.dump(outcome, stream)
