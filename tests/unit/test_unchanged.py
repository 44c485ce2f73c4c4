"""Noticing a writer: whatever it does to the file, and whatever was made of what was read meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Optional

import pytest

from respin.errors import MalformedError, PolicyError, VerificationError
from respin.unchanged import unchanged


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that was last written to long ago, as far as its times say."""
    path = tmp_path / "file"
    path.write_bytes(b"some content")
    os.utime(path, (1, 1))
    return path


def flip(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(b"S")


def flip_and_hide(path: Path) -> None:
    """The time of the last write can be set back, that of the last change cannot."""
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


WRITERS = [flip, flip_and_hide, lambda path: os.truncate(path, 3)]


def read(file: Path, writer: Callable[[Path], None], error: Optional[BaseException] = None) -> None:
    """Somebody writes while the file is read, and what was read leads to ``error``."""
    with file.open("rb") as stream, unchanged(stream.fileno(), str(file)):
        writer(file)
        if error is not None:
            raise error


@pytest.mark.parametrize("writer", WRITERS, ids=["write", "hidden write", "truncate"])
@pytest.mark.parametrize("error", [None, MalformedError("what was read makes no sense")], ids=["nothing", "refusal"])
def test_a_writer_is_noticed(file: Path, writer: Callable[[Path], None], error: Optional[Exception]) -> None:
    with pytest.raises(VerificationError) as caught:
        read(file, writer, error)
    assert (caught.value.finding, caught.value.where) == ("changed-while-read", str(file))


def test_reading_changes_nothing(file: Path) -> None:
    read(file, lambda path: None if path.read_bytes() == b"some content" else pytest.fail("other content"))


@pytest.mark.parametrize("error", [MalformedError("broken"), PolicyError("not allowed"), KeyboardInterrupt()])
def test_other_errors_pass(file: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        read(file, lambda path: None, error)
    assert caught.value is error
