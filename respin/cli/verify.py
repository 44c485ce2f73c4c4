"""``respin verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, Optional, Union

import click

from respin.cli.common import (
    Command,
    Session,
    force_option,
    gnupg_home_of,
    gnupg_home_option,
    json_option,
    trust_option,
)
from respin.cli.host import verify_host
from respin.clock import parse_time
from respin.errors import PolicyError, RespinError, UnsupportedError, UsageError, VerificationError
from respin.formats.openpgp import Signer
from respin.host.check import HostRequest
from respin.report import html, markdown
from respin.report.page import Page, page_of, page_of_failure
from respin.report.verify import render
from respin.verify.report import Report
from respin.verify.verify import VerifyRequest
from respin.verify.verify import verify as run_verify
from respin.vsa import Outcome, summarise
from respin.workspace import refuse_existing, refuse_inputs, refuse_same, write_file


@click.command("verify", cls=Command)
@click.argument("iso", type=click.Path(path_type=Path), metavar="OUT.iso", required=False)
@trust_option
@click.option("--base", type=click.Path(path_type=Path), metavar="NODE.iso", help="The vendor's ISO, to compare with.")
@click.option(
    "--base-checksum",
    type=click.Path(path_type=Path),
    metavar="CHECKSUM",
    help="The vendor's clearsigned CHECKSUM file for --base.",
)
@click.option("--report", "page", type=click.Path(path_type=Path), metavar="FILE", help="Write a page: .md or .html.")
@click.option(
    "--vsa", type=click.Path(path_type=Path), metavar="FILE", help="Write a Verification Summary Attestation."
)
@click.option("--sign-key", metavar="FPR", help="Fingerprint of the key to sign the summary with.")
@gnupg_home_option
@click.option("--at", metavar="TIME", help="Judge expiry at this time: 2026-07-01 or 2026-07-01T12:00:00Z.")
@click.option(
    "--host",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=Path("/"),
    metavar="[ROOT]",
    help="Check an installed Node by the facts in its root (default: /) instead of an ISO.",
)
@click.option(
    "--iso",
    "host_iso",
    type=click.Path(path_type=Path),
    metavar="OUT.iso",
    help="With --host: verify this ISO and compare the Node's files with its.",
)
@force_option
@json_option
@click.pass_context
def verify(
    context: click.Context,
    iso: Optional[Path],
    trust: Path,
    base: Optional[Path],
    base_checksum: Optional[Path],
    page: Optional[Path],
    vsa: Optional[Path],
    sign_key: Optional[str],
    gnupg_home: Optional[Path],
    at: Optional[str],
    host: Optional[Path],
    host_iso: Optional[Path],
    force: bool,
    json_output: bool,
) -> None:
    """Is this a vendor's Node plus exactly the declared plugins, and who says so?

    Every byte outside the declared changes is compared with the vendor's ISO: the one given with --base, or the one
    that the restore map in the ISO brings back. Every change is judged by the signatures of the plugins. Without a
    restore map and without --base the verdict says that the stock check was not done.

    With --host an installed Node is checked: each plugin's packages and files by the facts in its root. They are
    unsigned, so that shows what drifted and names the ISO to verify; with --iso, the files are compared with its.

    OUT.iso may be a stick or disk that the ISO was written to (/dev/sdX), or an image of one.

    The page and the summary are written when the verification fails, too; the exit status stays what it is.

    \b
    Examples:
      respin verify out.iso --trust trust
      respin verify /dev/sdX --trust trust
      respin verify out.iso --trust trust --report out.html --vsa out.vsa.json
      respin verify --host
      respin verify --host /mnt/root --iso out.iso --trust trust
    """
    session: Session = context.obj
    time = None if at is None else parse_time(at)
    if host is not None:
        if iso is not None or any((base, base_checksum, page, vsa, sign_key, gnupg_home)):
            raise UsageError(
                "--host checks an installed Node, not an ISO", remedy="give it with --iso and --trust alone"
            )
        if host_iso is None and any(
            context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE for name in ("trust", "at")
        ):
            raise UsageError("no key is asked about facts, which nobody signed", remedy="give it with --iso OUT.iso")
        context.exit(verify_host(session, HostRequest(host, host_iso, trust, session.tmpdir, time)))
    if iso is None or host_iso is not None:
        raise UsageError("say what to verify", remedy="name an ISO, or an installed Node's root with --host [ROOT]")
    if base_checksum is not None and base is None:
        raise UsageError("--base-checksum speaks of the vendor's ISO", remedy="give it with --base NODE.iso")
    renderer = _renderer(page)
    signer = _signer(vsa, sign_key, gnupg_home)
    refuse_inputs((page, vsa), (iso, base, base_checksum, trust, gnupg_home))
    refuse_same((page, vsa))
    for output in (page, vsa):
        if output is not None:
            refuse_existing(output, force=force)
    console = session.console
    result: Union[Report, RespinError]
    try:
        result = run_verify(
            VerifyRequest(iso, trust, base, base_checksum, session.tmpdir, plain=vsa is not None, at=time),
            progress=console,
        )
    except (VerificationError, PolicyError, UnsupportedError) as error:
        result = error
    if page is not None:
        found = page_of(result) if isinstance(result, Report) else page_of_failure(iso, result)
        write_file(page, renderer(found).encode("utf-8", "backslashreplace"), force=force)
    if vsa is not None:
        write_file(vsa, summarise(Outcome(iso, trust, result), signer, progress=console), force=force)
    if isinstance(result, RespinError):
        raise result
    console.markup(result.to_json(), render(result))


def _renderer(page: Optional[Path]) -> Callable[[Page], str]:
    kinds: Dict[str, Callable[[Page], str]] = {".md": markdown.render, ".html": html.render}
    if page is not None and page.suffix not in kinds:
        raise UsageError("a report is Markdown or HTML", where=str(page), remedy="name it FILE.md or FILE.html")
    return kinds[page.suffix] if page is not None else markdown.render


def _signer(vsa: Optional[Path], key: Optional[str], home: Optional[Path]) -> Optional[Signer]:
    if key is None:
        return None
    if vsa is None:
        raise UsageError("--sign-key signs the summary", remedy="give it with --vsa FILE")
    home = gnupg_home_of(home, wanted=True)
    if home is None:
        raise UsageError("a key to sign with was named, but not where it is", remedy="give --gnupg-home DIR")
    return Signer(home, key)
