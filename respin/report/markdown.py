"""A verification report in Markdown (GitHub's flavour, for its tables); whatever comes from outside is escaped."""

from __future__ import annotations

import re
from typing import Iterator

from respin.report.page import Page, Table
from respin.safepath import show

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~!])")


def render(page: Page) -> str:
    """The page as Markdown."""
    return "\n".join(_lines(page)) + "\n"


def _lines(page: Page) -> Iterator[str]:
    yield f"# {escape(page.title)}"
    yield ""
    yield f"**{page.verdict}**{'' if page.complete or not page.passed else ' (not all checks were done)'}: " + escape(
        page.sentence
    )
    for section in page.sections:
        yield from ("", f"## {escape(section.title)}")
        if section.text:
            yield from ("", escape(section.text))
        if section.table is not None and section.table.rows:
            yield ""
            yield from _table(section.table)
        if section.commands:
            yield ""
            yield from (f"    {show(command)}" for command in section.commands)


def _table(table: Table) -> Iterator[str]:
    yield _row(table.columns)
    yield _row(["---"] * len(table.columns))
    for row in table.rows:
        yield _row([_code(cell) if number in table.code else escape(cell) for number, cell in enumerate(row)])


def _row(cells: "list[str] | tuple[str, ...]") -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Text that Markdown and the HTML in it take for nothing but text."""
    plain = show(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", plain)


def _code(text: str) -> str:
    """A code span, where nothing in the text could end it."""
    plain = show(text)
    return f"`{plain}`" if plain and not set(plain) & set("`|\\<>&") and plain == plain.strip() else escape(plain)
