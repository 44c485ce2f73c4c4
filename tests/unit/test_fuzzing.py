"""The fuzzer: a short run of it, that it finds what it is there to find, and that its seeds are taken apart rightly."""

from __future__ import annotations

import dataclasses
import mmap
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable, List

import pytest

from respin.byteview import BytesView
from respin.errors import BuildError, MalformedError, RespinError
from respin.formats.squashfs import SquashfsImage
from tests.fuzzing.campaign import Campaign, Limits, MiB
from tests.fuzzing.ext import ExtParts
from tests.fuzzing.formats import FORMATS, Format
from tests.fuzzing.nested import INNER
from tests.fuzzing.squashfs import SquashfsParts
from tests.support.images import run, unsquash

BY_NAME = {kind.name: kind for kind in FORMATS}


@pytest.mark.parametrize(("which", "cases"), [("", 20), ("iso-", 40)], ids=["root images", "ISOs"])
def test_a_short_run_finds_nothing(which: str, cases: int, tmp_path: Path) -> None:
    """Of ISOs more are refused: few numbers in them are without meaning; and of images with checksums."""
    formats = [kind for kind in FORMATS if kind.name.startswith("iso-") == bool(which)]
    campaign = Campaign(formats, 2, tmp_path / "failures")
    campaign.run(cases, jobs=2)
    assert campaign.failures == [], "\n".join(f"{one.kept}: {one.why}" for one in campaign.failures)
    for name, tally in campaign.tallies.items():
        assert (tally.cases, tally.read + tally.refused) == (cases, cases), name
        assert tally.read, f"{name}: nothing comes through, so hardly anything reaches the readers' depths"
        assert tally.refused, f"{name}: the damage does nothing"
    assert len({sort for tally in campaign.tallies.values() for sort in tally.reasons}) > 20


@pytest.fixture(scope="module")
def plain() -> Format:
    """A format that is read without more ado, to break in one way."""

    class Bytes:
        data = b"seed"

        def spoil(self, rng: random.Random) -> "tuple[bytes, str]":
            return bytes([rng.randrange(256)]), "one byte"

    return Format("plain", lambda _tmp: b"seed", lambda _seed: Bytes(), lambda _data, _seed: [])


def unexpected(_data: bytes) -> None:
    {}["key"]


def endless(_data: bytes) -> None:
    while True:
        pass


def hungry(_data: bytes) -> None:
    """Pages of its own: the allocator might hand out some again that the process had before, which are no more then."""
    with mmap.mmap(-1, 192 * MiB, flags=mmap.MAP_PRIVATE) as pages:
        for place in range(0, len(pages), mmap.PAGESIZE):
            pages[place] = 1


def dying(_data: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def placeless(_data: bytes) -> None:
    raise MalformedError("somewhere")


def of_another_sort(_data: bytes) -> None:
    raise BuildError("no space", where="here")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (unexpected, "KeyError"),
        (endless, "processor time"),
        (hungry, "memory"),
        (dying, "SIGKILL"),
        (placeless, "where"),
        (of_another_sort, "BuildError"),
    ],
)
def test_faults_are_found_and_their_images_kept(
    tmp_path: Path, plain: Format, fault: Callable[[bytes], None], why: str
) -> None:
    """One case in several fails; the others are counted, also those behind it."""

    def read(data: bytes, seed: bytes) -> List[RespinError]:
        try:
            if data != seed and data[0] < 40:
                fault(data)
        except RespinError as error:
            return [error]
        return []

    kind = dataclasses.replace(plain, read=read)
    campaign = Campaign([kind], 1, tmp_path / "failures", Limits(seconds=0.3, memory=64 * MiB))
    campaign.run(12)
    tally = campaign.tallies["plain"]
    bad = [number for number in range(12) if random.Random(f"1:plain:{number}").randrange(256) < 40]
    assert 0 < len(bad) < 4
    assert [one.number for one in campaign.failures] == bad
    assert (tally.cases, tally.failed, tally.read) == (12, len(bad), 12 - len(bad))
    for one in campaign.failures:
        assert why in one.why
        assert one.kept.read_bytes()[0] < 40
        text = one.kept.with_suffix(".txt").read_text()
        assert "one byte" in text
        assert why in text


