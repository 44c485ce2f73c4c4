"""A comparison of two ISOs for people: grouped, counted, and short unless everything is asked for."""

from __future__ import annotations

import base64
from typing import Any, List, Mapping, Optional, Sequence, Set, Tuple

from rich.text import Text

from respin.diff.model import Diff, Difference, Facts, Section, Side
from respin.diff.packages import evr
from respin.formats.selinux import XATTR
from respin.node.selinux import show_label
from respin.root.delta import Change
from respin.safepath import show

# Of long lists a person needs the first few; --all and --json have the rest.
MOST = 12
_SIGNS = {Change.ADDED: ("+", "green"), Change.REMOVED: ("-", "red"), Change.CHANGED: ("~", "yellow")}
_TIMES = {"mtime", "mtime_nsec", "recorded"}
# How the facts are called and shown to people.
_WORDS = {
    "sha256": "content",
    "header_sha256": "build",
    "uid": "owner",
    "gid": "group",
    "hard_link": "hard links",
    "xattrs": "extended attributes",
    "kind": "type",
    "mtime_nsec": "mtime",
}


def render(found: Diff, *, everything: bool = False) -> Text:
    """Both sides in a line each, then every section with its counts; ``everything`` cuts no list."""
    text = Text(f"A  {_side(found.a)}\nB  {_side(found.b)}\n")
    if found.identical:
        return text.append("\nno differences: the two are the same, byte by byte", style="green")
    if render_sections(text, found.sections, everything=everything):
        text.append("\n--all shows all of it\n")
    text.rstrip()
    return text


def render_sections(text: Text, sections: Sequence[Section], *, everything: bool = False) -> bool:
    """Append sections to ``text``; returns whether something was left out."""
    most = None if everything else MOST
    cut = False
    for section in sections:
        text.append("\n").append(section.title, style="bold").append(f": {_counts(section)}\n")
        # What is on one side only has no facts that differ, and is told.
        told = [one for one in section.differences if everything or not one.differs or set(one.differs) - _TIMES]
        for one in told[:most]:
            sign, style = _SIGNS[one.change]
            text.append(f"  {sign} ", style=style).append(f"{show(one.name)}{_describe(section.id, one)}\n")
            cut = _details(text, one, most) or cut
        left, touched = len(told) - len(told[:most]), len(section.differences) - len(told)
        cut = cut or bool(left or touched)
        text.append(f"  ... and {left} more\n" if left else "")
        text.append(f"  ... and {touched} of which only the time differs\n" if touched else "")
    return cut


def _side(side: Side) -> str:
    words = [show(side.name), f"{side.size:,} bytes", show(side.product) or side.layout]
    if side.plugins is not None:
        words.append("respun with " + ", ".join(show(name) for name in side.plugins))
    return "; ".join(words)


def _counts(section: Section) -> str:
    counts = [f"{section.count(change)} {change.value}" for change in Change if section.count(change)]
    if section.not_compared:
        return f"not compared: {show(section.not_compared)}"
    return ", ".join(counts) or "no differences"


def _describe(section: str, one: Difference) -> str:
    if section == "packages":
        versions = [evr(facts) for facts in (one.old, one.new) if facts is not None]
        return "  " + (
            " -> ".join(versions) if len(set(versions)) == len(versions) else f"{versions[0]}, another build"
        )
    if section == "structure":
        return "  " + " -> ".join(_value(facts) for facts in (one.old, one.new))
    if one.old is None or one.new is None:
        return _kind(one.old or one.new or {})
    return "  " + ", ".join(dict.fromkeys(_change(name, one.old, one.new) for name in one.differs))


def _value(facts: Optional[Facts]) -> str:
    return "none" if facts is None or facts["value"] is None else show(str(facts["value"])) or "nothing"


def _kind(facts: Mapping[str, Any]) -> str:
    """What a path is, where its name doesn't tell."""
    kind = facts.get("kind", "file")
    target = f" -> {show(facts['target'])}" if facts.get("target") is not None else ""
    if kind == "file":
        mode = facts.get("mode")
        special = mode is not None and mode & 0o6000
        return f"  {facts.get('size', 0):,} bytes" + (f", mode {mode:04o}" if special else "")
    return target if target else f"  {kind}"


def _change(name: str, old: Facts, new: Facts) -> str:
    word = _WORDS.get(name, name)
    if name == "mode" and None not in (old.get(name), new.get(name)):
        return f"mode {old[name]:04o} -> {new[name]:04o}"
    if name == "xattrs" and _differing_xattrs(old, new) == {XATTR}:
        return f"label {_label(old)} -> {_label(new)}"
    if name in ("uid", "gid", "size", "target", "kind", "device"):
        return f"{word} {show(str(old.get(name)))} -> {show(str(new.get(name)))}"
    return word


def _differing_xattrs(old: Facts, new: Facts) -> Set[str]:
    mine, theirs = old.get("xattrs") or {}, new.get("xattrs") or {}
    return {name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name)}


def _label(facts: Facts) -> str:
    value = (facts.get("xattrs") or {}).get(XATTR)
    return show_label(None if value is None else base64.b64decode(value))


def _details(text: Text, one: Difference, most: Optional[int]) -> bool:
    """Lines and members below a difference; returns whether some were left out."""
    lines: Sequence[Tuple[str, str]] = ()
    if one.detail.get("lines") is not None:
        styles = {"+": "green", "-": "red"}
        lines = [(show(line), styles[line[0]]) for line in one.detail["lines"]]
    elif one.detail.get("members") is not None:
        lines = [_member(member) for member in one.detail["members"]]
        if not lines:
            lines = [("the same members, packed differently", "dim")]
    elif one.detail.get("members_not_compared"):
        lines = [(f"members not compared: {show(one.detail['members_not_compared'])}", "dim")]
    for line, style in lines[:most]:
        text.append(f"      {line}\n", style=style)
    if most is None or len(lines) <= most:
        return False
    text.append(f"      ... and {len(lines) - most} more\n")
    return True


def _member(member: Mapping[str, Any]) -> Tuple[str, str]:
    sign, style = _SIGNS[Change(member["change"])]
    differs: List[str] = [_WORDS.get(name, name) for name in member.get("differs", ())]
    return f"{sign} {show(member['name'])}" + (f"  {', '.join(differs)}" if differs else ""), style
