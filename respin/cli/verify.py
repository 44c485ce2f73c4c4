"""``respin verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from respin.cli.common import Command, Session, json_option, trust_option
from respin.errors import UsageError
from respin.report.verify import render
from respin.verify.verify import VerifyRequest
from respin.verify.verify import verify as run_verify


@click.command("verify", cls=Command)
@click.argument("iso", type=click.Path(path_type=Path), metavar="OUT.iso")
@trust_option
@click.option("--base", type=click.Path(path_type=Path), metavar="NODE.iso", help="The vendor's ISO, to compare with.")
@click.option(
    "--base-checksum",
    type=click.Path(path_type=Path),
    metavar="CHECKSUM",
    help="The vendor's clearsigned CHECKSUM file for --base.",
)
@json_option
@click.pass_obj
def verify(
    session: Session,
    iso: Path,
    trust: Path,
    base: Optional[Path],
    base_checksum: Optional[Path],
    json_output: bool,
) -> None:
    """Is this a vendor's Node plus exactly the declared plugins, and who says so?

    Every byte outside the declared changes is compared with the vendor's ISO: the one given with --base, or the one
    that the restore map in the ISO brings back. Every change is judged by the signatures of the plugins. Without a
    restore map and without --base the verdict says that the stock check was not done.

    \b
    Example:
      respin verify out.iso --trust trust
    """
    if base_checksum is not None and base is None:
        raise UsageError("--base-checksum speaks of the vendor's ISO", remedy="give it with --base NODE.iso")
    console = session.console
    report = run_verify(VerifyRequest(iso, trust, base, base_checksum, session.tmpdir), progress=console)
    console.markup(report.to_json(), render(report))
