"""The copying pass: what is written is what was hashed, and a base that changed meanwhile is noticed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import List

import pytest

from respin.build.writer import write_output
from respin.errors import BuildError, VerificationError
from respin.node.base import BaseClaim, VerifiedBase
from respin.progress import SILENT
from respin.segments import Copy, Data, Segment, Zeros

CONTENT = bytes(range(256)) * 16


def write(tmp_path: Path, segments: List[Segment], content: bytes = CONTENT) -> bytes:
    base_file, out = tmp_path / "base", tmp_path / "out"
    base_file.write_bytes(content)
    claim = BaseClaim(hashlib.sha256(CONTENT).hexdigest(), "base", None, b"")
    fd, target = os.open(base_file, os.O_RDONLY), os.open(out, os.O_RDWR | os.O_CREAT)
    try:
        base = VerifiedBase(fd, base_file, len(content), claim, ())
        write_output(base, segments, sum(one.length for one in segments), target, [], SILENT)
    finally:
        os.close(fd)
        os.close(target)
    return out.read_bytes()


def test_segments_are_written_in_order(tmp_path: Path) -> None:
    segments: List[Segment] = [Copy(0, 100), Data(b"new"), Zeros(5), Copy(200, 300)]
    assert write(tmp_path, segments) == CONTENT[:100] + b"new" + bytes(5) + CONTENT[200:500]


@pytest.mark.parametrize("place", [50, 150, 4000])
def test_a_base_that_changed_is_noticed_also_where_it_is_not_copied(tmp_path: Path, place: int) -> None:
    changed = CONTENT[:place] + b"\xff\xfe" + CONTENT[place + 2 :]
    with pytest.raises(VerificationError) as caught:
        write(tmp_path, [Copy(0, 100), Copy(200, 300)], changed)
    assert caught.value.finding == "base-changed"


@pytest.mark.parametrize("again", [Copy(0, 10), Copy(90, 20)])
def test_nothing_is_read_twice_past_the_hash(tmp_path: Path, again: Copy) -> None:
    with pytest.raises(BuildError):
        write(tmp_path, [Copy(0, 100), again])
