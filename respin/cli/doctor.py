"""``respin doctor``."""

from __future__ import annotations

import click
from rich.text import Text

from respin.cli.common import Command, Session, json_option
from respin.doctor import examine, ways


@click.command("doctor", cls=Command)
@json_option
@click.pass_context
def doctor(context: click.Context, json_output: bool) -> None:
    """What this machine can do, what is missing and how to install it, and which way a build goes here.

    Exits with 5 when something is missing without which `respin build` cannot do.

    \b
    Example:
      respin doctor
    """
    session: Session = context.obj
    checks = examine()
    found = ways(checks)
    document = {
        "schema": "respin.doctor/1",
        "ok": all(check.ok for check in checks if check.required),
        "checks": [
            {
                "name": c.name,
                "ok": c.ok,
                "required": c.required,
                "needed_for": c.needed_for or None,
                "detail": c.detail,
                **({"remedy": c.remedy} if c.remedy else {}),
            }
            for c in checks
        ],
        "ways": {way.layout: way.to_json() for way in found},
    }
    text = Text()
    width = max(len(check.name) for check in checks)
    for check in checks:
        word, style = ("missing", "bold red") if check.required else ("absent", "yellow")
        text.append(f"{'ok' if check.ok else word:<9}", style="green" if check.ok else style)
        purpose = f" (for {check.needed_for})" if check.needed_for else ""
        text.append(f"{check.name:<{width}}  {check.detail}{purpose}\n")
        if not check.ok and check.remedy:
            text.append(f"{'':<9}{'':<{width}}  what to do: {check.remedy}\n")
    for way in found:
        text.append(f"{'way':<9}{f'{way.layout} roots':<{width}}  {way.detail}\n")
    text.append("This machine can build." if document["ok"] else "This machine cannot build yet.", style="bold")
    session.console.markup(document, text)
    context.exit(0 if document["ok"] else 5)
