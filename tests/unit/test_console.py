"""Whatever name got into a message, the terminal is not told to obey it."""

from __future__ import annotations

import pytest
from rich.text import Text

from respin.errors import MalformedError
from respin.report.console import Console, Verbosity

EVIL = "x\x1b]0;title\x07\x1b[2J\x9b31m\u202e[/bold][red]y"


def test_no_message_carries_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(verbosity=Verbosity())
    console.markup({}, Text.assemble((EVIL, "bold"), f"\n{EVIL}"))
    console.result({}, EVIL)
    console.note(EVIL)
    console.warn(EVIL)
    console.error(MalformedError(EVIL, where=EVIL, remedy=EVIL, also=[EVIL]))
    with console.step(EVIL):
        pass
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert not {c for c in text if c != "\n" and (ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c == "\u202e")}
    assert captured.err.count("[/bold][red]y") >= 6, "nothing is taken for markup"


def test_a_title_is_no_markup_on_a_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(verbosity=Verbosity(), color=True).step(EVIL, 10) as step:
        step.advance(1)
    assert "\x1b]0;" not in capsys.readouterr().err
