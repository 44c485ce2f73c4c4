"""Install packages into the root image in an ISO's squashfs, nested or flat: the way into :mod:`respin.root`."""

from __future__ import annotations

import base64
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple, Union

from respin.errors import BuildError
from respin.formats.selinux import XATTR
from respin.progress import SILENT, Progress
from respin.root.contents import FlatChanges
from respin.root.delta import Delta
from respin.root.sandbox import Sandbox

Facts = Union[Mapping[str, bytes], Callable[[Delta], Mapping[str, bytes]]]


@dataclass(frozen=True)
class PackageFile:
    """A verified package: what to call it in messages, and the descriptor of a sealed memory file that holds it."""

    name: str
    fd: int


@dataclass(frozen=True)
class InstallJob:
    """What to install where.

    ``squashfs_offset`` and ``squashfs_size`` (bytes) say where in the ISO the squashfs lies, ``image_path`` which of
    its files is the ext image; empty if the squashfs is the root itself. ``packages`` are installed in the order rpm
    chooses among those of one call.
    ``rpm_keys`` are the armored keys that may have signed them. ``dbpath`` is the Node's rpm database directory.
    ``epoch`` is the time (seconds since 1970) of everything that has no better one; ``owned_mtimes`` maps real paths to
    times of RPM headers. ``kernel_release`` is what ``uname -r`` says to scriptlets, ``factory`` a directory of the
    root that follows what changes in /etc, if it has one. ``facts`` maps paths to contents of further files (with the
    attributes of what is there, else root:root, 0644), or is called with the delta for that once it was judged.
    ``labelled`` gives the delta with the SELinux labels that its files have and get, ``fact_labels`` are those of
    ``facts`` and of directories made for them. ``timeout`` (seconds) limits the transaction and each later program.
    ``may_grow`` allows to make an ext image larger that has too little room.
    """

    iso_fd: int
    iso_name: str
    squashfs_offset: int
    squashfs_size: int
    image_path: str
    packages: Tuple[PackageFile, ...]
    rpm_keys: Tuple[bytes, ...]
    dbpath: str
    epoch: int
    kernel_release: str
    owned_mtimes: Mapping[str, int]
    facts: Facts
    labelled: Callable[[Delta], Delta] = lambda delta: delta
    fact_labels: Mapping[str, bytes] = field(default_factory=dict)
    factory: str = ""
    timeout: float = 300
    may_grow: bool = True


class ChangedBlocks(Mapping[int, bytes]):
    """Block index -> new content, read from a file when asked for. Close it when done."""

    def __init__(self, fd: int, places: Mapping[int, Tuple[int, int]]) -> None:
        self._fd = fd
        self._places = dict(places)

    def __getitem__(self, index: int) -> bytes:
        offset, length = self._places[index]
        data = os.pread(self._fd, length, offset)
        if len(data) != length:
            raise BuildError("the file of changed blocks is too short", finding="sandbox-failed")
        return data

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def length(self) -> int:
        """Bytes of all of them together."""
        return sum(length for _, length in self._places.values())

    def close(self) -> None:
        """Give up the file; its space is free again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> "ChangedBlocks":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Counters:
    """Blocks of the image's file in the squashfs: all, read for the change, written to."""

    blocks_total: int
    blocks_read: int
    blocks_written: int


@dataclass(frozen=True)
class Installed:
    """What an installation did. ``delta`` is what was judged; ``facts`` were written besides it.

    ``changed_blocks`` holds the blocks that differ from the vendor's, whole; ``image_size`` is the ext image's size in
    bytes now. ``transcript`` is what the scriptlets printed. ``regenerated`` names the derived state that was made anew
    ("depmod RELEASE", "ldconfig").
    Of a flat root no block is changed: ``flat`` says what to write, as long as ``changed_blocks`` is not closed.
    """

    delta: Delta
    facts: Mapping[str, bytes]
    changed_blocks: ChangedBlocks
    counters: Counters
    transcript: str
    regenerated: Tuple[str, ...]
    flat: Optional[FlatChanges] = None
    image_size: int = 0


class Installation:
    """An installation whose changes are all there. Its sandbox lives until the stack that it was started on ends."""

    def __init__(self, installed: Installed, sandbox: Sandbox) -> None:
        self.installed = installed
        self._sandbox = sandbox

    def check(self, progress: Progress = SILENT) -> int:
        """Have e2fsck read the whole ext image, once; how many blocks were read. BuildError if it is not clean."""
        with progress.step("checking the root image"):
            self._sandbox.send({"type": "check"})
            return int(self._sandbox.expect("checked")["blocks_read"].get("check", 0))


