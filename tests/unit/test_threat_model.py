"""The table of attacks in the threat model: every test that it names is there and speaks of the finding."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, Tuple

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"\| ([^|]+) \| ([^|]+) \| `(tests/[a-z_/]+\.py)`: `(test_[a-z_0-9]+)` \|")


def rows() -> List[Tuple[str, ...]]:
    """Attack, findings, file and test of each row."""
    text = (CHECKOUT / "docs/explanation/threat-model.md").read_text("utf-8")
    table = text[text.index("| attack |") :].split("\n\n")[0].splitlines()[2:]
    found = [ROW.fullmatch(line) for line in table]
    assert all(found), [line for line, match in zip(table, found) if match is None]
    return [match.groups() for match in found if match is not None]


def test_the_table_is_not_empty() -> None:
    assert len(rows()) >= 25


@pytest.mark.parametrize(("attack", "findings", "file", "test"), rows())
def test_each_named_test_exists(attack: str, findings: str, file: str, test: str) -> None:
    source = (CHECKOUT / file).read_text("utf-8")
    assert re.search(rf"^def {test}\(", source, re.MULTILINE), f"{attack}: {file} has no {test}"
    for finding in re.findall(r"`([a-z-]+)`", findings):
        assert finding in source, f"{attack}: {file} says nothing of {finding}"
