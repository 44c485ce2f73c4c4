"""``respin sbom``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from respin.cli.common import Command, Session, force_option, json_option
from respin.sbom import SbomRequest
from respin.sbom import sbom as run_sbom


@click.command("sbom", cls=Command)
@click.argument("iso", type=click.Path(path_type=Path), metavar="ISO")
@click.option("--all", "everything", is_flag=True, help="The whole root, not only what was added; for stock ISOs too.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The file to write."
)
@force_option
@json_option
@click.pass_obj
def sbom(session: Session, iso: Path, everything: bool, output: Path, force: bool, json_output: bool) -> None:
    """Write a CycloneDX 1.6 bill of materials of what was added to a Node ISO, or of its whole root.

    It lists the packages that the Node's RPM database records. Nothing is verified; `respin verify` does that.

    \b
    Examples:
      respin sbom out.iso -o out.iso.added.cdx.json
      respin sbom out.iso --all -o out.iso.cdx.json
    """
    console = session.console
    done = run_sbom(SbomRequest(iso, output, everything, force, session.tmpdir), console)
    kind = f"package{'' if done.components == 1 else 's'} {'in its root' if everything else 'added'}"
    console.markup(done.to_json(), Text(f"{done.output}: {done.components} {kind}"))
