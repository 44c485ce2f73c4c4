"""The copying pass: what is written is what was hashed, and a base that changed meanwhile is noticed."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Iterator, List

import pytest

from respin.build.writer import write_output
from respin.errors import BuildError, VerificationError
from respin.node.base import BaseClaim, VerifiedBase
from respin.progress import SILENT
from respin.segments import Copy, Data, Segment, Zeros
from respin.unchanged import ReadLease

CONTENT = bytes(range(256)) * 16


def write(tmp_path: Path, segments: List[Segment], content: bytes = CONTENT) -> bytes:
    base_file, out = tmp_path / "base", tmp_path / "out"
    base_file.write_bytes(content)
    claim = BaseClaim(hashlib.sha256(CONTENT).hexdigest(), "base", None, b"")
    sunk: List[bytes] = []
    fd, target = os.open(base_file, os.O_RDONLY), os.open(out, os.O_RDWR | os.O_CREAT)
    try:
        base = VerifiedBase(fd, base_file, len(content), claim, ())
        write_output(base, segments, sum(one.length for one in segments), target, [sunk.append], SILENT)
    finally:
        os.close(fd)
        os.close(target)
    assert b"".join(sunk) == out.read_bytes()
    return out.read_bytes()


def test_segments_are_written_in_order(tmp_path: Path) -> None:
    segments: List[Segment] = [Copy(0, 100), Data(b"new"), Zeros(5), Copy(200, 300)]
    assert write(tmp_path, segments) == CONTENT[:100] + b"new" + bytes(5) + CONTENT[200:500]


def test_many_short_segments_and_a_long_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("respin.build.writer.STEP", 700)
    short: List[Segment] = [Copy(start, 7) if start % 20 else Data(b"new") for start in range(0, 1000, 10)]
    wanted = b"".join(CONTENT[one.offset : one.offset + 7] if isinstance(one, Copy) else b"new" for one in short)
    assert write(tmp_path, [*short, Copy(1000, 3000)]) == wanted + CONTENT[1000:4000]


def test_a_base_with_a_lease_is_copied_until_somebody_opens_it(tmp_path: Path) -> None:
    base_file, out = tmp_path / "base", tmp_path / "out"
    base_file.write_bytes(CONTENT)
    claim = BaseClaim("not hashed again", "base", None, b"")
    with base_file.open("rb") as file, out.open("w+b") as target:
        lease = ReadLease(file.fileno())
        if not lease.holds:
            pytest.skip("no leases on this file system")
        base = VerifiedBase(file.fileno(), base_file, len(CONTENT), claim, (), lease)
        segments: List[Segment] = [Copy(0, 100), Data(b"new"), Zeros(5), Copy(200, 300)]
        assert write_output(base, segments, 408, target.fileno(), [], SILENT) == 400
        assert out.read_bytes() == CONTENT[:100] + b"new" + bytes(5) + CONTENT[200:500]

        def with_a_writer() -> Iterator[Segment]:
            yield from segments
            with suppress(BlockingIOError):
                os.open(base_file, os.O_WRONLY | os.O_NONBLOCK)

        with pytest.raises(VerificationError) as caught:
            write_output(base, with_a_writer(), 408, target.fileno(), [], SILENT)
        assert caught.value.finding == "base-changed"


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
