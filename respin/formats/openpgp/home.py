"""Running ``gpg`` on an explicit home: never the user's options, no network, no agent left behind.

Verification reads GnuPG's status lines from a descriptor of their own. python-gnupg mixes them with the text meant for
people (``--status-fd 2``) and sums them up as flags that call expired and revoked keys "valid", so it is used where
secret keys are (see ``signer``) and not here.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional, Sequence, Tuple

from respin import process
from respin.scratch import NO_SPACE, Reaper, Workspace, temporary_space_full

OPTIONS: Tuple[str, ...] = (
    "--no-options",
    "--no-greeting",
    "--no-permission-warning",
    "--no-auto-check-trustdb",
    "--no-auto-key-locate",
    "--no-auto-key-retrieve",
    "--disable-dirmngr",
    "--trust-model",
    "always",
    "--display-charset",
    "utf-8",
)
# A Unix socket's path holds at most 107 bytes; the agent's are HOME/S.gpg-agent.browser and shorter
_LONGEST_HOME = 80


def gpg(
    home: Path, arguments: Sequence[str], *, data: Optional[bytes] = None, pass_fds: Sequence[int] = ()
) -> process.Completed:
    """Run ``gpg`` without an agent; status lines are on standard output if ``--status-fd 1`` is asked for."""
    done = process.run(
        ["gpg", "--homedir", str(home), "--batch", "--no-tty", "--no-autostart", "--lock-never", *OPTIONS, *arguments],
        check=False,
        input=data,
        pass_fds=pass_fds,
    )
    for number in NO_SPACE if done.returncode else ():
        # Otherwise a key that found no room would be one that nobody trusts
        if os.strerror(number).encode() in done.stderr:
            raise temporary_space_full(home, OSError(number, os.strerror(number)))
    return done


@dataclass(frozen=True)
class Agent:
    """``home`` is a path of a GnuPG home under which ``gpg-agent`` can be reached; it starts when it is needed."""

    home: Path
    _reaper: Reaper

    def end(self) -> None:
        """It is not needed any more, and may end while other work goes on."""
        self._reaper.end()


@contextmanager
def with_agent(home: Path) -> Iterator[Agent]:
    """The agent of ``home``; one that was started meanwhile is ended.

    An agent that runs already (the user's own, who may have unlocked a key in it) is used and left alone.
    """
    home = home.absolute()
    with ExitStack() as stack:
        if len(os.fsencode(home)) > _LONGEST_HOME:
            workspace = stack.enter_context(Workspace())
            path, reaper = workspace.path / "home", workspace.reaper
            path.symlink_to(home)
        else:
            path, reaper = home, stack.enter_context(Reaper())
        if not agent_is_running(path):
            gpgconf = process.find("gpgconf")
            for order in ("--kill", "all"), ("--remove-socketdir",):
                reaper.run([gpgconf, "--homedir", str(path), *order], process.CLEAN_ENVIRONMENT)
        yield Agent(path, reaper)


def agent_is_running(home: Path) -> bool:
    """Whether a ``gpg-agent`` answers on the socket of ``home``."""
    listed = process.run(["gpgconf", "--homedir", str(home), "--list-dirs", "agent-socket"], check=False)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fsdecode(listed.stdout.rstrip(b"\n")))
        except (OSError, ValueError):
            return False
        return True
