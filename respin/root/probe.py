"""What this machine can do of what an installation needs, found out by trying it: for ``respin doctor``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

from respin import process, rpmbindings
from respin.errors import MissingToolError, RespinError
from respin.root import idmaps, protocol
from respin.root.sandbox import Sandbox
from respin.scratch import Workspace

SHOWING = ("fuse2fs", "squashfuse_ll")  # without them, or without FUSE, the root is unpacked
PROGRAMS = {
    "debugfs": "changing nested roots, which are ext images",
    "e2fsck": "checking nested roots",
    "resize2fs": "nested roots that are too small",
    "fuse2fs": "showing nested roots without unpacking them",
    "squashfuse_ll": "showing flat roots without unpacking them",
}
FUSE = "FUSE"
_SANDBOX = "the sandbox"


@dataclass(frozen=True)
class Capability:
    """One thing that is needed: whether it is there, what was found, what to do if it isn't, and what it is for.

    Without one that is not ``required`` there is another way.
    """

    name: str
    ok: bool
    why: str
    remedy: Optional[str] = None
    needed_for: str = ""
    required: bool = True


def probe(tmpdir: Optional[Path] = None) -> Tuple[Capability, ...]:
    """Try everything; nothing is raised and nothing left behind."""
    found: List[Capability] = [_attempt("rpm bindings", _rpm, "installing the packages")]
    for program, needed_for in PROGRAMS.items():
        found.append(_attempt(program, _program(program), needed_for, required=program not in SHOWING))
    if os.geteuid() != 0:
        for program in ("newuidmap", "newgidmap"):
            found.append(_attempt(program, _program(program), "building as an ordinary user"))
        found.append(_attempt("subordinate ids", _ranges, "building as an ordinary user"))
    return (*found, *_namespace(tmpdir))


def _attempt(name: str, trial: Callable[[], str], needed_for: str, *, required: bool = True) -> Capability:
    try:
        return Capability(name, True, trial(), None, needed_for, required)
    except RespinError as error:
        return Capability(name, False, str(error), error.remedy, needed_for, required)


def _program(name: str) -> Callable[[], str]:
    return lambda: process.find(name)


def _rpm() -> str:
    try:
        rpm: Any = rpmbindings.load()
    except ImportError as error:
        raise MissingToolError(
            f"the rpm bindings cannot be loaded: {error}",
            remedy="Debian: apt install python3-rpm; EL/Fedora: dnf install python3-rpm",
        ) from error
    version = str(rpm.__version__)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < (4, 18):
        return f"version {version} (older than 4.18: its database is not reproducible)"
    return f"version {version}"


def _ranges() -> str:
    uids, gids = idmaps.required_ranges(os.getuid())
    return f"uids {uids.start}+{uids.count}, gids {gids.start}+{gids.count}"


def _namespace(tmpdir: Optional[Path]) -> Tuple[Capability, ...]:
    try:
        with Workspace(tmpdir) as workspace, Sandbox() as sandbox:
            sandbox.enter()
            sandbox.send({"type": "probe", "scratch": os.path.realpath(workspace.path)})
            failures = sandbox.expect("done")["failures"]
    except (RespinError, OSError) as error:
        return (Capability("namespaces", False, str(error), getattr(error, "remedy", None), _SANDBOX),)
    namespaces = "user, mount, pid, net, ipc and uts namespaces can be made"
    mounts = "tmpfs, proc and overlay with userxattr can be mounted"
    return (
        Capability("namespaces", True, namespaces, None, _SANDBOX),
        _mounted("mounts in a namespace", mounts, failures.get("overlay"), _SANDBOX, required=True),
        _mounted(FUSE, "can be mounted in a namespace", failures.get("fuse"), "showing roots without unpacking them"),
    )


def _mounted(
    name: str, good: str, failure: Optional[protocol.Message], needed_for: str, *, required: bool = False
) -> Capability:
    if failure is None:
        return Capability(name, True, good, None, needed_for, required)
    error = protocol.rebuild_error(failure)
    return Capability(name, False, str(error), error.remedy, needed_for, required)
