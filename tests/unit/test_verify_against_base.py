"""What a reader of trees would not see: superblocks that make a mount do something first; media checks unspoken of."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from respin.byteview import BytesView
from respin.errors import VerificationError
from respin.formats import mediacheck
from respin.progress import SILENT
from respin.verify.against_base import _require_same_superblock
from respin.verify.statement import verify_media_check


def superblock(**fields: int) -> BytesView:
    """1024 zeros and a superblock; fields by their name."""
    places = {"free_blocks": 12, "written": 48, "state": 58, "incompat": 96, "orphans": 232, "mount_options": 256}
    data = bytearray(4096)
    for name, value in fields.items():
        struct.pack_into("<H" if name == "state" else "<I", data, 1024 + places[name], value)
    return BytesView(bytes(data), name="root")


VENDOR = superblock(free_blocks=10, written=1, state=1, incompat=0x42)


def test_counters_may_differ() -> None:
    _require_same_superblock(superblock(free_blocks=7, written=2, state=1, incompat=0x42), VENDOR)


@pytest.mark.parametrize(
    "change",
    [{"incompat": 0x46}, {"orphans": 12}, {"state": 2}, {"mount_options": 0x20}],
    ids=lambda change: str(change),
)
def test_a_superblock_that_makes_a_mount_do_something_else(change: Any) -> None:
    fields = {"free_blocks": 10, "written": 1, "state": 1, "incompat": 0x42, **change}
    with pytest.raises(VerificationError, match="superblock"):
        _require_same_superblock(superblock(**fields), VENDOR)


def test_a_media_check_that_the_statement_does_not_speak_of() -> None:
    hasher = mediacheck.MediaCheckHasher(100)
    hasher.update(bytes(100 * 2048))
    field = hasher.field()
    data = bytearray(100 * 2048)
    data[16 * 2048 : 16 * 2048 + 6] = b"\1CD001"
    claims: Any = SimpleNamespace(media_check=False)
    quiet: Any = SimpleNamespace(view=BytesView(bytes(data), name="iso"))
    assert verify_media_check(quiet, claims, SILENT) == "no media check implanted"
    data[mediacheck.FIELD_OFFSET : mediacheck.FIELD_OFFSET + 512] = field
    loud: Any = SimpleNamespace(view=BytesView(bytes(data), name="iso"))
    with pytest.raises(VerificationError, match="does not speak of"):
        verify_media_check(loud, claims, SILENT)