def install(
    job: InstallJob,
    judge: Callable[[Delta], None],
    *,
    scratch: Path,
    stack: ExitStack,
    sandbox: Optional[Sandbox] = None,
    progress: Progress = SILENT,
) -> Installation:
    """Run the transaction in the sandbox, have the delta judged, write it to a copy-on-write view of the image.

    ``judge`` raises to refuse: nothing is written then. ``scratch`` is an existing private directory; during the run a
    file system is mounted over it that only the sandbox sees. ``sandbox`` is one that was started before; without it,
    one is started that ``stack`` ends. Raises MissingToolError, UnsupportedError, PolicyError, VerificationError or
    BuildError. Neither the ISO nor the machine is changed, whatever happens.
    """
    with tempfile.TemporaryFile(dir=scratch) as unnamed:
        result_fd = os.dup(unnamed.fileno())
    try:
        if sandbox is None:
            sandbox = stack.enter_context(Sandbox())
        descriptors = [job.iso_fd, result_fd, *(package.fd for package in job.packages)]
        sandbox.enter(descriptors)
        with ExitStack() as steps:
            sandbox.send(_describe(job, descriptors, scratch))
            installed = _follow(job, judge, sandbox, result_fd, progress, steps)
        return Installation(installed, sandbox)
    except BaseException:
        os.close(result_fd)
        raise


def _follow(
    job: InstallJob,
    judge: Callable[[Delta], None],
    sandbox: Sandbox,
    result_fd: int,
    progress: Progress,
    steps: ExitStack,
) -> Installed:
    delta: Optional[Delta] = None
    facts: Mapping[str, bytes] = {}
    while True:
        message = sandbox.receive()
        if message["type"] == "step":
            steps.close()
            steps.enter_context(progress.step(message["title"]))
        elif message["type"] == "delta":
            steps.close()
            delta = job.labelled(Delta.from_json(message["delta"]))
            judge(delta)
            facts = dict(job.facts(delta) if callable(job.facts) else job.facts)
            labels = _encoded(_labels(delta, job.fact_labels))
            sandbox.send({"type": "apply", "facts": _encoded(facts), "labels": labels})
        elif message["type"] == "applied" and delta is not None:
            return _installed(job, delta, facts, message, result_fd)
        else:
            raise BuildError(f"the sandbox said {message['type']} too early", finding="sandbox-failed")


def _labels(delta: Delta, fact_labels: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """The labels in ``delta``, and ``fact_labels`` for what is not in it."""
    told = {entry.path for entry in delta}
    found = {path: label for path, label in fact_labels.items() if path not in told}
    new = {entry.path: entry.new for entry in delta if entry.new is not None}
    return {**found, **{path: one.xattrs[XATTR] for path, one in new.items() if XATTR in one.xattrs}}


def _encoded(values: Mapping[str, bytes]) -> Mapping[str, str]:
    return {key: base64.b64encode(value).decode("ascii") for key, value in values.items()}


def _installed(
    job: InstallJob, delta: Delta, facts: Mapping[str, bytes], message: Mapping[str, Any], fd: int
) -> Installed:
    read = message.get("blocks_read", {})
    return Installed(
        delta=delta,
        facts=facts,
        changed_blocks=ChangedBlocks(fd, {i: (offset, size) for i, offset, size in message.get("changed", ())}),
        counters=Counters(
            message.get("blocks_total", 0),
            read.get("change", 0),
            message.get("blocks_written", 0),
        ),
        transcript=message["transcript"],
        regenerated=tuple(message["regenerated"]),
        flat=None if job.image_path else FlatChanges.from_message(message, fd),
        image_size=message.get("image_size", 0),
    )


def _describe(job: InstallJob, descriptors: Sequence[int], scratch: Path) -> Dict[str, Any]:
    """The job; its files by their places among ``descriptors``: the ISO, the result, packages."""
    first = len(descriptors) - len(job.packages)
    return {
        "type": "install",
        "iso_fd": 0,
        "iso_name": job.iso_name,
        "result_fd": 1,
        "scratch": str(scratch.resolve()),
        "squashfs_offset": job.squashfs_offset,
        "squashfs_size": job.squashfs_size,
        "image_path": job.image_path,
        "packages": [[package.name, first + number] for number, package in enumerate(job.packages)],
        "rpm_keys": [base64.b64encode(key).decode("ascii") for key in job.rpm_keys],
        "dbpath": job.dbpath,
        "epoch": job.epoch,
        "kernel_release": job.kernel_release,
        "owned_mtimes": dict(job.owned_mtimes),
        "timeout": job.timeout,
        "may_grow": job.may_grow,
        "factory": job.factory,
    }
