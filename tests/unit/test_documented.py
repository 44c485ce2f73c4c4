"""The commands that the documents show are there, with the options that are shown; the reference shows them all."""

from __future__ import annotations

import itertools
import re
import shlex
import textwrap
from pathlib import Path
from typing import Dict, Iterator, List, Set

import click
import pytest

from respin.recipe import read_recipe
from tests.support.commandline import every_command, options

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = [CHECKOUT / "README.md", *sorted(CHECKOUT.glob("docs/**/*.md")), *sorted(CHECKOUT.glob("examples/**/*.md"))]
PAGE = (CHECKOUT / "docs/reference/commands.md").read_text("utf-8")
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


def lines(document: Path) -> Iterator[List[str]]:
    """The words of every command line of respin in the document's blocks of code; the reference's synopsis is none."""
    text = document.read_text("utf-8").replace("\\\n", "") if document.name != "commands.md" else ""
    fenced = "\n".join(re.findall(r"(?ms)^```\w*\n(.*?)^```", text))
    for line in re.findall(r"(?m)^respin .*$", fenced) + re.findall(r"(?m)^ {4,}(respin .*)$", text):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&;")
        lexer.whitespace_split = True
        for is_end, words in itertools.groupby(lexer, lambda word: word in ("&&", ";")):
            command = [] if is_end else list(words)
            if command[:1] == ["respin"]:
                yield command[1:]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_command_line_that_a_document_shows_is_one(document: Path) -> None:
    for words in lines(document):
        length = 1 if words[0] in COMMANDS else 2
        command = COMMANDS[" ".join(words[:length])]
        command.make_parser(click.Context(command)).parse_args(words[length:])


def test_the_readme_shows_what_each_user_runs() -> None:
    assert {"verify", "restore", "pxe", "check", "build", "sign", "bundle"} <= {
        words[0] for words in lines(DOCUMENTS[0])
    }


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
