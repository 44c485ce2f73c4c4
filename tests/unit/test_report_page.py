"""Reports as Markdown and HTML: everything in them, and nothing from outside that is more than text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.errors import PolicyError
from respin.report import html, markdown
from respin.report.page import Page, page_of, page_of_failure
from respin.root.delta import Attributes, Change, Entry, Kind
from respin.safepath import show
from respin.verify.report import Link, Report, Status

FILE = Attributes(Kind.FILE, 0o644, 0, 0, 1, 10, "c" * 64)
REPORT = Report(
    iso="out/out.iso",
    size=1000,
    links=(Link("statement", Status.PASSED, "signed by Somebody"), Link("stock Node", Status.PASSED, "node.iso")),
    product="Example Node 1.0",
    base={"name": "node.iso", "sha256": "a" * 64, "verified": "vendor-signed"},
    plugins=({"name": "good-1-1.noarch.plugin.tar", "sha256": "b" * 64, "signer": "F" * 40, "tier": "partner"},),
    packages=(
        {"name": "good-1.0-1.noarch", "sha256": "d" * 64, "signer": "E" * 40, "bundle": "good-1-1.noarch.plugin.tar"},
    ),
    signer={"fingerprint": "A" * 40, "user_ids": ["Somebody <some@body.example>"]},
    signatures=(
        {"verdict": "good", "key": "A" * 40, "counts": True, "user_ids": ["Somebody <some@body.example>"]},
        {"verdict": "unknown key", "key": "B" * 40, "counts": False},
    ),
    entries=(
        Entry("/usr/share/good/data", Change.ADDED, new=FILE),
        Entry("/etc/passwd", Change.CHANGED, new=FILE, old=replace(FILE, mode=0o600, size=9, sha256="9" * 64)),
        Entry("/gone", Change.REMOVED, old=FILE),
        Entry("/link", Change.ADDED, new=Attributes(Kind.SYMLINK, 0o777, 0, 0, 1, target="/usr/share/good")),
    ),
)
VOID = {"meta"}
ALLOWED = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "div", "strong", "p", "pre", "code"}
ALLOWED |= {"table", "thead", "tbody", "tr", "th", "td"}


class Reader(HTMLParser):
    """Elements and text of a page; every element must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: List[str] = []
        self.seen: List[Tuple[str, Dict[str, Optional[str]]]] = []
        self.text: List[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: "list[tuple[str, Optional[str]]]") -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)


def check_html(page: Page) -> str:
    text = html.render(page)
    reader = Reader(text)
    for tag, attributes in reader.seen:
        assert tag in ALLOWED
        assert set(attributes) <= {"class", "lang", "charset", "name", "content", "http-equiv"}
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    return "".join(reader.text)


def test_html_holds_everything_and_needs_nothing() -> None:
    text = check_html(page_of(REPORT))
    for expected in (
        "PASSED", "the vendor's node.iso", "signed by Somebody", "good-1.0-1.noarch", "d" * 64, "E" * 40, "unknown key",
        "/etc/passwd", "mode, size, content", "removed", "to /usr/share/good", "respin verify out.iso",
        "some@body.example",
    ):  # fmt: skip
        assert expected in text


def test_markdown_holds_everything() -> None:
    text = markdown.render(page_of(REPORT))
    for expected in ("**PASSED**", "`/etc/passwd`", "d" * 64, "unknown key", "Somebody &lt;some@body.example&gt;"):
        assert expected in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert "| removed | `/gone` | file | `0644` | `0:0` | `10 bytes, cccccccccccccccc...` |  |" in tables


def test_what_was_not_done_is_said() -> None:
    report = replace(REPORT, links=(*REPORT.links, Link("x", Status.NOT_DONE, "no map")))
    assert "Not all checks were done" in check_html(page_of(report))
    assert "NOT DONE" in markdown.render(page_of(report))
    assert "all others are the vendor's" not in check_html(page_of(report))


def test_a_failure_says_what_to_do() -> None:
    failure = PolicyError("no", where="x.iso", remedy="do this", finding="conflict", also=["and that"])
    page = page_of_failure(Path("x.iso"), failure)
    for text in (check_html(page), markdown.render(page)):
        for expected in ("FAILED", "conflict", "do this", "and that", "Do not use"):
            assert expected in text


HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "`x`",
    "](http://x)",
    "\x1b[31m",
    "\udc80",
    "x\n| y |",
    "&lt;",
    "--><img src=x>",
]


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(), min_size=1, max_size=20)))
def test_text_from_outside_stays_text(text: str) -> None:
    hostile = replace(
        REPORT,
        iso=f"/x/{text}",
        product=text,
        links=(Link(text, Status.PASSED, text),),
        plugins=({"name": text, "sha256": text, "signer": text, "tier": text},),
        packages=(),
        signatures=({"verdict": text, "key": text, "counts": True, "user_ids": [text]},),
        entries=(Entry(f"/{text}", Change.ADDED, new=replace(FILE, sha256=None, target=text)),),
    )
    assert show(text) in check_html(page_of(hostile))
    plain, written = markdown.render(page_of(REPORT)), markdown.render(page_of(hostile))
    assert not any("<" in line for line in written.splitlines() if not line.startswith("    "))
    failed = page_of_failure(Path("x.iso"), PolicyError(text, where=text, remedy=text, also=[text]))
    check_html(failed)
    for line in written.splitlines():
        assert not line.startswith("|") or line.endswith("|")
    assert written.count("\n## ") == plain.count("\n## ")


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_cells_stay_cells(text: str) -> None:
    hostile = replace(REPORT, entries=(Entry(f"/{text}", Change.ADDED, new=FILE),))
    (row,) = [line for line in markdown.render(page_of(hostile)).splitlines() if line.startswith("| added")]
    assert len([cell for cell in row.replace("\\|", "").split("|")]) == 9