def test_the_same_numbers_give_the_same_damage(tmp_path: Path) -> None:
    parts = SquashfsParts(BY_NAME["flat-gzip"].make(tmp_path))
    first = [parts.spoil(random.Random(number)) for number in range(50)]
    assert first == [parts.spoil(random.Random(number)) for number in range(50)]
    assert len({data for data, _done in first}) > 45


@pytest.mark.parametrize("name", [kind.name for kind in FORMATS if kind.take_apart is SquashfsParts])
def test_a_squashfs_is_put_together_again(tmp_path: Path, name: str) -> None:
    """Unchanged to the same bytes; with everything packed anew to an image that unsquashfs reads alike."""
    seed = BY_NAME[name].make(tmp_path)
    parts = SquashfsParts(seed)
    assert parts.pack(parts.whole()) == seed
    spoiled = parts.whole()
    image = parts.image
    for number, piece in enumerate(parts.pieces):
        content = image.codec.decompress(piece.stored, image.block_size) if piece.compressed else piece.stored
        spoiled.pieces[number] = (content, False)  # every block becomes longer, so that all behind it moves
    packed = parts.pack(spoiled)
    if name != "flat-stored":
        assert len(packed) > len(seed) + 5000
    (tmp_path / "packed").write_bytes(packed)
    (tmp_path / "seed").write_bytes(seed)
    theirs, ours = (run("unsquashfs", "-lls", tmp_path / one) for one in ("seed", "packed"))
    assert ours == theirs
    for path in ("d/noise", "d/text", "sparse", "hard"):
        assert unsquash(tmp_path / "packed", path) == unsquash(tmp_path / "seed", path)


def test_one_seed_has_tables_of_several_blocks_and_an_index(tmp_path: Path) -> None:
    image = SquashfsImage.open(BytesView(BY_NAME["flat-stored"].make(tmp_path), "seed"))
    assert len(list(image.directory_table.blocks())) > 1
    assert image.stat("/d/deep/er").index_count
    assert image.superblock.fragment_count
    assert image.superblock.export_table is not None


def test_damage_reaches_the_inner_image_below_sound_compression(tmp_path: Path) -> None:
    kind = BY_NAME["nested-xz"]
    seed = kind.make(tmp_path)
    parts = kind.take_apart(seed)
    before = SquashfsImage.open(BytesView(seed, "seed")).read_file(INNER)
    inside = 0
    for number in range(40):
        data, done = parts.spoil(random.Random(number))
        if done.startswith("inside: "):
            (tmp_path / "image").write_bytes(data)
            after = unsquash(tmp_path / "image", INNER)
            assert len(after) == len(before)
            inside += after != before
    assert inside > 10


def test_fields_of_every_sort_are_known(tmp_path: Path) -> None:
    """The roles that the damage is drawn from; what is not found would never be spoiled."""
    flat = {field.role for field in SquashfsParts(BY_NAME["flat-gzip"].make(tmp_path))._list}
    assert {
        "start",
        "block",
        "tail offset",
        "name",
        "delta",
        "inode block",
        "fragment start",
        "export",
        "owner",
    } <= flat
    found = set()
    for number, name in enumerate(("ext2", "ext4", "ext4-inline")):
        (tmp_path / str(number)).mkdir()
        found |= {field.role for field in ExtParts(BY_NAME[name].make(tmp_path / str(number)))._list}
    assert {"pointer", "physical", "extent depth", "name", "entry size", "xattr place", "group block", "mode"} <= found


def test_the_command(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "tests.fuzzing", "--only", "^ext2$", "--failures", str(tmp_path / "failures")]
    checkout = Path(__file__).resolve().parents[2]
    done = subprocess.run([*line, "--count", "30"], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[1].split()[:2] == ["ext2", "30"]
    image = tmp_path / "ext2-1-5.img"
    image.write_bytes(bytes(4096))
    done = subprocess.run([*line, "--replay", image], cwd=checkout, capture_output=True, text=True)
    assert (done.returncode, "not-ext" in done.stdout) == (0, True), done.stdout + done.stderr
