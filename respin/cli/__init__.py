"""The command line: parses, calls one function, renders. Names, options and exit codes are a contract with scripts."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from types import FrameType
from typing import List, NoReturn, Optional

import click

from respin import __version__
from respin.cli.common import Group, Session, report_failure
from respin.report.console import guard_output, make_descriptors

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


_COMMANDS = (
    "build",
    "check",
    "verify",
    "inspect",
    "diff",
    "reproduce",
    "restore",
    "pxe",
    "sign",
    "attest",
    "sbom",
    "bundle",
    "keys",
    "doctor",
)


class _Commands(Group):
    """The commands, each in the module of its name, imported when it is asked for: they share little."""

    def list_commands(self, ctx: click.Context) -> List[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"respin.cli.{cmd_name}"), cmd_name)
        return command


@click.group("respin", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", message="respin %(version)s")
def cli() -> None:
    """Add signed plugins to a vendor's hypervisor Node ISO, and prove what was added.

    \b
    Example:
      respin build --base node.iso --base-checksum node.iso.CHECKSUM \\
          --plugin exnic-1.2-1.x86_64.plugin.tar --trust trust --sign-key FPR --gnupg-home DIR -o out.iso
      respin verify out.iso --trust trust
    """


def main(arguments: Optional[List[str]] = None) -> NoReturn:
    """Run ``respin`` and exit with its status; whatever goes wrong, a person reads a sentence and not a traceback."""
    for number in _INTERRUPTS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, _interrupt)
    make_descriptors()
    guard_output()
    session = Session()
    # Also what is wrong with the command line itself is told as was asked for
    session.json_output = "--json" in (sys.argv[1:] if arguments is None else arguments)
    try:
        # Outside standalone mode click returns the status that a command gave to Context.exit
        returned = cli.main(args=arguments, prog_name="respin", standalone_mode=False, obj=session)
        status = returned if isinstance(returned, int) else 0
        sys.stdout.flush()  # what does not arrive is a failure, too
    except BaseException as error:  # everything: this is the last line of defence
        _ignore_interrupts()
        status = report_failure(session, error)
    _ignore_interrupts()
    sys.exit(status)


def _ignore_interrupts() -> None:
    """What is left to do takes no time, and who presses Ctrl-C twice should not see a traceback."""
    for number in _INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, frame: Optional[FrameType]) -> None:
    raise KeyboardInterrupt
