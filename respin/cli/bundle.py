"""``respin bundle``: make, sign, verify and show plugin bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from respin.bundle import CommandSigner, create, read_bundle, sign, summary, verify
from respin.bundle.maker import Draft
from respin.bundle.packing import SIGNATURE
from respin.bundle.signing import DetachedSigner
from respin.cli.common import Group, Session, force_option, gnupg_home_of, gnupg_home_option, json_option, trust_option
from respin.errors import UsageError
from respin.formats.openpgp import Signer
from respin.scratch import Reaper
from respin.trust import TrustStore
from respin.workspace import Output, Workspace, write_file

_BUNDLE = click.argument("bundle_path", metavar="BUNDLE", type=click.Path(path_type=Path))


@click.group("bundle", cls=Group)
def bundle() -> None:
    """Make, sign, verify and show plugin bundles."""


@bundle.command("create")
@click.argument("spec", metavar="SPEC.toml", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "out_dir",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where it goes (default: here); made if it is missing.",
)
@force_option
@json_option
@click.pass_obj
def create_command(session: Session, spec: Path, out_dir: Path, force: bool, json_output: bool) -> None:
    """Make an unsigned bundle from a specification.

    \b
    Example:
      respin bundle create exnic.toml -o dist
      respin bundle sign dist/exnic-1.2-1.x86_64.plugin.tar --key FPR --gnupg-home DIR
    """
    console = session.console
    with Workspace(session.tmpdir) as workspace:
        draft = create(spec, workspace.path, console)
        try:
            target = out_dir / draft.manifest.file_name
            out_dir.mkdir(parents=True, exist_ok=True)
            _publish(draft, target, workspace.reaper, force=force)
            document = {**summary.describe(draft.bundle)[1], "path": str(target)}
        finally:
            draft.bundle.close()
    console.result(document, summary.text(draft.manifest, document))
    console.note(f"wrote {target}; look at what it declares, then sign it with `respin bundle sign`")


@bundle.command("sign")
@_BUNDLE
@click.option("--key", metavar="FPR", help="Full fingerprint of the signing key.")
@gnupg_home_option
@click.option("--signer", "command", metavar="CMD", help="Program that reads stdin and prints an armored signature.")
@json_option
@click.pass_obj
def sign_command(
    session: Session,
    bundle_path: Path,
    key: Optional[str],
    gnupg_home: Optional[Path],
    command: Optional[str],
    json_output: bool,
) -> None:
    """Sign a bundle in place; a signature it had is replaced.

    \b
    Examples:
      respin bundle sign exnic-1.2-1.x86_64.plugin.tar --key FPR --gnupg-home DIR
      respin bundle sign exnic-1.2-1.x86_64.plugin.tar --signer 'our-hsm sign --armor'
    """
    console = session.console
    with Workspace(session.tmpdir) as workspace:
        draft = sign(bundle_path, _signer(key, gnupg_home, command), workspace.path, console)
        try:
            if bundle_path.is_dir():
                member = draft.bundle.member(SIGNATURE)
                write_file(bundle_path / SIGNATURE, member.read() if member else b"", force=True)
            else:
                _publish(draft, bundle_path, workspace.reaper, force=True)
            document = {**summary.describe(draft.bundle)[1], "path": str(bundle_path)}
        finally:
            draft.bundle.close()
    console.result(document, f"{bundle_path} is signed: {draft.manifest.nvra}, sha256 {draft.bundle.sha256}")


@bundle.command("verify")
@_BUNDLE
@trust_option
@json_option
@click.pass_obj
def verify_command(session: Session, bundle_path: Path, trust: Path, json_output: bool) -> None:
    """Verify a bundle, its packages and what it declares against a trust store.

    \b
    Example:
      respin bundle verify exnic-1.2-1.x86_64.plugin.tar --trust trust
    """
    console = session.console
    with Workspace(session.tmpdir) as workspace:
        verified = verify(bundle_path, TrustStore.load(trust, session.tmpdir), workspace.path, console)
        verified.close()
        document = summary.describe_verified(verified)
    console.result(document, summary.text(verified.manifest, document))


@bundle.command("show")
@_BUNDLE
@json_option
@click.pass_obj
def show_command(session: Session, bundle_path: Path, json_output: bool) -> None:
    """Show what a bundle says of itself, signed or not; nothing is verified.

    \b
    Example:
      respin bundle show exnic-1.2-1.x86_64.plugin.tar --json
    """
    console = session.console
    with Workspace(session.tmpdir) as workspace, read_bundle(bundle_path, workspace.path, console) as read:
        manifest, document = summary.describe(read)
    console.result(document, summary.text(manifest, document))


def _signer(key: Optional[str], gnupg_home: Optional[Path], command: Optional[str]) -> DetachedSigner:
    if command is not None:
        return CommandSigner(command)
    home = gnupg_home_of(gnupg_home, wanted=True)
    if key is None or home is None:
        raise UsageError(
            "there is nothing to sign with",
            remedy="name a key and its home (--key FPR --gnupg-home DIR), or a program (--signer CMD)",
        )
    return Signer(home, key)


def _publish(draft: Draft, target: Path, reaper: Reaper, *, force: bool) -> None:
    with Output(target, force=force, reaper=reaper) as output:
        with output.writing():
            draft.write(output.fd)
        output.publish()
