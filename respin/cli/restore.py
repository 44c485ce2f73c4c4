"""``respin restore``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from respin.cli.common import Command, Session, force_option, json_option
from respin.restore import restore as run_restore


@click.command("restore", cls=Command)
@click.argument("iso", type=click.Path(path_type=Path), metavar="OUT.iso")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="STOCK.iso", help="The ISO to write."
)
@force_option
@json_option
@click.pass_obj
def restore(session: Session, iso: Path, output: Path, force: bool, json_output: bool) -> None:
    """Get the vendor's ISO back, bit for bit, from a respun one.

    Compare the sha256 that is printed with the vendor's own CHECKSUM: that proves it without respin.

    \b
    Example:
      respin restore out.iso -o node.iso && sha256sum -c node.iso.CHECKSUM
    """
    console = session.console
    done = run_restore(iso, output, session.tmpdir, force=force, progress=console)
    document = {"schema": "respin.restore/1", "output": str(done.output), "sha256": done.sha256, "size": done.size}
    console.markup(document, Text(f"{done.output}: {done.size} bytes\nsha256 {done.sha256}"))
