"""What the parent and the agent say to each other: JSON documents, one a line, over a socket pair.

Errors travel as data and are raised again as the same class on the other side.
"""

from __future__ import annotations

import json
import socket
import traceback
from typing import Any, Dict, List, Mapping, Sequence, Type

from respin import errors
from respin.errors import BuildError, RespinError

Message = Dict[str, Any]

_CLASSES: Mapping[str, Type[RespinError]] = {
    name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, RespinError)
}


_AT_ONCE = 128  # descriptors; the kernel takes 253 (SCM_MAX_FD)


class ClosedError(Exception):
    """The other side is gone."""


class Channel:
    """One end of the conversation. Not for use by several threads at once."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._reader = end.makefile("rb")

    def fileno(self) -> int:
        """The descriptor, for select."""
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one document; :class:`ClosedError` if nobody listens."""
        try:
            self._socket.sendall(json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n")
        except OSError as error:
            raise ClosedError(str(error)) from error

    def receive(self) -> Message:
        """Wait for the next document; :class:`ClosedError` at the end."""
        try:
            line = self._reader.readline()
        except OSError as error:
            raise ClosedError(str(error)) from error
        if not line.endswith(b"\n"):
            raise ClosedError("end of file")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ClosedError("not a message")
        return message

    def send_descriptors(self, descriptors: Sequence[int]) -> None:
        """Give the other side copies of open files, for :meth:`receive_descriptors`."""
        try:
            for start in range(0, len(descriptors), _AT_ONCE):
                socket.send_fds(self._socket, [b"+"], descriptors[start : start + _AT_ONCE])
            self._socket.sendall(b".")
        except OSError as error:
            raise ClosedError(str(error)) from error

    def receive_descriptors(self) -> List[int]:
        """The copies, in their order. Nothing that was sent before them may still be unread."""
        received: List[int] = []
        while True:
            try:
                mark, some, _, _ = socket.recv_fds(self._socket, 1, _AT_ONCE, socket.MSG_CMSG_CLOEXEC)
            except OSError as error:
                raise ClosedError(str(error)) from error
            received += some
            if mark == b".":
                return received
            if mark != b"+":
                raise ClosedError("end of file")

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
        self._socket.close()


def pair() -> "tuple[Channel, socket.socket]":
    """A channel and the socket for the other side."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(ours), theirs


def describe_error(error: BaseException) -> Message:
    """``error`` as a message, its traceback apart. What is not a RespinError becomes a BuildError in one line."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    detail = "\n".join(part for part in (getattr(error, "detail", ""), trace) if part)
    if isinstance(error, RespinError):
        return {
            "type": "error",
            "class": type(error).__name__,
            "what": error.what,
            "where": error.where,
            "remedy": error.remedy,
            "finding": error.finding,
            "detail": detail,
        }
    text = str(error).splitlines()[0] if str(error) else ""
    return {
        "type": "error",
        "class": "BuildError",
        "what": f"the sandbox failed: {type(error).__name__}{': ' + text if text else ''}",
        "where": None,
        "remedy": None,
        "finding": "sandbox-failed",
        "detail": detail,
    }


def rebuild_error(message: Mapping[str, Any]) -> RespinError:
    """The error that :func:`describe_error` described; ``detail`` is an attribute for very verbose output."""
    kind = _CLASSES.get(str(message.get("class")), BuildError)
    error = kind(
        str(message.get("what")),
        where=message.get("where"),
        remedy=message.get("remedy"),
        finding=message.get("finding"),
    )
    error.detail = str(message.get("detail") or "")  # type: ignore[attr-defined]
    return error
