"""``respin diff``."""

from __future__ import annotations

from pathlib import Path

import click

from respin.cli.common import Command, Session, json_option
from respin.diff.diff import diff as run_diff
from respin.report.diff import render

DIFFERENT = 1


@click.command("diff", cls=Command)
@click.argument("a", type=click.Path(path_type=Path), metavar="A.iso")
@click.argument("b", type=click.Path(path_type=Path), metavar="B.iso")
@click.option("--all", "everything", is_flag=True, help="Cut no list short.")
@json_option
@click.pass_obj
def diff(session: Session, a: Path, b: Path, everything: bool, json_output: bool) -> None:
    """Show what differs between two Node ISOs, stock or respun.

    Packages, files of the root with every attribute, kernel modules, initrds, boot configuration, the ISO's own files
    and structure. Nothing is verified, mounted or executed. Exits with 0 when the two are the same, byte by byte, and
    with 1 when they differ.

    \b
    Example:
      respin diff node-4.5.1.iso node-4.5.2.iso
    """
    console = session.console
    found = run_diff(a, b, session.tmpdir, progress=console)
    console.markup(found.to_json(), render(found, everything=everything))
    if not found.identical:
        raise click.exceptions.Exit(DIFFERENT)
