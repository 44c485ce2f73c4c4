"""``respin verify --host``."""

from __future__ import annotations

from respin.cli.common import Session
from respin.errors import VerificationError
from respin.host.check import HostRequest, check_host
from respin.report.host import render


def verify_host(session: Session, request: HostRequest) -> int:
    """Check an installed Node and print what was found; returns the exit status: 3 for drift."""
    report = check_host(request, progress=session.console)
    session.console.markup(report.to_json(), render(report))
    return 0 if report.consistent else VerificationError.exit_code
