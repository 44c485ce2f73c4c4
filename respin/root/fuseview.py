"""Serves the copy-on-write image as one file of a FUSE file system, from a process of its own.

The file system is mounted directly (this runs as root of its user namespace), without fusermount. The process that
serves never touches the mount itself; it answers questions about the blocks over a channel.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import threading
from typing import Any, Dict, List, Mapping, Optional, Tuple

from respin.errors import BuildError, MissingToolError, RespinError
from respin.root import fuse, protocol, syscalls
from respin.root.store import CopyOnWrite, cannot_keep

FILE_NAME = "root.img"
GROWN_NAME = "grown.img"  # another name, so that nothing the kernel remembers of the first one is about it


class ViewServer:
    """The serving process, seen from the one that started it."""

    def __init__(self, image: CopyOnWrite, mountpoint: str, place: str) -> None:
        """Fork, mount and wait until the file is there. Must be called while this process has one thread.

        ``place`` is the directory in which the changed blocks are kept, for messages.
        """
        self.path = f"{mountpoint}/{FILE_NAME}"
        self._channel, theirs = protocol.pair()
        self._pid = os.fork()
        if self._pid == 0:
            _child(image, mountpoint, place, theirs)
        theirs.close()
        self._expect("mounted")

    @property
    def fds(self) -> Tuple[int, ...]:
        """Other programs need no descriptor to find it."""
        return ()

    def set_phase(self, phase: str) -> None:
        """Count blocks read from now on under ``phase``."""
        self._channel.send({"type": "phase", "phase": phase})
        self._expect("ok")

    def grow(self, size: int) -> str:
        """Add zeros to the image up to ``size`` bytes; returns the path at which it is from now on."""
        self._channel.send({"type": "grow", "size": size})
        self._expect("ok")
        self.path = f"{os.path.dirname(self.path)}/{GROWN_NAME}"
        return self.path

    def report(self) -> Mapping[str, Any]:
        """Counters and the changed blocks: ``changed`` is a list of [index, offset in the result file, length]."""
        self._channel.send({"type": "report"})
        return self._expect("report")

    def check(self) -> None:
        """Raise the first error that reading the image met, if any: the kernel only says EIO."""
        self._channel.send({"type": "check"})
        self._expect("ok")

    def _expect(self, kind: str) -> Mapping[str, Any]:
        try:
            message = self._channel.receive()
        except protocol.ClosedError:
            raise BuildError("the view of the root image ended unexpectedly", finding="sandbox-failed") from None
        if message["type"] == "error":
            raise protocol.rebuild_error(message)
        if message["type"] != kind:
            raise BuildError(f"the view of the root image said {message['type']}", finding="sandbox-failed")
        return message


def _child(image: CopyOnWrite, mountpoint: str, place: str, end: socket.socket) -> None:
    """Serve until unmounted or killed; never returns."""
    channel = protocol.Channel(end)
    try:
        syscalls.die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _serve(image, mountpoint, place, channel)
    except BaseException as error:  # whatever it is, the other process has to hear of it
        try:
            channel.send(protocol.describe_error(error))
        except protocol.ClosedError:
            pass
    finally:
        os._exit(0)


def _serve(image: CopyOnWrite, mountpoint: str, place: str, channel: protocol.Channel) -> None:
    try:
        import mfusepy  # loads libfuse: only this process should
    except (ImportError, OSError) as error:
        raise MissingToolError(
            f"libfuse cannot be loaded: {error}",
            remedy="Debian: apt install libfuse2; EL/Fedora: dnf install fuse-libs",
        ) from error
    fuse.require_device()

    lock = threading.Lock()
    failure: List[RespinError] = []
    vendor_size = image.size
    status = os.stat(mountpoint)

    class Operations(mfusepy.Operations):  # type: ignore[misc]
        """A directory with one file, and that file once more when it is grown."""

        use_ns = True

        def init(self, path: str) -> None:
            threading.Thread(target=answer, daemon=True).start()

        def getattr(self, path: str, fh: Optional[int] = None) -> Dict[str, Any]:
            times = {"st_atime": 0, "st_mtime": 0, "st_ctime": 0, "st_uid": status.st_uid, "st_gid": status.st_gid}
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2, **times}
            if path == f"/{FILE_NAME}":
                return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": vendor_size, **times}
            if path == f"/{GROWN_NAME}" and image.size > vendor_size:
                return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": image.size, **times}
            raise mfusepy.FuseOSError(errno.ENOENT)

        def readdir(self, path: str, fh: int) -> List[str]:
            return [".", "..", FILE_NAME]

        def open(self, path: str, flags: int) -> int:
            return 0

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            length = max(0, min(size, image.size - offset))
            return guarded(lambda: image.read(offset, length))  # type: ignore[no-any-return]

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            if offset + len(data) > image.size:
                raise mfusepy.FuseOSError(errno.ENOSPC)
            guarded(lambda: image.write(offset, data))
            return len(data)

        def flush(self, path: str, fh: int) -> int:
            return 0

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            return 0

    def guarded(action: Any) -> Any:
        try:
            with lock:
                return action()
        except RespinError as error:
            if not failure:
                failure.append(error)
            raise mfusepy.FuseOSError(errno.EIO) from error
        except OSError as error:
            if not failure:
                # The file of changed blocks is the only one that is written here.
                failure.append(cannot_keep("the changed blocks of the root image cannot be written", place, error))
            raise mfusepy.FuseOSError(errno.EIO) from error

    def answer() -> None:
        try:
            channel.send({"type": "mounted"})
            while True:
                question = channel.receive()
                with lock:
                    channel.send(_answer(image, failure, question))
        except protocol.ClosedError:
            os._exit(0)
        except BaseException as error:
            channel.send(protocol.describe_error(error))
            os._exit(1)

    try:
        mfusepy.FUSE(Operations(), mountpoint, foreground=True, nothreads=True, fsname="respin", subtype="respin")
    except RuntimeError as error:
        raise MissingToolError(
            f"a FUSE file system cannot be mounted in a user namespace (libfuse error {error})",
            remedy="Linux 4.18 or newer is needed; a container needs --device /dev/fuse and must allow mounting",
            finding="no-fuse",
        ) from error


def _answer(image: CopyOnWrite, failure: List[RespinError], question: protocol.Message) -> protocol.Message:
    if failure:
        return protocol.describe_error(failure[0])
    if question["type"] == "phase":
        image.phase = question["phase"]
        return {"type": "ok"}
    if question["type"] == "check":
        return {"type": "ok"}
    if question["type"] == "grow":
        image.grow(question["size"])
        return {"type": "ok"}
    written, read = image.blocks_written, {phase: len(blocks) for phase, blocks in image.blocks_read.items()}
    changed: List[Tuple[int, int, int]] = [(i, *place) for i, place in image.changed().items()]
    return {
        "type": "report",
        "image_size": image.size,
        "blocks_total": image.blocks_total,
        "blocks_read": read,
        "blocks_written": written,
        "changed": changed,
    }
