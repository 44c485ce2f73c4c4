"""Somebody writes to the ISO while it is verified, compared or restored: at each step, and whatever they write."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest

from respin.diff.diff import diff
from respin.errors import VerificationError
from respin.progress import SILENT, Step
from respin.restore import restore
from respin.sbom import SbomRequest, sbom
from respin.verify.verify import VerifyRequest, verify
from tests.end_to_end.conftest import Respun, sha256
from tests.support import rawiso
from tests.support.forge import Forge


class Writer:
    """Writes one byte to a file when a step begins."""

    def __init__(self, file: Path, title: str, offset: int) -> None:
        self.file, self.title, self.offset = file, title, offset
        self.wrote = False

    @contextmanager
    def step(self, title: str, total: "int | None" = None) -> Iterator[Step]:
        if title == self.title:
            with self.file.open("r+b") as stream:
                stream.seek(self.offset)
                byte = stream.read(1)
                stream.seek(self.offset)
                stream.write(bytes([byte[0] ^ 1]))
            self.wrote = True
        with SILENT.step(title, total) as step:
            yield step


@pytest.fixture
def copy(respun: Respun, tmp_path: Path) -> Iterator[Path]:
    """A copy of the respun ISO to write to."""
    file = tmp_path / "copy.iso"
    shutil.copy(respun.iso, file)
    yield file
    file.unlink()


@pytest.mark.parametrize(
    ("title", "offset"),
    [
        ("reading the whole ISO", 60_000_000),
        ("comparing every byte with the vendor's ISO", 40_000),
        ("judging every change by the plugins' signed headers", 12 * 2048),
    ],
)
def test_a_writer_is_noticed(forge: Forge, copy: Path, title: str, offset: int) -> None:
    writer = Writer(copy, title, offset)
    with pytest.raises(VerificationError) as caught:
        verify(VerifyRequest(copy, forge.keys.trust), progress=writer)
    assert writer.wrote
    assert (caught.value.finding, caught.value.where) == ("changed-while-read", str(copy))


def test_a_base_that_is_written_to(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    base = tmp_path / forge.iso.name
    shutil.copy(forge.iso, base)
    writer = Writer(base, "judging every change by the plugins' signed headers", 12 * 2048)
    with pytest.raises(VerificationError) as caught:
        verify(VerifyRequest(respun.iso, forge.keys.trust, base), progress=writer)
    assert (caught.value.finding, caught.value.where) == ("changed-while-read", str(base))


def test_a_writer_is_noticed_by_whoever_describes(forge: Forge, copy: Path, tmp_path: Path) -> None:
    writer = Writer(copy, "comparing the packages", 12 * 2048)
    with pytest.raises(VerificationError) as caught:
        diff(forge.iso, copy, progress=writer)
    assert (caught.value.finding, caught.value.where) == ("changed-while-read", str(copy))
    writer = Writer(copy, "reading the root's packages", 12 * 2048)
    with pytest.raises(VerificationError) as caught:
        sbom(SbomRequest(copy, tmp_path / "bom"), writer)
    assert (caught.value.finding, caught.value.where) == ("changed-while-read", str(copy))
    assert not (tmp_path / "bom").exists()


def test_what_a_writer_breaks_is_told_as_such(copy: Path, tmp_path: Path) -> None:
    writer = Writer(copy, "restoring the vendor's ISO", 60_000_000)
    with pytest.raises(VerificationError) as caught:
        restore(copy, tmp_path / "stock.iso", None, force=False, progress=writer)
    assert (caught.value.finding, caught.value.where) == ("changed-while-read", str(copy))
    assert not (tmp_path / "stock.iso").exists()


def test_what_a_writer_does_not_break_comes_back(forge: Forge, copy: Path, tmp_path: Path) -> None:
    """What was restored is proved by its digest, whoever wrote to bytes that are not the vendor's."""
    statement = next(r for r in rawiso.records(copy.read_bytes(), False) if r.path == "/respin.json")
    writer = Writer(copy, "restoring the vendor's ISO", statement.extent * 2048)
    restore(copy, tmp_path / "stock.iso", None, force=False, progress=writer)
    assert writer.wrote
    assert sha256(tmp_path / "stock.iso") == sha256(forge.iso)


def test_nobody_writes(forge: Forge, copy: Path) -> None:
    assert verify(VerifyRequest(copy, forge.keys.trust), progress=Writer(copy, "no such step", 0)).complete
