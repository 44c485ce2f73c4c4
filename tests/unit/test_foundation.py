"""Paths, segments, outputs and workspaces: what everything else stands on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respin import safepath
from respin.byteview import BytesView, SubView
from respin.clock import source_date_epoch
from respin.errors import BuildError, MalformedError, MissingToolError, UsageError
from respin.process import run
from respin.segments import Copy, Data, Zeros, batches, merge, total
from respin.workspace import Output, Workspace, write_file


@pytest.mark.parametrize("name", ["", "/a", "a//b", "a/../b", "./a", "a/", "a\nb", "a\x1b[2J", "\u202eexe", "x" * 256])
def test_names_that_could_escape_or_deceive_are_refused(name: str) -> None:
    with pytest.raises(MalformedError) as caught:
        safepath.relative(name, where="archive")
    assert "\x1b" not in str(caught.value)


def test_patterns_match_within_one_part() -> None:
    assert safepath.first_match("/usr/lib/python3.9/site-packages/a.py", ["/usr/lib/python*/site-packages/a.py"])
    assert not safepath.first_match("/usr/lib/a/b", ["/usr/*/b"])
    assert safepath.first_match("/etc/x", ["/etc/x/**"])
    assert safepath.first_match("/etc/x/y/z", ["/etc/x/**"])
    assert not safepath.first_match("/etc/xy", ["/etc/x/**"])


SEGMENTS = st.lists(
    st.one_of(
        st.builds(Copy, st.integers(0, 50), st.integers(0, 9)),
        st.builds(Data, st.binary(max_size=9)),
        st.builds(Zeros, st.integers(0, 9)),
    )
)


def render(parts: Iterable[object]) -> bytes:
    base = bytes(range(64))
    out = b""
    for one in parts:
        if isinstance(one, Copy):
            out += base[one.offset : one.offset + one.length]
        elif isinstance(one, Data):
            out += one.data
        elif isinstance(one, Zeros):
            out += bytes(one.length)
    return out


@given(SEGMENTS)
def test_merging_segments_changes_nothing_but_their_number(segments: "list[object]") -> None:
    merged = merge(segments)  # type: ignore[arg-type]
    assert render(list(merged)) == render(segments)
    assert total(merged) == total(segments)  # type: ignore[arg-type]


@given(SEGMENTS, st.integers(1, 12))
def test_batches_are_full_and_change_nothing(segments: "list[object]", size: int) -> None:
    found = list(batches(segments, size))  # type: ignore[arg-type]
    assert render(one for batch in found for one in batch) == render(segments)
    assert all(0 < total(batch) <= size for batch in found)
    assert all(total(batch) + following[0].length > size for batch, following in zip(found, found[1:]))


def test_reads_outside_a_view_are_typed_errors() -> None:
    view = SubView(BytesView(b"0123456789", "ten"), 2, 5, "window")
    assert view.read(1, 3) == b"345"
    for offset, length in ((3, 3), (-1, 2), (0, 6), (9, 1)):
        with pytest.raises(MalformedError):
            view.read(offset, length)
    with pytest.raises(MalformedError):
        SubView(BytesView(b"0123", "four"), 2, 3, "too long")


def test_an_output_has_no_name_before_it_is_published(tmp_path: Path) -> None:
    with Output(tmp_path / "out") as output:
        os.write(output.fd, b"half")
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []
    with Output(tmp_path / "out") as output:
        os.write(output.fd, b"whole")
        output.publish()
    assert (tmp_path / "out").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_existing_output_is_kept_unless_forced(tmp_path: Path) -> None:
    write_file(tmp_path / "out", b"old")
    with pytest.raises(UsageError, match="exists"):
        write_file(tmp_path / "out", b"new")
    assert (tmp_path / "out").read_bytes() == b"old"
    write_file(tmp_path / "out", b"new", force=True)
    assert (tmp_path / "out").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_output_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with Output(tmp_path / "out") as output:
        (tmp_path / "out").write_bytes(b"somebody else's")
        with pytest.raises(UsageError, match="exists"):
            output.publish()
    assert (tmp_path / "out").read_bytes() == b"somebody else's"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_no_workspace(tmp_path: Path, number: int) -> None:
    code = (
        "import sys,time,pathlib; from respin.workspace import Workspace\n"
        "w = Workspace(pathlib.Path(sys.argv[1])); (w.path / 'x').write_text('x'); print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    assert len(list(tmp_path.iterdir())) == 1
    child.send_signal(number)
    child.wait()
    deadline = time.monotonic() + 10
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


def test_a_workspace_where_nothing_can_be_written_is_a_build_error() -> None:
    with pytest.raises(BuildError) as caught:
        Workspace(Path("/nonexistent"))
    assert "--tmpdir" in (caught.value.remedy or "")


def test_children_get_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    seen = run(["env"]).stdout.decode()
    assert "SECRET" not in seen
    assert "LC_ALL=C.UTF-8" in seen


def test_a_failing_or_missing_program_is_a_typed_error() -> None:
    with pytest.raises(BuildError, match="exit status 3"):
        run(["sh", "-c", "echo why >&2; exit 3"])
    with pytest.raises(MissingToolError):
        run(["no-such-program-anywhere"])
    with pytest.raises(BuildError, match="within"):
        run(["sleep", "60"], timeout=0.1)


@pytest.mark.parametrize(("value", "epoch"), [("0", 0), ("1700000000", 1700000000), ("", None)])
def test_source_date_epoch(value: str, epoch: object) -> None:
    assert source_date_epoch({"SOURCE_DATE_EPOCH": value}) == epoch


@pytest.mark.parametrize("value", ["now", "-1", "1.5", "٣", "9" * 20])
def test_a_bad_source_date_epoch_is_refused(value: str) -> None:
    with pytest.raises(UsageError):
        source_date_epoch({"SOURCE_DATE_EPOCH": value})
