"""What docs/reference/commands.md shows is what there is."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Dict, Set

import pytest

from respin.recipe import read_recipe
from tests.support.commandline import every_command, options

PAGE = (Path(__file__).resolve().parents[2] / "docs/reference/commands.md").read_text("utf-8")
COMMANDS = every_command()


def shown() -> Dict[str, str]:
    """The synopsis of each command."""
    found: Dict[str, str] = {}
    block = PAGE.partition("    respin ")[2].partition("\n\n")[0]
    for text in block.split("\n    respin "):
        name, _, rest = text.partition(" ")
        below = "|".join(one.split(" ")[1] for one in COMMANDS if one.startswith(f"{name} "))
        if not below:
            found[name] = found.get(name, "") + rest
            continue
        pieces = re.split(rf"(?:^|\|) *({below})\b", rest.strip())
        for one, synopsis in zip(pieces[1::2], pieces[2::2]):
            found[f"{name} {one}"] = synopsis
    return found


def test_every_command_is_shown() -> None:
    assert sorted(shown()) == sorted(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_shown_and_there_is_every_option_that_is_shown(name: str) -> None:
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", shown()[name]))
    missing: Set[str] = set()
    for option in COMMANDS[name].params:
        spellings = {*option.opts, *option.secondary_opts} & options(COMMANDS[name])
        if spellings and not spellings & named:
            missing.add(max(spellings, key=len))
    assert (missing, named - options(COMMANDS[name])) == (set(), set())


def test_the_recipe_that_is_shown_is_one(tmp_path: Path) -> None:
    section = PAGE.partition("## A recipe for `respin build`\n\n")[2].partition("\n\n")[0]
    (tmp_path / "respin.toml").write_text(textwrap.dedent(section))
    found = read_recipe(tmp_path / "respin.toml")
    parameters = {one.name for one in COMMANDS["build"].params} - {"recipe", "force", "json_output", "base_sha256"}
    assert parameters - set(found) <= {"unsigned", "verbose", "quiet", "color", "tmpdir"}
