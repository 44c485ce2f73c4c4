"""Several consumers of one stream, each in a thread of its own: hashing releases the interpreter lock.

Every consumer gets every piece in order, so results don't depend on the threads. At most :data:`QUEUED` pieces wait
for the slowest consumer.
"""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Callable, Iterable, List, Optional, Type

QUEUED = 4

Sink = Callable[[bytes], object]


class FanOut:
    """Passes pieces on to sinks. A context manager: at its end all sinks have had all pieces.

    What a sink raises is raised by the next :meth:`feed`, or at the end.
    """

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._workers = [_Worker(sink) for sink in sinks]

    def feed(self, piece: bytes) -> None:
        """Hand ``piece`` to every sink; it must not be changed afterwards."""
        for worker in self._workers:
            worker.put(piece)

    def close(self) -> None:
        """Wait until all is done."""
        for worker in self._workers:
            worker.finish()
        for worker in self._workers:
            worker.join()
        for worker in self._workers:
            worker.check()

    def __enter__(self) -> "FanOut":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if error is None:
            self.close()
            return
        for worker in self._workers:
            worker.abandon()


class _Worker(threading.Thread):
    def __init__(self, sink: Sink) -> None:
        super().__init__(name="fan-out", daemon=True)
        self._sink = sink
        self._pieces: "queue.Queue[Optional[bytes]]" = queue.Queue(QUEUED)
        self._failure: List[BaseException] = []
        self._abandoned = False
        self.start()

    def put(self, piece: bytes) -> None:
        self.check()
        self._pieces.put(piece)

    def finish(self) -> None:
        """Let the thread end when all is done."""
        self._pieces.put(None)

    def check(self) -> None:
        if self._failure:
            raise self._failure[0]

    def abandon(self) -> None:
        """Let the thread end without doing what is left."""
        self._abandoned = True
        self.finish()
        self.join()

    def run(self) -> None:
        while True:
            piece = self._pieces.get()
            if piece is None:
                return
            if self._failure or self._abandoned:
                continue  # keep taking, so that nobody waits for room
            try:
                self._sink(piece)
            except BaseException as error:  # whatever it is, the thread that feeds has to hear of it
                self._failure.append(error)
