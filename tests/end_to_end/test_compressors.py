"""Root images packed with each compressor: respun, verified, restored; other programs read what came out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Tuple

import pytest

from tests.end_to_end.conftest import sha256
from tests.support.forge import Forge, respin
from tests.support.images import extracted, nested_image, run
from tests.support.keys import KeyWorld
from tests.support.variants import variant

PACKS = {
    "zstd": ("-comp", "zstd", "-Xcompression-level", "3", "-b", "256K"),
    "lz4": ("-comp", "lz4", "-Xhc", "-b", "64K"),
    "gzip-1M": ("-comp", "gzip", "-Xcompression-level", "2", "-Xstrategy", "default,fixed", "-b", "1M"),
    "lzo": ("-comp", "lzo", "-b", "128K"),
    "xz": ("-comp", "xz", "-Xbcj", "x86", "-Xdict-size", "64K", "-b", "128K"),
}
SLOW = ("gzip-1M", "lzo", "xz")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in PACKS],
)
def respun(
    request: pytest.FixtureRequest, key_world: KeyWorld, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory
) -> Tuple[str, Path, Path, Forge]:
    """The compressor, the stock ISO packed with it, the respun ISO, and what made that."""
    name = str(request.param)
    tmp = tmp_path_factory.mktemp(name)
    stock = variant(stock_iso, tmp, PACKS[name])
    forge = Forge(key_world, stock, tmp)
    plugin = forge.plugin("good", files={"/usr/share/good/data": "good data\n" * 1000})
    done = forge.build(tmp / "out.iso", plugin, json=True)
    assert done.code == 0, done.err
    counters = done.json["counters"]
    assert counters["root_blocks_reused"] > 0.8 * counters["root_blocks_stored"]
    return name, stock, tmp / "out.iso", forge


def test_verify_and_restore_hold(respun: Tuple[str, Path, Path, Forge], tmp_path: Path) -> None:
    _name, stock, iso, forge = respun
    verified = forge.verify(iso)
    assert verified.code == 0, verified.err
    done = respin("restore", iso, "-o", tmp_path / "stock.iso")
    assert done.code == 0, done.err
    assert sha256(tmp_path / "stock.iso") == sha256(stock)


def test_other_programs_read_the_root(respun: Tuple[str, Path, Path, Forge], tmp_path: Path) -> None:
    name, _stock, iso, _forge = respun
    image = nested_image(iso, tmp_path / "work")
    run("e2fsck", "-fn", image)
    data = run("debugfs", "-R", "cat /usr/share/good/data", image)
    assert data == b"good data\n" * 1000
    extracted(iso, "/LiveOS/squashfs.img", tmp_path / "squashfs.img")
    said = run("unsquashfs", "-s", tmp_path / "squashfs.img").decode()
    assert f"Compression {name.partition('-')[0]}" in said
    if name == "xz":
        assert "Filters selected: x86" in said
        assert "Dictionary size 65536" in said


def test_the_kernel_mounts_the_root(respun: Tuple[str, Path, Path, Forge], tmp_path: Path) -> None:
    _name, _stock, iso, _forge = respun
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    extracted(iso, "/LiveOS/squashfs.img", tmp_path / "squashfs.img")
    mount = tmp_path / "mount"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-o", "loop,ro", tmp_path / "squashfs.img", mount], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop mount of this squashfs here: {done.stderr.decode().strip()}")
    try:
        image = mount / "LiveOS/ext3fs.img"
        assert run("debugfs", "-R", "cat /usr/share/good/data", image) == b"good data\n" * 1000
        run("e2fsck", "-fn", image)
    finally:
        run("umount", mount)
