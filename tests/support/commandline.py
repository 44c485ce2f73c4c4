"""The command line as click knows it."""

from __future__ import annotations

from typing import Dict, FrozenSet

import click

from respin.cli import cli

EVERYWHERE = frozenset({"--verbose", "-v", "--quiet", "-q", "--color", "--no-color", "--tmpdir"})


def every_command() -> Dict[str, click.Command]:
    """All commands by name; those of a group as ``bundle create``."""
    found: Dict[str, click.Command] = {}
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        below = command.commands if isinstance(command, click.Group) else None
        found.update({name: command} if below is None else {f"{name} {one}": it for one, it in below.items()})
    return found


def options(command: click.Command) -> FrozenSet[str]:
    """Its options by their names, but for those that every command has."""
    found = [one for one in command.params if isinstance(one, click.Option)]
    return frozenset(name for one in found for name in (*one.opts, *one.secondary_opts)) - EVERYWHERE
