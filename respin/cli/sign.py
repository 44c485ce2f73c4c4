"""``respin sign``."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click
from rich.text import Text

from respin.cli.common import Command, Session, gnupg_home_of, gnupg_home_option, json_option
from respin.safepath import show
from respin.sign import SignedIso, SignRequest
from respin.sign import sign as run_sign


@click.command("sign", cls=Command)
@click.argument("iso", type=click.Path(path_type=Path), metavar="OUT.iso")
@click.option("--key", required=True, metavar="FPR", help="Full fingerprint of the signing key.")
@gnupg_home_option
@click.option("--signer", "command", metavar="CMD", help="Program that reads stdin and prints an armored signature.")
@click.option("--force", is_flag=True, help="Write the slot anew: what it holds is dropped, damaged or not.")
@json_option
@click.pass_obj
def sign(
    session: Session,
    iso: Path,
    key: str,
    gnupg_home: Optional[Path],
    command: Optional[str],
    force: bool,
    json_output: bool,
) -> None:
    """Sign or countersign a respun ISO in place; the files beside it are renewed.

    The ISO must be what its statement says, or nothing is written. The signature goes into the slot that the ISO has
    for it; no other byte changes. A signature filed under the same key is replaced, others stay. A slot that is
    damaged, by a power cut while it was written, is refused; with --force it is written anew.

    With --signer the program is run three times: for the statement in the ISO, for the one beside it, and for the
    CHECKSUM. A GnuPG home with the public key has its signatures checked before they are written.

    \b
    Examples:
      respin sign out.iso --key FPR --gnupg-home gnupg
      respin sign out.iso --key FPR --signer 'ssh signer gpg --armor --detach-sign -u FPR'
    """
    home = gnupg_home_of(gnupg_home, wanted=command is None)
    console = session.console
    done = run_sign(SignRequest(iso, key, home, command, session.tmpdir, force), console)
    console.markup(done.to_json(), Text("\n".join(_lines(done))))
    if not done.checked:
        console.warn(
            "the signatures were not checked, for the public key is not at hand; run `respin verify` before you publish"
        )


def _lines(done: SignedIso) -> "list[str]":
    return [
        f"{done.iso}: signed by {', '.join(done.keys)}",
        *(f"  not signed any more by {key}: have it signed again" for key in done.dropped),
        f"  it is {show(done.base)} with {', '.join(show(str(plugin['name'])) for plugin in done.plugins)}",
        f"  {done.size} bytes, sha256 {done.sha256}",
        *(f"  beside it: {path}" for path in done.sidecars),
    ]
