"""The ISO on a stick: larger than the ISO, used before, its partition table put in order by an operating system."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Iterator, List, Sequence

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.support.forge import Done, Forge, respin

MIB = 1 << 20
STICK = 256 * MIB


def write(iso: Path, stick: Path) -> Path:
    """Write an ISO to a stick with ``dd``, as its users do; what the stick held behind it stays."""
    subprocess.run(["dd", f"if={iso}", f"of={stick}", "bs=4M", "conv=notrunc", "status=none"], check=True)
    return stick


def blank(path: Path, size: int = STICK) -> Path:
    """An empty stick."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def run(*command: object) -> None:
    """Run a partitioning program; a test that needs a missing one is skipped."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def put(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def refused(done: Done, finding: str) -> None:
    """The refusal that is expected, and nothing else."""
    assert done.code == 3, done.out + done.err
    assert done.json["error"]["finding"] == finding, done.err


@pytest.fixture
def stick(respun: Respun, tmp_path: Path) -> Iterator[Path]:
    """A stick that was empty, with the respun ISO on it."""
    path = write(respun.iso, blank(tmp_path / "stick.img"))
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def gpt_forge(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Forge:
    """A vendor whose ISO has a protective boot record and a GPT with nothing but the EFI partition.

    The classic layout's boot record names the whole disk as a partition beside the GPT; partitioning programs take it
    for one without a GPT and leave the GPT alone.
    """
    directory = tmp_path_factory.mktemp("gpt")
    iso = directory / forge.iso.name
    shutil.copy(forge.iso, iso)
    sectors = iso.stat().st_size // 512
    protective = struct.pack("<B3sB3sLL", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, sectors - 1)
    put(iso, 446, protective.ljust(64, b"\0"))
    run("sgdisk", "--delete=1", iso)
    run("implantisomd5", "--force", iso)
    return Forge(forge.keys, iso, directory)


@pytest.fixture(scope="module")
def gpt_iso(gpt_forge: Forge, good_plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A respin of that."""
    output = tmp_path_factory.mktemp("gpt-respun") / "respun.iso"
    done = gpt_forge.build(output, good_plugin)
    assert done.code == 0, done.err
    return output


@pytest.fixture
def gpt_stick(gpt_iso: Path, tmp_path: Path) -> Iterator[Path]:
    """A stick that was empty, with that on it."""
    path = write(gpt_iso, blank(tmp_path / "stick.img"))
    yield path
    path.unlink()


def test_a_stick_is_verified_as_the_iso_is(forge: Forge, respun: Respun, stick: Path) -> None:
    document = forge.verify(stick, base=None).json
    size = respun.iso.stat().st_size
    assert document["complete"] is True
    assert document["size"] == size
    assert document["carrier"] == {
        "size": STICK,
        "iso_size": size,
        "trailing": STICK - size,
        "partition_table": "as signed",
        "trailing_content": "zeros",
        "first_data": None,
    }
    assert forge.verify(respun.iso, base=None).json["carrier"] is None


def test_data_from_before_is_said_and_outside_the_claim(forge: Forge, respun: Respun, stick: Path) -> None:
    put(stick, STICK - 5 * MIB, b"old data")
    done = forge.verify(stick, base=None)
    assert done.code == 0, done.err
    assert done.json["complete"] is False
    assert done.json["carrier"]["first_data"] == STICK - 5 * MIB
    assert [link["name"] for link in done.json["links"] if link["status"] != "passed"] == ["carrier"]
    said = respin("verify", stick, "--trust", forge.keys.trust)
    assert f"from byte {STICK - 5 * MIB} on there is data that nobody signed" in said.out


def test_the_vendors_iso_comes_back_from_a_stick(forge: Forge, stick: Path, tmp_path: Path) -> None:
    put(stick, STICK - 1, b"!")
    output = tmp_path / "stock.iso"
    assert respin("restore", stick, "-o", output).code == 0
    assert sha256(output) == sha256(forge.iso)


