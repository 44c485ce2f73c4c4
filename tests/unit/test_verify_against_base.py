"""What a reader of trees would not see: superblocks that make a mount do something first; media checks unspoken of."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from respin.byteview import BytesView
from respin.errors import VerificationError
from respin.formats import mediacheck
from respin.formats.ext.image import ExtImage
from respin.node.ranges import Ranges
from respin.node.treediff import compare
from respin.progress import SILENT
from respin.verify.statement import verify_media_check
from respin.verify.superblock import require_same_around, require_same_bytes, require_same_hidden_files
from tests.support.images import build_ext


def superblock(**fields: int) -> BytesView:
    """1024 zeros and a superblock; fields by their name."""
    places = {
        "inodes": 0, "blocks": 4, "reserved": 8, "free_blocks": 12, "written": 48, "state": 58, "incompat": 96,
        "orphans": 232, "mount_options": 256,
    }  # fmt: skip
    data = bytearray(4096)
    for name, value in fields.items():
        struct.pack_into("<H" if name == "state" else "<I", data, 1024 + places[name], value)
    return BytesView(bytes(data), name="root")


VENDOR = superblock(free_blocks=10, written=1, state=1, incompat=0x42)


def test_counters_may_differ() -> None:
    require_same_bytes(superblock(free_blocks=7, written=2, state=1, incompat=0x42), VENDOR, grown=False)


def test_sizes_may_differ_in_a_grown_one_only() -> None:
    fields = {"free_blocks": 10, "written": 1, "state": 1, "incompat": 0x42}
    for name in ("inodes", "blocks", "reserved"):
        grown = superblock(**{**fields, name: 5})
        require_same_bytes(grown, VENDOR, grown=True)
        with pytest.raises(VerificationError, match="superblock"):
            require_same_bytes(grown, VENDOR, grown=False)


@pytest.mark.parametrize(
    "change",
    [{"incompat": 0x46}, {"orphans": 12}, {"state": 2}, {"mount_options": 0x20}],
    ids=lambda change: str(change),
)
@pytest.mark.parametrize("grown", [False, True])
def test_a_superblock_that_makes_a_mount_do_something_else(change: Any, grown: bool) -> None:
    fields = {"free_blocks": 10, "written": 1, "state": 1, "incompat": 0x42, **change}
    with pytest.raises(VerificationError, match="superblock"):
        require_same_bytes(superblock(**fields), VENDOR, grown=grown)


@pytest.mark.parametrize("place", [0, 512, 1023, 2048, 4095])
def test_the_superblock_of_another_file_system(place: int) -> None:
    """A squashfs begins at byte 0, where ext has nothing: a mount could take the root for one."""
    changed = bytearray(VENDOR.read(0, 4096))
    changed[place] = ord("h")
    with pytest.raises(VerificationError, match="around the superblock"):
        require_same_around(BytesView(bytes(changed), "root"), VENDOR, 4096)
    require_same_around(superblock(free_blocks=7), VENDOR, 4096)


def test_what_lies_behind_the_superblock_in_blocks_of_1_kib() -> None:
    changed = bytearray(VENDOR.read(0, 4096))
    changed[2048] = ord("h")  # a group descriptor
    require_same_around(BytesView(bytes(changed), "root"), VENDOR, 1024)


@pytest.mark.parametrize("place", ["start of the log", "a block of the log", "its inode"])
def test_a_journal_that_would_be_replayed(place: str, tmp_path: Path) -> None:
    """No name leads to it, and a kernel that mounts a read-only device replays it, whatever the superblock says."""
    vendor = build_ext(tmp_path / "root.img", {"file": b"content"}, fs="ext4", size_mib=24).read_bytes()
    base = ExtImage.open(BytesView(vendor, "vendor"))
    everything = Ranges([(0, len(vendor))])
    require_same_hidden_files(base, base, everything)
    (journal,) = (offset for offset, _ in base.data_ranges(base.inode(8))[:1])
    assert journal is not None
    assert struct.unpack_from(">I", vendor, journal) == (0xC03B3998,)
    at = {"start of the log": journal + 28, "a block of the log": journal + 5000, "its inode": base.inode_location(8)}
    changed = bytearray(vendor)
    changed[at[place] + 3] ^= 1
    output = ExtImage.open(BytesView(bytes(changed), "output"))
    assert not compare(base, output, everything).entries
    with pytest.raises(VerificationError, match="journal") as caught:
        require_same_hidden_files(output, base, everything)
    assert caught.value.finding == "not-the-vendors"


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
