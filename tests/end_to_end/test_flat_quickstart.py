"""The quickstart with a flat root: the example plugins on the flat example Node, as independent programs see it."""

from __future__ import annotations

import filecmp
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.forge import respin
from tests.support.images import extracted, run
from tests.support.quickstart import Quickstart, flat_quickstart

__all__ = ["flat_quickstart"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="needs FUSE"),
    pytest.mark.timeout(1800),  # the whole quickstart is in the first test's time
]


@pytest.fixture(scope="module")
def root_image(flat_quickstart: Quickstart, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root image of the respun ISO."""
    path = tmp_path_factory.mktemp("flat") / "squashfs.img"
    extracted(flat_quickstart.respun, "/LiveOS/squashfs.img", path)
    return path


def test_the_plugins_are_in_the_root_itself(root_image: Path) -> None:
    listed = run("unsquashfs", "-lln", root_image).decode().splitlines()
    paths = {line.split("squashfs-root/", 1)[1].split(" -> ")[0] for line in listed if "squashfs-root/" in line}
    assert "proc" in paths
    assert "LiveOS" not in paths
    assert "usr/libexec/example-agent/agent" in paths
    assert any(path.startswith("usr/lib/modules/") and path.endswith("/extra/exnic/exnic.ko") for path in paths)


def test_it_is_verified_from_the_iso_alone_and_named_flat(flat_quickstart: Quickstart) -> None:
    done = respin("verify", flat_quickstart.respun, "--trust", flat_quickstart.trust, "--json")
    assert done.code == 0, done.err
    assert done.json["verdict"] == "PASSED"
    done = respin("inspect", flat_quickstart.respun)
    assert "flat gzip squashfs" in done.out


def test_the_vendors_iso_comes_back(flat_quickstart: Quickstart, tmp_path: Path) -> None:
    stock = tmp_path / "node.iso"
    done = respin("restore", flat_quickstart.respun, "-o", stock)
    assert done.code == 0, done.err
    assert filecmp.cmp(stock, flat_quickstart.iso, shallow=False)


def test_the_media_check_passes(flat_quickstart: Quickstart) -> None:
    done = subprocess.run(["checkisomd5", str(flat_quickstart.respun)], capture_output=True, check=False)
    assert done.returncode == 0
