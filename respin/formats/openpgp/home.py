"""Running ``gpg`` on an explicit home: never the user's options, no network, no agent left behind.

Verification reads GnuPG's status lines from a descriptor of their own. python-gnupg mixes them with the text meant for
people (``--status-fd 2``) and sums them up as flags that call expired and revoked keys "valid", so it is used where
secret keys are (see ``signer``) and not here.
"""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Sequence, Tuple

from respin import process

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
    return process.run(
        ["gpg", "--homedir", str(home), "--batch", "--no-tty", "--no-autostart", "--lock-never", *OPTIONS, *arguments],
        check=False,
        input=data,
        pass_fds=pass_fds,
    )


@contextmanager
def with_agent(home: Path) -> Iterator[Path]:
    """A path of ``home`` under which ``gpg-agent`` can be reached; an agent that was started meanwhile is ended.

    An agent that runs already (the user's own, who may have unlocked a key in it) is used and left alone.
    """
    home = home.absolute()
    with tempfile.TemporaryDirectory(prefix="respin-gpg-") as short:
        path = home
        if len(os.fsencode(home)) > _LONGEST_HOME:
            path = Path(short) / "home"
            path.symlink_to(home)
        running = agent_is_running(path)
        try:
            yield path
        finally:
            if not running:
                process.run(["gpgconf", "--homedir", str(path), "--kill", "all"], check=False)
                process.run(["gpgconf", "--homedir", str(path), "--remove-socketdir"], check=False)


def agent_is_running(home: Path) -> bool:
    """Whether a ``gpg-agent`` answers on the socket of ``home``."""
    listed = process.run(["gpgconf", "--homedir", str(home), "--list-dirs", "agent-socket"], check=False)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fsdecode(listed.stdout.rstrip(b"\n")))
        except (OSError, ValueError):
            return False
        return True
