"""The ``respin`` command, also as ``python -m respin``."""

import signal

# Until there is something to tidy up, and while all the rest is imported, Ctrl-C just ends it without a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from respin.cli import main

if __name__ == "__main__":
    main()
