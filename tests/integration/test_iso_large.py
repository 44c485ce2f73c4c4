"""Large ISO images: thousands of files, a file above 4 GiB as vendors record it, and the memory that a splice takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, Mapping

import pytest

from respin.byteview import FileView
from respin.formats.iso9660 import IsoImage, NewFile, Place, plan_splice
from respin.process import run
from respin.segments import Zeros
from tests.support import iso, layouts
from tests.support.splicing import write_segments

CHECKOUT = Path(__file__).resolve().parents[2]
PAYLOAD = "/LiveOS/squashfs.img"
MOST = 100_000_000
"""Bytes of memory that a splice may take."""


def spliced_by_a_program(base: Path, out: Path, new: Path) -> int:
    """Splice in a process of its own; the peak of its memory in bytes."""
    argv = [sys.executable, str(CHECKOUT / "benchmarks/splice.py"), str(base), str(out), PAYLOAD, str(new), "--digest"]
    return int(subprocess.run(argv, cwd=CHECKOUT, stdout=subprocess.PIPE, check=True).stdout)


@pytest.mark.parametrize("layout", ["lorax-9", "lorax-10"])
def test_thousands_of_files_take_little_memory(layout: str, tmp_path: Path) -> None:
    files: Dict[str, iso.Content] = {
        f"Packages/some-package-name-{number:04}-1.2.3-4.el9.x86_64.rpm": f"package {number}\n"
        for number in range(3000)
    }
    base = layouts.build(tmp_path, layout, files)
    new, out = tmp_path / "new.img", tmp_path / "out.iso"
    new.write_bytes(iso.noise("new", 5_000_001))
    assert spliced_by_a_program(base, out, new) < MOST
    run(["bsdtar", "-xf", str(out), "-C", str(tmp_path), "LiveOS/squashfs.img", "Packages"])
    assert (tmp_path / "LiveOS/squashfs.img").read_bytes() == new.read_bytes()
    assert {name: (tmp_path / name).read_text() for name in files} == files
    assert "PASS" in _said("checkisomd5", str(out))
    with base.open("rb") as one, out.open("rb") as other:
        before, after = (IsoImage.open(FileView(file.fileno(), file.name)) for file in (one, other))
        assert set(after.files) - set(before.files) == {"/respin.json", "/respin.sig"}


@pytest.mark.slow
def test_a_file_above_4_gib_as_vendors_record_it(tmp_path: Path) -> None:
    """The large file is replaced by a larger and by a small one, and moved by another; it is zeros."""
    size = 4_600_000_000
    tree = layouts.make_tree(tmp_path)
    os.truncate(tree / PAYLOAD[1:], size)
    base = tmp_path / "base.iso"
    hybrid = ["-isohybrid-mbr", str(iso.HYBRID_MBR), "-isohybrid-gpt-basdat"]
    iso.xorrisofs(tree, base, "-iso-level", "3", "--hardlinks", *hybrid)
    run(["rm", "-rf", str(tree)])
    _require_sizes(base, {PAYLOAD: size})
    for sizes in ({PAYLOAD: size + 700_000_001}, {PAYLOAD: 5_000}, {"/isolinux/vmlinuz0": 9_000_000}):
        out = tmp_path / "out.iso"
        _splice(base, out, sizes)
        _require_sizes(out, {PAYLOAD: size, **sizes, "/respin.json": 5_000, "/respin.sig": 16_384})
        reports = [layouts.without_numbers(layouts.report(path)) for path in (base, out)]
        assert reports[0] == reports[1]
        out.unlink()


def _splice(base: Path, out: Path, replace: Mapping[str, int]) -> None:
    added = [NewFile("/respin.json", 5_000, Place.END), NewFile("/respin.sig", 16_384, Place.UNCHECKED)]
    with base.open("rb") as file, out.open("wb") as new:
        plan = plan_splice(IsoImage.open(FileView(file.fileno(), base.name)), replace, added)
        content = {name: [Zeros(size)] for name, (_, size) in plan.files.items()}
        write_segments(plan.segments(content), file.fileno(), new.fileno())


def _require_sizes(path: Path, sizes: Mapping[str, int]) -> None:
    listings = [_said("bsdtar", "-tvf", str(path)), _said("7z", "l", str(path))]
    for name, size in sizes.items():
        for listing in listings:
            assert re.search(rf" {size} .* {name[1:]}$", listing, re.M), (name, size)
        assert re.search(rf" {size} .*'{name}'$", _said("xorriso", "-indev", str(path), "-lsl", name, "--"), re.M)


def _said(*argv: str) -> str:
    done = run(argv, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")
