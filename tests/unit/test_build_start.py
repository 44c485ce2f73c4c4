"""The base of a build is read while it is hashed: what was read counts only if the digest is the vendor's."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List

import pytest

from respin.build.prepare import Start
from respin.digesting import digesting
from respin.errors import MalformedError, VerificationError
from respin.node.base import claim_pinned
from respin.progress import SILENT, Progress, Step
from respin.unchanged import ReadLease

CONTENT = os.urandom(3_000_000)


class Steps(Progress):
    """Remembers what was begun."""

    def __init__(self) -> None:
        self.titles: List[str] = []

    @contextmanager
    def step(self, title: str, total: object = None) -> Iterator[Step]:
        self.titles.append(title)
        with SILENT.step(title) as step:
            yield step


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "node.iso").write_bytes(CONTENT)
    return tmp_path / "node.iso"


@contextmanager
def start(base: Path, *, beside: bool = True, sha256: str = hashlib.sha256(CONTENT).hexdigest()) -> Iterator[Start]:
    with digesting(base) as begun, base.open("rb") as file:
        assert begun is not None
        if beside and not begun.lease.holds:
            pytest.skip("no leases on this file system")
        yield Start(file.fileno(), base, claim_pinned(sha256, base.name), (), 0, begun if beside else None)


def refused() -> "pytest.RaisesExc[VerificationError]":
    return pytest.raises(VerificationError)


@pytest.mark.parametrize("beside", [True, False])
def test_it_is_verified_when_the_context_is_left(base: Path, beside: bool) -> None:
    steps = Steps()
    with start(base, beside=beside) as begun:
        with begun.verifying(steps) as verified:
            assert bool(steps.titles) is not beside, "without a lease, before anything is read"
            assert begun.view.read(0, 100) == CONTENT[:100]
        assert verified().view().read(0, len(CONTENT)) == CONTENT
    assert steps.titles == ["verifying node.iso"], "once"


@pytest.mark.parametrize("beside", [True, False])
def test_another_digest_is_refused_whatever_was_read(base: Path, beside: bool) -> None:
    reached: List[bool] = []
    with start(base, beside=beside, sha256="0" * 64) as begun, refused() as caught, begun.verifying(SILENT):
        reached.append(True)
    assert (caught.value.finding, reached) == ("base-digest", [True] * beside)


def test_that_it_is_another_iso_is_said_before_what_is_wrong_with_that(base: Path) -> None:
    for sha256, expected in (("0" * 64, VerificationError), (hashlib.sha256(CONTENT).hexdigest(), MalformedError)):
        with start(base, sha256=sha256) as begun, pytest.raises(expected), begun.verifying(SILENT):
            raise MalformedError("no ISO", where="it")


def test_it_is_refused_if_somebody_could_write_meanwhile(base: Path) -> None:
    """Also if nothing was written in the end: what was read and what was hashed may have been two things."""

    def somebody_opens_it(lease: ReadLease) -> None:
        writers.append(subprocess.Popen([sys.executable, "-c", "import sys; open(sys.argv[1], 'r+b').close()", base]))
        while lease.holds:
            pass

    writers: List["subprocess.Popen[bytes]"] = []
    with start(base) as begun, refused() as caught, begun.verifying(SILENT):
        assert begun.begun is not None
        somebody_opens_it(begun.begun.lease)
    assert writers[0].wait() == 0
    assert caught.value.finding == "base-changed"
