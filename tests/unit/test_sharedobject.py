"""Libraries' own names: whatever a file holds, it is a library with a name, one without, or none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.formats.sharedobject import read_shared_object


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x7fELF", b"\x7fELF\x02\x01\x01", b"\x7fELF\x01\x02\x01"]))
def test_nothing_in_a_file_makes_it_fail(data: bytes, start: bytes) -> None:
    read_shared_object(BytesView(start + data, "lib.so"))


@pytest.mark.parametrize("length", range(4, 64, 6))
def test_a_file_that_ends_in_its_header_is_no_library(length: int) -> None:
    head = b"\x7fELF\x02\x01\x01".ljust(64, b"\0")
    assert read_shared_object(BytesView(head[:length], "lib.so")) is None


def test_its_name_is_what_the_linker_was_told(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int a;\n")
    command = ["gcc", "-shared", "-fPIC", "-Wl,-soname,liba.so.7", "-o", tmp_path / "liba.so", tmp_path / "a.c"]
    subprocess.run(command, check=True)
    data = (tmp_path / "liba.so").read_bytes()
    found = read_shared_object(BytesView(data, "liba.so"))
    assert found is not None
    assert found.soname == b"liba.so.7"
    for length in range(0, len(data), 97):
        read_shared_object(BytesView(data[:length], "liba.so"))
