"""What a verification report on paper holds, before it is Markdown or HTML: a verdict, sections, tables.

Texts are as they came; whoever renders a page makes them printable and escapes them.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from respin import __version__
from respin.errors import RespinError
from respin.root.delta import Attributes, Entry
from respin.verify.report import Report, Status


@dataclass(frozen=True)
class Table:
    """A table; ``code`` are the columns that hold names and digests, to be set in a fixed width."""

    columns: Tuple[str, ...]
    rows: Tuple[Tuple[str, ...], ...]
    code: Tuple[int, ...] = ()


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, a table, commands to type; each may be empty."""

    title: str
    text: str = ""
    table: Optional[Table] = None
    commands: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """The whole report. ``verdict`` is one word, ``passed`` and ``complete`` say how to colour it."""

    title: str
    verdict: str
    sentence: str
    passed: bool
    complete: bool
    sections: Tuple[Section, ...]


def page_of(report: Report) -> Page:
    """The page of a verification in which nothing failed."""
    name = Path(report.iso).name
    vendor = f"the vendor's {report.base['name']}" + (f" ({report.product})" if report.product else "")
    sentence = f"{name} is {vendor} plus exactly the plugins below."
    if not report.complete:
        sentence = f"{name} is what its maker signed. Not all checks were done."
    links = tuple(
        ("passed" if one.status is Status.PASSED else "NOT DONE", one.name, one.detail) for one in report.links
    )
    sections = [
        Section("What was verified", table=_facts(report)),
        Section("The chain, link by link", table=Table(("Result", "Link", "What holds"), links)),
        Section("Plugins and packages", table=_plugins(report)),
    ]
    if report.signatures:
        sections.append(Section("Signatures on the statement", table=_signatures(report.signatures)))
    sections += [
        Section("Changes in the root, path by path", _count(report), table=_changes(report.entries)),
        _by_hand(name),
    ]
    return Page(f"Verification of {name}", "PASSED", sentence, True, report.complete, tuple(sections))


def page_of_failure(iso: Path, failure: RespinError) -> Page:
    """The page of a verification that failed."""
    rows = [("Finding", failure.finding), ("Where", failure.where or str(iso)), ("What", failure.what)]
    rows += [("Also", one) for one in failure.also]
    rows += [("What to do", failure.remedy)] if failure.remedy else []
    rows.append(("Exit status", str(failure.exit_code)))
    return Page(
        f"Verification of {iso.name}",
        "FAILED",
        f"Do not use {iso.name}.",
        False,
        False,
        (Section("What is wrong", table=Table(("", ""), tuple(rows))), _by_hand(iso.name)),
    )


def _facts(report: Report) -> Table:
    base = report.base
    signer = report.signer or {}
    names = ", ".join(str(name) for name in signer.get("user_ids", ()))
    rows = (
        ("File", report.iso),
        ("Size", f"{report.size} bytes"),
        ("Product", report.product or "unknown"),
        ("Made from", f"{base['name']}, {base['verified']}"),
        ("Its sha256", str(base["sha256"])),
        ("Respun by", f"{names} ({signer.get('fingerprint')})" if signer else "nobody signed it"),
        ("Verified with", f"respin {__version__}"),
    )
    return Table(("", ""), rows)


def _plugins(report: Report) -> Table:
    rows: List[Tuple[str, ...]] = []
    for plugin in report.plugins:
        rows.append(_signed("plugin", plugin))
        rows += [_signed("package", one) for one in report.packages if one.get("bundle") == plugin["name"]]
    return Table(("Kind", "Name", "sha256", "Signed by", "Tier"), tuple(rows), code=(1, 2, 3))


def _signed(kind: str, one: Mapping[str, Any]) -> Tuple[str, ...]:
    return (
        kind,
        str(one["name"]),
        str(one["sha256"]),
        str(one.get("signer")),
        str(one.get("tier", "")),
    )


def _signatures(signatures: Sequence[Mapping[str, Any]]) -> Table:
    rows = tuple(
        (
            str(one["verdict"]) + ("" if one["counts"] else ", does not count"),
            ", ".join(str(name) for name in one.get("user_ids", ())),
            str(one["key"]),
        )
        for one in signatures
    )
    return Table(("Verdict", "By", "Key"), rows, code=(2,))


def _count(report: Report) -> str:
    said = f"{len(report.entries)} paths of the root image differ from the vendor's"
    return f"{said}; all others are the vendor's." if report.complete else f"{said}, says the signed statement."


def _changes(entries: Sequence[Entry]) -> Table:
    rows = []
    for entry in entries:
        new = entry.new or entry.old
        rows.append((entry.change.value, entry.path, *_attributes(new), _differs(entry)))
    return Table(("Change", "Path", "Kind", "Mode", "Owner", "Content", "Differs in"), tuple(rows), code=(1, 3, 4, 5))


def _attributes(one: Optional[Attributes]) -> Tuple[str, str, str, str]:
    if one is None:
        return "", "", "", ""
    content = f"to {one.target}" if one.target is not None else ""
    if one.sha256 is not None:
        content = f"{one.size} bytes, {one.sha256[:16]}..."
    return one.kind.value, f"{one.mode:04o}", f"{one.uid}:{one.gid}", content


def _differs(entry: Entry) -> str:
    if entry.new is None or entry.old is None:
        return ""
    names = ("kind", "mode", "uid", "gid", "mtime", "size", "sha256", "target", "xattrs")
    labels = {"sha256": "content", "mtime": "time", "xattrs": "extended attributes"}
    return ", ".join(labels.get(n, n) for n in names if getattr(entry.new, n) != getattr(entry.old, n))


def _by_hand(name: str) -> Section:
    return Section(
        "Check it yourself",
        "With a trust store of your own; then the vendor's ISO, against the vendor's own CHECKSUM."
        " docs/how-to/verify-by-hand.md has the rest of the chain with gpg, sha256sum, dd and jq.",
        commands=(
            f"respin verify {shlex.quote(name)} --trust TRUST",
            f"respin restore {shlex.quote(name)} -o NODE.iso && sha256sum -c NODE.iso.CHECKSUM",
        ),
    )
