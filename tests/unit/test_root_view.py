"""The copy-on-write image against a plain bytearray."""

from __future__ import annotations

import os
import tempfile
from typing import List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.errors import BuildError, MalformedError
from respin.root.install import ChangedBlocks
from respin.root.store import CopyOnWrite

SIZE, BLOCK = 1000, 64
BASE = bytes(i * 7 % 251 for i in range(SIZE))


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.integers(0, SIZE), st.binary(max_size=200)), max_size=8))
def test_writes_show_and_only_changed_blocks_count(writes: List[Tuple[int, bytes]]) -> None:
    with tempfile.TemporaryFile() as file:
        image = CopyOnWrite(BytesView(BASE, "base"), BLOCK, file.fileno())
        model = bytearray(BASE)
        for offset, data in writes:
            data = data[: SIZE - offset]
            image.write(offset, data)
            model[offset : offset + len(data)] = data
        assert image.read(0, SIZE) == model
        assert image.read(100, 333) == model[100:433]
        expected = {
            i: bytes(model[i * BLOCK : (i + 1) * BLOCK])
            for i in range(-(-SIZE // BLOCK))
            if model[i * BLOCK : (i + 1) * BLOCK] != BASE[i * BLOCK : (i + 1) * BLOCK]
        }
        with ChangedBlocks(os.dup(file.fileno()), image.changed()) as blocks:
            assert dict(blocks) == expected


def test_only_needed_blocks_are_read() -> None:
    with tempfile.TemporaryFile() as file:
        image = CopyOnWrite(BytesView(BASE, "base"), BLOCK, file.fileno())
        image.read(BLOCK, 1)
        image.write(3 * BLOCK, b"x" * BLOCK)  # whole: what was there doesn't matter
        image.write(5 * BLOCK + 1, b"y")
        image.phase = "check"
        image.read(0, BLOCK + 1)
        assert image.blocks_read == {"change": {1, 5}, "check": {0, 1}}
        assert (image.blocks_written, image.blocks_total) == (2, 16)


def test_bounds() -> None:
    with tempfile.TemporaryFile() as file:
        image = CopyOnWrite(BytesView(BASE, "base"), BLOCK, file.fileno())
        with pytest.raises(MalformedError):
            image.write(SIZE - 1, b"xx")
        with pytest.raises(MalformedError):
            image.read(SIZE, 1)
        blocks = ChangedBlocks(os.dup(file.fileno()), {0: (0, 5)})
        with pytest.raises(BuildError):
            blocks[0]
        blocks.close()
        blocks.close()