def test_inspect_says_what_it_lies_on(respun: Respun, stick: Path) -> None:
    done = respin("inspect", stick, "--json")
    assert done.code == 0, done.err
    assert done.json["carrier"]["iso_size"] == done.json["iso"]["size"] == respun.iso.stat().st_size
    assert done.json["node"] is not None
    assert f"{STICK - respun.iso.stat().st_size} bytes lie behind" in respin("inspect", stick).out


def test_a_block_device(forge: Forge, stick: Path) -> None:
    made = subprocess.run(["losetup", "--find", "--show", "--read-only", stick], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no loop device to be had: {made.stderr.strip()}")
    device = Path(made.stdout.strip())
    try:
        done = forge.verify(device, base=None)
        assert done.code == 0, done.err
        assert done.json["carrier"]["size"] == STICK
        assert respin("inspect", device, "--json").json["carrier"]["size"] == STICK
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_a_summary_names_the_iso_not_the_stick(forge: Forge, respun: Respun, stick: Path, tmp_path: Path) -> None:
    assert forge.verify(stick, base=None, vsa=tmp_path / "vsa.json").code == 0
    assert sha256(respun.iso) in (tmp_path / "vsa.json").read_text()


@pytest.mark.parametrize("place", [100, 40_000, 50 * MIB])
def test_a_changed_byte_of_the_iso_is_found_on_a_stick(forge: Forge, stick: Path, place: int) -> None:
    with stick.open("rb") as file:
        file.seek(place)
        byte = file.read(1)[0]
    put(stick, place, bytes([byte ^ 4]))
    assert forge.verify(stick, base=None).code == 3


def test_a_stick_that_is_too_small(forge: Forge, stick: Path, respun: Respun) -> None:
    with stick.open("r+b") as file:
        file.truncate(respun.iso.stat().st_size - 512)
    refused(forge.verify(stick, base=None), "truncated")


def test_a_partition_table_from_before_at_the_end(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    """The stick had a GPT of its own: writing the ISO replaced the first copy, the backup is still there."""
    stick = blank(tmp_path / "stick.img")
    run("sgdisk", "--new=1:0:0", stick)
    write(respun.iso, stick)
    refused(forge.verify(stick, base=None), "extra-partition")
    put(stick, STICK - 33 * 512, bytes(33 * 512))
    assert forge.verify(stick, base=None).json["complete"] is True


def test_a_partition_added_to_the_boot_record(forge: Forge, stick: Path) -> None:
    if shutil.which("sfdisk") is None:
        pytest.skip("sfdisk is not installed")
    command = ["sfdisk", "--append", "--no-reread", "--force", stick]
    subprocess.run(command, input=b"start=400000,size=2048,type=83\n", check=True, capture_output=True)
    refused(forge.verify(stick, base=None), "extra-partition")
    assert "partitions that the signed one does not" in respin("inspect", stick).out


MOVERS: Sequence[List[str]] = (
    ["sgdisk", "-e"],
    ["sfdisk", "--relocate", "gpt-bak-std"],
    ["parted", "--script", "--fix"],
)


@pytest.mark.parametrize("mover", MOVERS, ids=lambda mover: mover[0])
def test_a_table_moved_to_the_end_is_the_signed_one(
    gpt_forge: Forge, gpt_stick: Path, gpt_iso: Path, tmp_path: Path, mover: List[str]
) -> None:
    before = gpt_stick.read_bytes()[:1024]
    run(*mover, gpt_stick, *(["print"] if mover[0] == "parted" else []))
    assert gpt_stick.read_bytes()[:1024] != before, "the program moved nothing"
    done = gpt_forge.verify(gpt_stick, base=None)
    assert done.code == 0, done.err
    assert done.json["complete"] is True
    assert done.json["carrier"]["partition_table"] == "moved"
    assert done.json["carrier"]["trailing_content"] == "zeros"
    output = tmp_path / "stock.iso"
    assert respin("restore", gpt_stick, "-o", output).code == 0
    assert sha256(output) == sha256(gpt_forge.iso)
    assert respin("inspect", gpt_stick, "--json").json["iso"]["system_area"]["gpt_valid"] is True
    assert gpt_forge.verify(gpt_stick, base=None, vsa=tmp_path / "vsa.json").code == 0
    assert sha256(gpt_iso) in (tmp_path / "vsa.json").read_text()


def test_a_table_that_was_not_moved(gpt_forge: Forge, gpt_stick: Path) -> None:
    document = gpt_forge.verify(gpt_stick, base=None).json
    assert (document["complete"], document["carrier"]["partition_table"]) == (True, "as signed")


@pytest.mark.parametrize(
    ("options", "finding"),
    [
        (["-e", "--new=0:0:0"], "extra-partition"),
        (["--new=0:0:0"], "extra-partition"),
        (["-e", "--change-name=2:other"], "extra-partition"),
        (["-e", "--delete=2"], "extra-partition"),
        (["-e", "--disk-guid=R"], "partition-table"),
    ],
    ids=" ".join,
)
def test_anything_else_done_to_the_table(gpt_forge: Forge, gpt_stick: Path, options: List[str], finding: str) -> None:
    run("sgdisk", *options, gpt_stick)
    refused(gpt_forge.verify(gpt_stick, base=None), finding)
    assert respin("inspect", gpt_stick, "--json").json["carrier_reason"]


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (444, "unknown bytes"),
        (450, "partition type"),
        (446, "boot flag"),
        (451, "end address"),
        (458, "size"),
        (512 + 40, "first usable sector"),
        (512 + 48, "last usable sector"),
        (STICK - 512 + 72, "header of the backup"),
        (STICK - 33 * 512 + 130, "entries of the backup"),
    ],
)
def test_a_moved_table_with_one_byte_changed(gpt_forge: Forge, gpt_stick: Path, place: int, what: str) -> None:
    run("sgdisk", "-e", gpt_stick)
    with gpt_stick.open("rb") as file:
        file.seek(place)
        byte = file.read(1)[0]
    put(gpt_stick, place, bytes([byte ^ 8]))
    done = gpt_forge.verify(gpt_stick, base=None)
    assert done.code == 3, what
    assert done.json["error"]["finding"] in ("partition-table", "extra-partition"), what


