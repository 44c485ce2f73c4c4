"""The ``respin`` command, also as ``python -m respin``."""

import signal

# Until there is something to tidy up, and while all the rest is imported, Ctrl-C just ends it without a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import sys

from respin.cli import main as cli_main


def main() -> None:
    """Run it, and end without taking every object apart: the kernel is quicker at that."""
    try:
        cli_main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            status = status or 1  # nobody can read it any more
        os._exit(status)


if __name__ == "__main__":
    main()
