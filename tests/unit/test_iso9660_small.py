"""Small new images: what others read in them is what was put in, and the bytes are always the same."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Dict

import pytest

from respin.byteview import BytesView
from respin.errors import UnsupportedError
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.small import small_iso
from tests.support.images import mounted, run

WHEN = 1_600_000_000
FILES: Dict[str, bytes] = {
    "rhdd3": b"Driver Update Disk version 3",
    "rpms/x86_64/kmod-exnic-1.2-1.el9.x86_64.rpm": b"first" * 1000,
    "rpms/x86_64/Kmod_Other-1-1.x86_64.rpm": b"",
    "rpms/x86_64/" + "n" * 100 + ".rpm": b"x" * 2048,
    "a/b/c/d": b"deep",
}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "small.iso"
    path.write_bytes(small_iso("OEMDRV", FILES, WHEN))
    return path


def contents(top: Path) -> Dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_xorriso_finds_what_was_put_in(image: Path, tmp_path: Path) -> None:
    run("xorriso", "-osirrox", "on", "-indev", image, "-extract", "/", tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    report = subprocess.run(["xorriso", "-indev", image, "-pvd_info"], capture_output=True, text=True, check=True)
    assert "Volume Id    : OEMDRV" in report.stdout
    assert "WARNING" not in report.stderr + report.stdout
    assert "SORRY" not in report.stderr + report.stdout


def test_bsdtar_finds_names_modes_owners_and_times(image: Path) -> None:
    listed = run("bsdtar", "--numeric-owner", "-tvf", image).decode().splitlines()
    found = {line.split()[-1]: line.split()[0] for line in listed}
    assert {name: found[name] for name in FILES} == dict.fromkeys(FILES, "-r--r--r--")
    assert found["rpms/x86_64"] == "dr-xr-xr-x"
    assert {tuple(line.split()[2:4]) for line in listed} == {("0", "0")}
    assert all("Sep 13  2020" in line for line in listed)


def test_isoinfo_finds_no_fault(image: Path) -> None:
    assert "OEMDRV" in run("isoinfo", "-d", "-i", image).decode()
    assert run("isoinfo", "-R", "-i", image, "-x", "/rhdd3") == FILES["rhdd3"]
    assert run("blkid", "-p", "-o", "value", "-s", "LABEL", image) == b"OEMDRV\n"


def test_the_kernel_finds_what_was_put_in(image: Path, tmp_path: Path) -> None:
    with mounted(image, tmp_path / "mnt") as top:
        assert contents(top) == FILES


def test_our_own_reader_agrees(image: Path) -> None:
    iso = IsoImage.open(BytesView(image.read_bytes(), "small.iso"))
    assert {path[1:]: iso.read(path) for path in iso.files} == FILES
    assert iso.volume_space_size * 2048 == image.stat().st_size
    assert iso.created == WHEN


def test_the_bytes_depend_on_nothing_else() -> None:
    assert small_iso("OEMDRV", dict(reversed(list(FILES.items()))), WHEN) == small_iso("OEMDRV", FILES, WHEN)
    assert small_iso("OEMDRV", FILES, WHEN + 1) != small_iso("OEMDRV", FILES, WHEN)


@pytest.mark.parametrize("files", [{"n" * 200: b""}, {f"{number:050}": b"" for number in range(30)}])
def test_what_has_no_room_is_refused(files: Dict[str, bytes]) -> None:
    with pytest.raises(UnsupportedError):
        small_iso("OEMDRV", files, WHEN)
