"""``respin pxe``."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from respin.cli.common import Command, Session, claim_options, force_option, json_option
from respin.pxe.pxe import PxeRequest
from respin.pxe.pxe import pxe as run_pxe
from respin.report.pxe import render


@click.command("pxe", cls=Command)
@click.argument("iso", type=click.Path(path_type=Path), metavar="ISO")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The directory to make."
)
@click.option("--mode", default="", metavar="MODE", help="Another way to start than the profile's first choice.")
@click.option("--url", default="", metavar="BASE", help="The http base URL under which DIR will be served.")
@click.option(
    "--name", default="", metavar="NAME.iso", help="What to call the ISO for the Node (default: as its file)."
)
@click.option(
    "--trust", type=click.Path(path_type=Path), metavar="DIR", help="Verify the ISO with this trust store first."
)
@claim_options(
    "With --trust, for a vendor's ISO: the vendor's clearsigned CHECKSUM file.",
    "Verify the ISO by a digest that you vouch for.",
)
@force_option
@json_option
@click.pass_obj
def pxe(
    session: Session,
    iso: Path,
    output: Path,
    mode: str,
    url: str,
    name: str,
    trust: Optional[Path],
    base_checksum: Optional[Path],
    base_sha256: Optional[str],
    force: bool,
    json_output: bool,
) -> None:
    """Write what a server needs to start a Node from a network: kernel, initrd, image, boot menus.

    The menus, for PXELINUX, GRUB and iPXE, have the entries of the ISO's own, with other arguments in place of those by
    which the Node would look for its medium. How a Node starts from a network is in its profile; --mode chooses among
    the ways that it has. With --trust, --base-checksum or --base-sha256 the ISO is verified first, and nothing is
    written if that fails; without, the result says that it was not.

    --force replaces a directory that this command made and into which nothing was put since.

    \b
    Examples:
      respin pxe out.iso -o /srv/tftp/node --trust trust
      respin pxe node.iso -o /srv/www/node --trust trust --base-checksum node.iso.CHECKSUM --url http://10.0.0.1/node
    """
    console = session.console
    request = PxeRequest(
        iso=iso,
        output=output,
        mode=mode,
        url=url,
        name=name,
        trust=trust,
        checksum=base_checksum,
        sha256=base_sha256,
        tmpdir=session.tmpdir,
        force=force,
    )
    done = run_pxe(request, progress=console)
    console.markup(done.to_json(), render(done))