def test_half_of_the_old_backup_wiped_is_refused(gpt_forge: Forge, gpt_stick: Path, gpt_iso: Path) -> None:
    """parted wipes the header; the entries before it are signed bytes like any other."""
    run("sgdisk", "-e", gpt_stick)
    size = gpt_iso.stat().st_size
    put(gpt_stick, size - 512, bytes(512))
    assert gpt_forge.verify(gpt_stick, base=None).code == 0
    put(gpt_stick, size - 33 * 512, bytes(32 * 512))
    refused(gpt_forge.verify(gpt_stick, base=None), "subject-digest")


def test_a_file_with_something_appended_is_a_carrier(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    file = tmp_path / "longer.iso"
    shutil.copy(respun.iso, file)
    with file.open("ab") as stream:
        stream.write(b"more" + os.urandom(100))
    done = forge.verify(file, base=None)
    assert (done.code, done.json["complete"]) == (0, False)
    assert done.json["carrier"]["first_data"] == respun.iso.stat().st_size


@pytest.mark.parametrize(
    ("place", "magic"),
    [
        (STICK - 16 * 512, b"\xfc\x4e\x2b\xa9"),
        (STICK - 64 * 1024, b"\xfc\x4e\x2b\xa9"),
        (STICK - 512, b"\xde\x11\xde\x11"),
        (STICK - 2 * 512, b"Intel Raid ISM Cfg Sig. "),
    ],
    ids=["md 1.0", "md 0.90", "DDF", "Intel"],
)
def test_a_stick_that_calls_itself_a_part_of_an_array(forge: Forge, stick: Path, place: int, magic: bytes) -> None:
    """What looks for file systems looks for these first: the Node would not find its medium, or find another."""
    put(stick, place, magic)
    refused(respin("verify", stick, "--trust", forge.keys.trust, "--json"), "extra-partition")
    put(stick, place, bytes(len(magic)))
    assert respin("verify", stick, "--trust", forge.keys.trust).code == 0
