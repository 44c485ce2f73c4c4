"""``respin build``."""

from __future__ import annotations

from pathlib import Path
from typing import FrozenSet, Optional, Tuple

import click

from respin.cli.common import (
    Command,
    Session,
    claim_options,
    force_option,
    gnupg_home_of,
    gnupg_home_option,
    json_option,
    trust_option,
)
from respin.digesting import digesting
from respin.errors import UsageError
from respin.medium.revision import MOST_REVISIONS, NEXT_REVISION
from respin.recipe import FINDING as RECIPE
from respin.recipe import read_recipe

# Of each pair one is enough: naming one on the command line takes back the other of a recipe.
_EITHER = (("unsigned", "sign_key"), ("base_sha256", "base_checksum"))


def _take_recipe(context: click.Context, parameter: click.Parameter, value: Optional[Path]) -> None:
    """What a recipe says counts where the command line says nothing."""
    if value is None:
        return
    found = read_recipe(value)
    if not 1 <= found.get("revision", 1) <= MOST_REVISIONS:
        raise UsageError(f"revision is not a number from 1 to {MOST_REVISIONS}", where=str(value), finding=RECIPE)
    context.default_map = found


def _displaced(context: click.Context) -> FrozenSet[str]:
    """The parameters of a recipe that count no more, because the command line names their alternative."""
    source = context.get_parameter_source
    said, recipe = click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.DEFAULT_MAP
    pairs = [pair for one, other in _EITHER for pair in ((one, other), (other, one))]
    return frozenset(other for one, other in pairs if source(one) is said and source(other) is recipe)


@click.command("build", cls=Command)
@click.argument(
    "recipe",
    type=click.Path(path_type=Path),
    required=False,
    is_eager=True,
    expose_value=False,
    callback=_take_recipe,
    metavar="[RECIPE.toml]",
)
@click.option("--base", type=click.Path(path_type=Path), metavar="NODE.iso", help="The vendor's ISO.")
@claim_options(
    "The vendor's clearsigned CHECKSUM file that names the ISO.",
    "Vouch for the ISO yourself; reported as pinned, not as signed.",
)
@click.option(
    "--plugin",
    "plugins",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="BUNDLE",
    help="A signed plugin bundle; may be given several times.",
)
@trust_option
@click.option("--sign-key", metavar="FPR", help="Fingerprint of the key to sign the statement with (role respin).")
@gnupg_home_option
@click.option("--unsigned", is_flag=True, help="Leave the signature slot empty; `respin verify` will refuse the ISO.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="OUT.iso", help="The ISO to write.")
@click.option("--no-restore", is_flag=True, help="Leave the restore map out: smaller, but the stock Node isn't in it.")
@click.option(
    "--remove", multiple=True, metavar="NAME", help="Leave out a plugin that the (respun) base holds; repeatable."
)
@click.option(
    "--append-arg", multiple=True, metavar="ARG", help="Add a kernel argument to every boot entry; repeatable."
)
@click.option(
    "--remove-arg", multiple=True, metavar="ARG", help="Take a kernel argument out of every boot entry; repeatable."
)
@click.option("--no-grow", is_flag=True, help="Refuse plugins for which the root image has too little room.")
@click.option(
    "--revision",
    type=click.IntRange(1, MOST_REVISIONS),
    metavar="N",
    help="Which respin of the vendor's release this is, as the Node shows it. Default: 1, or one more than the base's.",
)
@click.option(
    "--payload",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write the new root image as a file, for `imgbase update --format liveimg FILE`.",
)
@force_option
@json_option
@click.pass_context
def build(
    context: click.Context,
    base: Optional[Path],
    base_checksum: Optional[Path],
    base_sha256: Optional[str],
    plugins: Tuple[Path, ...],
    trust: Path,
    sign_key: Optional[str],
    gnupg_home: Optional[Path],
    unsigned: bool,
    output: Optional[Path],
    no_restore: bool,
    remove: Tuple[str, ...],
    append_arg: Tuple[str, ...],
    remove_arg: Tuple[str, ...],
    no_grow: bool,
    revision: Optional[int],
    payload: Optional[Path],
    force: bool,
    json_output: bool,
) -> None:
    """Add signed plugins to a vendor's Node ISO.

    Everything is verified before anything runs, the RPMs are installed without dependency resolution in a sandbox
    without network, and the output appears only when it has been verified against the vendor's ISO.

    The base may also be a respun ISO: the vendor's is restored from it first, and every plugin that it holds has to be
    given again, replaced, or left out with --remove.

    --append-arg and --remove-arg change the kernel's command line in every copy of the boot configuration, so that all
    ways of booting agree. ARG is NAME or NAME=VALUE; NAME alone removes it whatever its value is.

    All of it can stand in a recipe, a TOML file; options on the command line count instead of what it says. Without one
    --base, --plugin and --output are required, and so is one of --base-checksum and --base-sha256.

    \b
    Examples:
      respin build respin.toml
      respin build --base node.iso --base-checksum node.iso.CHECKSUM \\
          --plugin exnic-1.2-1.x86_64.plugin.tar --trust trust \\
          --sign-key 0123456789ABCDEF0123456789ABCDEF01234567 --gnupg-home gnupg -o out.iso
    """
    session: Session = context.obj
    displaced = _displaced(context)
    sign_key = None if "sign_key" in displaced else sign_key
    if (unsigned and "unsigned" not in displaced) == (sign_key is not None):
        raise UsageError("say how the result is to be signed", remedy="give --sign-key FPR, or --unsigned")
    if base is None or output is None:
        missing = "what to build on: --base NODE.iso" if base is None else "where the result goes: -o OUT.iso"
        raise UsageError(f"say {missing}", remedy="give it, or a recipe that does; see `respin build -h`")
    console = session.console
    with digesting(base) as begun:
        # Reading these modules takes as long as hashing an ISO, so the one is done beside the other.
        from respin.build.build import build as run_build
        from respin.build.prepare import BuildRequest
        from respin.formats.bootconfig import ArgumentEdit
        from respin.medium.derive import MediumRequest
        from respin.report.build import render

        request = BuildRequest(
            base=base,
            plugins=plugins,
            trust=trust,
            output=output,
            base_checksum=None if "base_checksum" in displaced else base_checksum,
            base_sha256=None if "base_sha256" in displaced else base_sha256,
            sign_key=sign_key,
            gnupg_home=gnupg_home_of(gnupg_home, wanted=sign_key is not None),
            tmpdir=session.tmpdir,
            force=force,
            restorable=not no_restore,
            remove=frozenset(remove),
            payload=payload,
            medium=MediumRequest(ArgumentEdit(append_arg, remove_arg), revision or NEXT_REVISION),
            may_grow=not no_grow,
        )
        result = run_build(request, console, begun)
    for warning in result.warnings:
        console.warn(warning)
    if result.transcript:
        console.note(result.transcript, level=1)
    console.markup(result.to_json(), render(result))
