"""``respin inspect``."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import ContextManager, Optional, Sequence

import click

from respin.byteview import FileView, chunks
from respin.cli.common import Command, Session, json_option
from respin.errors import PolicyError, UsageError
from respin.inspect import inspect as run_inspect
from respin.limits import LIMITS
from respin.lint.lint import lint as run_lint
from respin.node.base import open_input, read_small
from respin.node.knownprofiles import built_in, known
from respin.node.profile import Profile
from respin.provenance import sidecar
from respin.provenance.carrier import find_iso
from respin.report.inspect import render
from respin.report.lint import render as render_lint
from respin.report.rootfiles import line
from respin.rootfiles import list_files, open_file
from respin.trust import TrustStore
from respin.unchanged import unchanged


@click.command("inspect", cls=Command)
@click.argument("iso", type=click.Path(path_type=Path), metavar="ISO")
@click.option("--files", is_flag=True, help="List the files of the root image, with all attributes.")
@click.option("--below", metavar="PATH", help="With --files: only this path and what is below it.")
@click.option("--lint", is_flag=True, help="Find what would keep the ISO from booting or installing; any vendor's ISO.")
@click.option("--cat", metavar="PATH", help="Write the content of one file of the root image to standard output.")
@click.option(
    "--trust", type=click.Path(path_type=Path), metavar="DIR", help="A trust store whose profiles of Nodes count too."
)
@json_option
@click.pass_obj
def inspect(
    session: Session,
    iso: Path,
    files: bool,
    below: Optional[str],
    lint: bool,
    cat: Optional[str],
    trust: Optional[Path],
    json_output: bool,
) -> None:
    """Show what an ISO is: layout, kernel, boot setup, plugins, provenance.

    Works on stock ISOs too. Nothing is verified, mounted or executed. Results of tests in ISO.intoto.jsonl are shown.
    With --lint the exit status is 4 when there is an error.

    \b
    Examples:
      respin inspect node.iso
      respin inspect node.iso --files --below /etc
      respin inspect node.iso --cat /etc/os-release
      respin inspect node.iso --lint
    """
    if below is not None and not files:
        raise UsageError("--below says what part of the files is to be listed", remedy="give it with --files")
    if files + (cat is not None) + lint > 1:
        raise UsageError(
            "these options exclude each other", remedy="say --files [--below PATH], or --cat PATH, or --lint"
        )
    fd = open_input(iso)
    try:
        view = FileView(fd, str(iso))
        profiles = built_in() if trust is None else known(TrustStore.load(trust, session.tmpdir))
        if files:
            _list(session, view, unchanged(fd, str(iso)), below or "/", profiles)
        elif cat is not None:
            _cat(session, view, unchanged(fd, str(iso)), cat, profiles)
        elif lint:
            with unchanged(fd, str(iso)):
                linted = run_lint(find_iso(view).view, profiles, session.console)
            session.console.markup(linted.to_json(), render_lint(linted))
            if not linted.passed:
                raise click.exceptions.Exit(PolicyError.exit_code)
        else:
            beside = sidecar.paths(iso)[0]
            with unchanged(fd, str(iso)):
                found = run_inspect(view, read_small(beside, sidecar.LIMIT) if beside.is_file() else b"", profiles)
            session.console.markup(found.to_json(), render(found))
    finally:
        os.close(fd)


def _list(session: Session, view: FileView, guard: ContextManager[None], top: str, profiles: Sequence[Profile]) -> None:
    if not session.json_output:
        with guard:
            for file in list_files(view, top, profiles):
                session.console.line(line(file))
        return
    with guard:
        entries = [file.to_json() for file in list_files(view, top, profiles)]
    session.console.result({"schema": "respin.files/1", "iso": view.name, "files": entries}, "")


def _cat(session: Session, view: FileView, guard: ContextManager[None], path: str, profiles: Sequence[Profile]) -> None:
    if not session.json_output:
        with guard:
            for piece in chunks(open_file(view, path, profiles)):
                session.console.raw(piece)
        return
    with guard:
        content = open_file(view, path, profiles)
        if content.size > LIMITS.small_file:
            raise UsageError(
                f"{path} has {content.size} bytes, too many for one JSON document", remedy="leave out --json"
            )
        text = base64.b64encode(content.read(0, content.size)).decode("ascii")
    document = {"schema": "respin.file/1", "iso": view.name, "path": path, "size": content.size, "content": text}
    session.console.result(document, "")
