"""A verification report as one HTML file: no scripts, nothing from elsewhere, everything escaped; prints well."""

from __future__ import annotations

import html
from typing import Iterator

from respin.report.page import Page, Section, Table
from respin.safepath import show

_STYLE = """
:root { --ink: #1c2430; --soft: #5b6676; --line: #d9dee5; --wash: #f5f7f9;
  --good: #14693c; --part: #8a5a00; --bad: #a11b1b }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.5rem 4rem; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
h1 { font-size: 1.5rem; margin: 0 0 1rem; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
.verdict { border-left: .5rem solid; border-radius: .25rem; background: var(--wash); padding: .9rem 1.1rem }
.verdict strong { font-size: 1.3rem; letter-spacing: .03em; margin-right: .6rem }
.verdict.good { border-color: var(--good) } .good strong, td.good { color: var(--good) }
.verdict.part { border-color: var(--part) } .part strong, td.part { color: var(--part) }
.verdict.bad { border-color: var(--bad) } .bad strong, td.bad { color: var(--bad) }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 600 }
td { overflow-wrap: break-word }
td code { overflow-wrap: anywhere }
td:first-child { white-space: nowrap; padding-right: 1.2rem }
code, pre { font: .85em/1.45 ui-monospace, "DejaVu Sans Mono", monospace }
pre { background: var(--wash); padding: .8rem 1rem; border-radius: .25rem; white-space: pre-wrap;
  overflow-wrap: anywhere }
p { max-width: 46rem }
@media print { body { padding: 0; max-width: none; font-size: 10pt } h2 { break-after: avoid }
  tr { break-inside: avoid }
  thead { display: table-header-group } .verdict { -webkit-print-color-adjust: exact; print-color-adjust: exact } }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_CLASSES = {"passed": "good", "NOT DONE": "part"}


def render(page: Page) -> str:
    """The page as HTML."""
    return "".join(_parts(page))


def _parts(page: Page) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_escape(_POLICY)}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>{_escape(page.title)}: {_escape(page.verdict)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    yield f"<h1>{_escape(page.title)}</h1>\n"
    kind = "bad" if not page.passed else "good" if page.complete else "part"
    yield f'<div class="verdict {kind}"><strong>{_escape(page.verdict)}</strong> {_escape(page.sentence)}</div>\n'
    for section in page.sections:
        yield from _section(section)
    yield "</body>\n</html>\n"


def _section(section: Section) -> Iterator[str]:
    yield f"<h2>{_escape(section.title)}</h2>\n"
    if section.text:
        yield f"<p>{_escape(section.text)}</p>\n"
    if section.table is not None and section.table.rows:
        yield from _table(section.table)
    if section.commands:
        lines = "\n".join(_escape(command) for command in section.commands)
        yield f"<pre>{lines}</pre>\n"


def _table(table: Table) -> Iterator[str]:
    yield "<table>\n"
    if any(table.columns):
        yield "<thead><tr>" + "".join(f"<th>{_escape(name)}</th>" for name in table.columns) + "</tr></thead>\n"
    yield "<tbody>\n"
    for row in table.rows:
        yield "<tr>"
        for number, cell in enumerate(row):
            kind = f' class="{_CLASSES[cell]}"' if number == 0 and cell in _CLASSES else ""
            text = f"<code>{_escape(cell)}</code>" if cell and number in table.code else _escape(cell)
            yield f"<td{kind}>{text}</td>"
        yield "</tr>\n"
    yield "</tbody>\n</table>\n"


def _escape(text: str) -> str:
    return html.escape(show(text), quote=True)
