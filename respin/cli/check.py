"""``respin check``."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

import click

from respin.check import CheckRequest
from respin.check import check as run_check
from respin.cli.common import Command, Session, claim_options, json_option, trust_option
from respin.errors import PolicyError
from respin.report.check import render


@click.command("check", cls=Command)
@click.argument("plugins", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="BUNDLE...")
@click.option(
    "--base", type=click.Path(path_type=Path), required=True, metavar="NODE.iso", help="The vendor's Node ISO."
)
@claim_options("Verify the base by this CHECKSUM, too.", "Verify the base by a digest that you vouch for.")
@trust_option
@click.option(
    "--lspci",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Output of `lspci -nn`: which of these devices would be driven, before and after.",
)
@json_option
@click.pass_obj
def check(
    session: Session,
    plugins: Tuple[Path, ...],
    base: Path,
    base_checksum: Optional[Path],
    base_sha256: Optional[str],
    trust: Path,
    lspci: Optional[Path],
    json_output: bool,
) -> None:
    """Say whether plugins fit a Node, without building.

    Everything that a build judges before it runs anything: signatures, target, conflicts, protected paths. And of each
    kernel module: is it for this kernel, are all symbols there with the CRCs it was built with, are the modules and the
    firmware there that it needs, who signed it. Exits with 4 when a build would be refused.

    \b
    Example:
      respin check exnic-1.2-1.x86_64.plugin.tar --base node.iso --trust trust --lspci server.lspci
    """
    console = session.console
    request = CheckRequest(
        base=base,
        plugins=plugins,
        trust=trust,
        base_checksum=base_checksum,
        base_sha256=base_sha256,
        lspci=lspci,
        tmpdir=session.tmpdir,
    )
    found = run_check(request, progress=console)
    console.markup(found.to_json(), render(found))
    if found.findings:
        raise click.exceptions.Exit(PolicyError.exit_code)
