"""``respin attest``."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click
from rich.text import Text

from respin.attest import Attested, AttestRequest
from respin.attest import attest as run_attest
from respin.cli.common import Command, Session, force_option, gnupg_home_of, gnupg_home_option, json_option
from respin.provenance.signing import Signatory
from respin.provenance.testresult import FAILED, PASSED, WARNED
from respin.safepath import show


@click.command("attest", cls=Command)
@click.argument("iso", type=click.Path(path_type=Path), metavar="OUT.iso")
@click.option(
    "--test-result",
    "results",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RESULTS.json",
    help="Results of tests of this ISO (schema respin.test-results/1).",
)
@click.option("--key", required=True, metavar="FPR", help="Full fingerprint of the signing key.")
@gnupg_home_option
@click.option("--signer", "command", metavar="CMD", help="Program that reads stdin and prints an armored signature.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a file of its own (default: a further line in OUT.iso.intoto.jsonl).",
)
@force_option
@json_option
@click.pass_obj
def attest(
    session: Session,
    iso: Path,
    results: Path,
    key: str,
    gnupg_home: Optional[Path],
    command: Optional[str],
    output: Optional[Path],
    force: bool,
    json_output: bool,
) -> None:
    """Sign what came out of testing an ISO, and put the statement beside it.

    The statement is an in-toto test result, whose subject is the ISO by its sha256: the results must be of exactly
    these bytes. Failed tests are attested like others. The ISO is not changed, nor are other statements beside it.

    \b
    Example:
      examples/boot-matrix --json results.json
      respin attest out.iso --test-result results.json --key FPR --gnupg-home gnupg
    """
    home = gnupg_home_of(gnupg_home, wanted=command is None)
    console = session.console
    request = AttestRequest(iso, results, Signatory(key, home, command), output, force, session.tmpdir)
    done = run_attest(request, console)
    console.markup(done.to_json(), Text("\n".join(_lines(done))))
    if not done.checked:
        console.warn("the signature was not checked, for the public key is not at hand")


def _lines(done: Attested) -> "list[str]":
    found = done.results
    counts = f"{len(found.named(PASSED))} passed, {len(found.named(WARNED))} warned, {len(found.named(FAILED))} failed"
    return [
        f"{done.iso}: {found.result}, {counts}; signed by {done.key}",
        *(f"  failed: {show(name)}" for name in found.named(FAILED)),
        f"  sha256 {done.sha256}",
        f"  in {done.written}, with {done.statements} statement{'' if done.statements == 1 else 's'}",
    ]
