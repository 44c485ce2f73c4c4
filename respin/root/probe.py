"""What this machine can do of what an installation needs, found out by trying it: for ``respin doctor``."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from respin import process
from respin.errors import MissingToolError, RespinError
from respin.root import idmaps, protocol
from respin.root.sandbox import Sandbox
from respin.scratch import Workspace


@dataclass(frozen=True)
class Capability:
    """One thing that is needed: whether it is there, what was found, and what to do if it isn't."""

    name: str
    ok: bool
    why: str
    remedy: Optional[str] = None


def probe(tmpdir: Optional[Path] = None) -> Tuple[Capability, ...]:
    """Try everything; nothing is raised and nothing left behind."""
    found: List[Capability] = [_attempt("rpm bindings", _rpm)]
    programs = ("fuse2fs", "squashfuse", "debugfs", "e2fsck", "resize2fs")
    found += [_attempt(program, _program(program)) for program in programs]
    if os.geteuid() != 0:
        found += [_attempt(program, _program(program)) for program in ("newuidmap", "newgidmap")]
        found.append(_attempt("subordinate ids", _ranges))
    found.append(_attempt("/dev/fuse", _fuse))
    return (*found, *_namespace(tmpdir))


def _attempt(name: str, trial: Callable[[], str]) -> Capability:
    try:
        return Capability(name, True, trial())
    except RespinError as error:
        return Capability(name, False, str(error), error.remedy)


def _program(name: str) -> Callable[[], str]:
    return lambda: process.find(name)


def _rpm() -> str:
    try:
        rpm = importlib.import_module("rpm")
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


def _fuse() -> str:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise MissingToolError(
            f"it cannot be opened: {error.strerror}",
            remedy="modprobe fuse; chmod 0666 /dev/fuse (its usual mode); a container needs --device /dev/fuse",
        ) from error
    return "can be opened"


def _namespace(tmpdir: Optional[Path]) -> Tuple[Capability, ...]:
    try:
        with Workspace(tmpdir) as workspace, Sandbox() as sandbox:
            sandbox.send({"type": "probe", "scratch": os.path.realpath(workspace.path)})
            failures = sandbox.expect("done")["failures"]
    except (RespinError, OSError) as error:
        return (Capability("namespaces", False, str(error), getattr(error, "remedy", None)),)
    namespaces = Capability("namespaces", True, "user, mount, pid, net, ipc and uts namespaces can be made")
    mounts = [Capability("mounts in a namespace", True, "tmpfs, proc and overlay with userxattr can be mounted")]
    if failures:
        errors = [protocol.rebuild_error(message) for message in failures.values()]
        mounts = [Capability("mounts in a namespace", False, str(error), error.remedy) for error in errors]
    return (namespaces, *mounts)
