"""``respin reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

import click

from respin.cli.common import Command, Session, claim_options, force_option, json_option, trust_option
from respin.errors import VerificationError
from respin.report.reproduce import render
from respin.reproduce.inputs import ReproduceRequest
from respin.reproduce.reproduce import reproduce as run_reproduce


@click.command("reproduce", cls=Command)
@click.argument("iso", type=click.Path(path_type=Path), metavar="OUT.iso")
@click.option(
    "--base",
    type=click.Path(path_type=Path),
    metavar="NODE.iso",
    help="The vendor's ISO; without it, it is restored from OUT.iso.",
)
@claim_options(
    "The vendor's clearsigned CHECKSUM (default: the one that OUT.iso carries).",
    "Vouch for the vendor's ISO yourself.",
)
@click.option(
    "--plugin",
    "plugins",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    metavar="BUNDLE",
    help="A bundle that the statement names; all of them are needed.",
)
@trust_option
@click.option("--keep", type=click.Path(path_type=Path), metavar="FILE", help="Keep the rebuilt (unsigned) ISO.")
@force_option
@json_option
@click.pass_obj
def reproduce(
    session: Session,
    iso: Path,
    base: Optional[Path],
    base_checksum: Optional[Path],
    base_sha256: Optional[str],
    plugins: Tuple[Path, ...],
    trust: Path,
    keep: Optional[Path],
    force: bool,
    json_output: bool,
) -> None:
    """Build a respun ISO again from what its statement names, and compare every byte but the signatures.

    Inputs that the statement does not name are refused before anything is built. Exits with 0 when the two are the same
    and with 3 when they differ. The rebuilt ISO needs no key: it is unsigned.

    \b
    Example:
      respin reproduce out.iso --base node.iso --base-checksum node.iso.CHECKSUM \\
          --plugin exnic-1.2-1.x86_64.plugin.tar --trust trust
    """
    console = session.console
    found = run_reproduce(
        ReproduceRequest(
            iso=iso,
            plugins=plugins,
            trust=trust,
            base=base,
            base_checksum=base_checksum,
            base_sha256=base_sha256,
            keep=keep,
            force=force,
            tmpdir=session.tmpdir,
        ),
        progress=console,
    )
    console.markup(found.to_json(), render(found))
    if not found.reproduced:
        raise click.exceptions.Exit(VerificationError.exit_code)
