"""``respin inspect``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from respin.byteview import FileView
from respin.cli.common import Command, Session, json_option
from respin.inspect import inspect as run_inspect
from respin.node.base import open_input, read_small
from respin.provenance import sidecar
from respin.report.inspect import render


@click.command("inspect", cls=Command)
@click.argument("iso", type=click.Path(path_type=Path), metavar="ISO")
@json_option
@click.pass_obj
def inspect(session: Session, iso: Path, json_output: bool) -> None:
    """Show what an ISO is: layout, kernel, boot setup, plugins, provenance.

    Works on stock ISOs too. Nothing is verified, mounted or executed. Results of tests in ISO.intoto.jsonl are shown.

    \b
    Example:
      respin inspect node.iso
    """
    fd = open_input(iso)
    try:
        beside = sidecar.paths(iso)[0]
        bundle = read_small(beside, sidecar.LIMIT) if beside.is_file() else b""
        found = run_inspect(FileView(fd, str(iso)), bundle)
    finally:
        os.close(fd)
    session.console.markup(found.to_json(), render(found))
