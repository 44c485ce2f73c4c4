"""The one place that runs other programs: clean environment, closed stdin, time limit, failures that can be copied.

A child never sees the caller's environment, so results don't depend on locale, ``~/.gnupg``, proxies or rpm macros.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

from respin.errors import BuildError, MissingToolError

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
CLEAN_ENVIRONMENT: Mapping[str, str] = {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/nonexistent"}

# program -> (Debian package, EL/Fedora package)
PACKAGES: Mapping[str, "tuple[str, str]"] = {
    "debugfs": ("e2fsprogs", "e2fsprogs"),
    "depmod": ("kmod", "kmod"),
    "e2fsck": ("e2fsprogs", "e2fsprogs"),
    "fuse2fs": ("fuse2fs", "fuse2fs"),
    "gpg": ("gnupg", "gnupg2"),
    "gpgconf": ("gpgconf", "gnupg2"),
    "resize2fs": ("e2fsprogs", "e2fsprogs"),
    "newuidmap": ("uidmap", "shadow-utils"),
    "newgidmap": ("uidmap", "shadow-utils"),
    "squashfuse_ll": ("squashfuse", "squashfuse (from EPEL)"),
}


@dataclass(frozen=True)
class Completed:
    """A finished child: its command line, exit status (negative: signal) and output."""

    argv: "tuple[str, ...]"
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def command(self) -> str:
        """The command line, quoted for a shell."""
        return shlex.join(self.argv)

    def explain(self, lines: int = 5) -> str:
        """The command, how it ended and its last words."""
        said = (self.stderr or self.stdout).decode("utf-8", "replace").strip().splitlines()[-lines:]
        ended = f"signal {-self.returncode}" if self.returncode < 0 else f"exit status {self.returncode}"
        return f"`{self.command}` ended with {ended}" + (": " + " | ".join(said) if said else "")


def find(program: str) -> str:
    """The absolute path of ``program``; MissingToolError names its package when it isn't installed."""
    path = shutil.which(program, path=SEARCH_PATH)
    if path is None:
        debian, fedora = PACKAGES.get(program, (program, program))
        raise MissingToolError(
            f"the program {program} is not installed",
            remedy=f"Debian: apt install {debian}; EL/Fedora: dnf install {fedora}",
        )
    return path


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    env: Optional[Mapping[str, str]] = None,
    input: Optional[bytes] = None,  # noqa: A002 - the name subprocess gives it
    timeout: float = 600,
    pass_fds: Sequence[int] = (),
    cwd: Optional[str] = None,
) -> Completed:
    """Run ``argv`` and wait.

    ``env`` adds to :data:`CLEAN_ENVIRONMENT`, nothing is inherited. With ``check`` any exit status but 0 is a
    BuildError. The child runs in a session of its own and is killed with all its children after ``timeout`` seconds.
    """
    full = (find(argv[0]) if "/" not in argv[0] else argv[0], *argv[1:])
    child = subprocess.Popen(
        full,
        env={**CLEAN_ENVIRONMENT, **(env or {})},
        stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=tuple(pass_fds),
        cwd=cwd,
        start_new_session=True,
    )
    try:
        stdout, stderr = child.communicate(input, timeout=timeout)
    except BaseException as error:
        _kill_session(child)
        child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise BuildError(f"`{shlex.join(full)}` did not end within {timeout:.0f} seconds") from error
        raise
    completed = Completed(full, child.returncode, stdout, stderr)
    if check and completed.returncode != 0:
        raise BuildError(completed.explain())
    return completed


def has_ended(child: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Whether ``child`` ends within so many seconds, known at once: Popen.wait sleeps between looking."""
    try:
        pidfd = os.pidfd_open(child.pid)
    except OSError:  # a kernel before Linux 5.3, or a container that does not let it through
        with suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
        return child.returncode is not None
    try:
        ended = bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)
    if ended:
        child.wait()
    return ended


def _kill_session(child: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
