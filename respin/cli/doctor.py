"""``respin doctor``."""

from __future__ import annotations

import click
from rich.text import Text

from respin.cli.common import Command, Session, json_option
from respin.doctor import examine


@click.command("doctor", cls=Command)
@json_option
@click.pass_context
def doctor(context: click.Context, json_output: bool) -> None:
    """What this machine can do, what is missing and how to install it.

    Exits with 5 when something that `respin build` needs is missing.

    \b
    Example:
      respin doctor
    """
    session: Session = context.obj
    checks = examine()
    document = {
        "schema": "respin.doctor/1",
        "ok": all(check.ok for check in checks),
        "checks": [
            {"name": c.name, "ok": c.ok, "detail": c.detail, **({"remedy": c.remedy} if c.remedy else {})}
            for c in checks
        ],
    }
    text = Text()
    width = max(len(check.name) for check in checks)
    for check in checks:
        text.append("ok       " if check.ok else "missing  ", style="green" if check.ok else "bold red")
        text.append(f"{check.name:<{width}}  {check.detail}\n")
        if not check.ok and check.remedy:
            text.append(f"{'':<9}{'':<{width}}  what to do: {check.remedy}\n")
    text.append("This machine can build." if document["ok"] else "This machine cannot build yet.", style="bold")
    session.console.markup(document, text)
    context.exit(0 if document["ok"] else 5)
