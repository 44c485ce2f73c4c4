"""The agent: the process inside the namespaces that does the work.

It is started by :mod:`respin.root.sandbox` with a socket and a clean environment. One process makes the namespaces and
waits; its child is pid 1 in them, and gets the base ISO, a file for changed blocks and one sealed memory file for each
package. When the starter dies, of whatever, the kernel kills the first, thereby the second, thereby everything else.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import Any, List

from respin.root import mounts, protocol, syscalls
from respin.root.work import installation, probe

_NAMESPACES = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
)
_HOST_NAME = "respin"


def main(arguments: List[str]) -> int:
    """``arguments``: number of the socket's descriptor, pid of the starter."""
    descriptor, starter = int(arguments[0]), int(arguments[1])
    os.set_inheritable(descriptor, False)
    channel = protocol.Channel(socket.socket(fileno=descriptor))
    try:
        _enter(channel, starter)
    except protocol.ClosedError:
        return 1
    except BaseException as error:  # the starter has to hear of anything
        return _fail(channel, error)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        os._exit(_inside(channel))

    def stop(number: int, frame: Any) -> None:
        os.kill(pid, signal.SIGKILL)

    signal.signal(signal.SIGTERM, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    # The wait ends when the whole pid namespace is empty: then nothing of it is left.
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _enter(channel: protocol.Channel, starter: int) -> None:
    """Make the namespaces and become their root."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        syscalls.unshare(_NAMESPACES)
    except OSError as error:
        raise mounts.no_namespace(error) from error
    channel.send({"type": "unshared"})
    channel.receive()  # the maps are written
    os.setresgid(0, 0, 0)
    os.setgroups([])
    os.setresuid(0, 0, 0)
    syscalls.die_with_parent()
    if os.getppid() != starter:
        raise protocol.ClosedError("the starter is gone")
    socket.sethostname(_HOST_NAME)


def _inside(channel: protocol.Channel) -> int:
    """What pid 1 of the namespaces does."""
    try:
        syscalls.die_with_parent()
        channel.send({"type": "inside"})
        descriptors = channel.receive_descriptors()
        job = channel.receive()
        if job["type"] == "probe":
            probe(job, channel)
        else:
            installation(job, descriptors, channel)
    except protocol.ClosedError:
        return 1
    except BaseException as error:
        return _fail(channel, error)
    return 0


def _fail(channel: protocol.Channel, error: BaseException) -> int:
    try:
        channel.send(protocol.describe_error(error))
    except protocol.ClosedError:
        pass
    return 1
