"""The page on verifying by hand, taken at its word: its commands are run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.support import rawiso
from tests.support.forge import Forge

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "verify-by-hand.md"
B = 2048


def by_hand(directory: Path, behind: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run the page's commands in a directory with the ISO; ``behind`` leaves out the blocks before that one."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 7
    text = "\n".join([blocks[0], *blocks[max(behind, 1) :]])
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "TMPDIR": str(directory)}
    return subprocess.run(
        ["bash", "-c", text], cwd=directory, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def desk(forge: Forge, respun: Respun, tmp_path: Path) -> Path:
    """A directory with the ISO under its own name, what stands beside it, and the trust store."""
    for suffix in ("", ".CHECKSUM", ".intoto.jsonl"):
        shutil.copy(f"{respun.iso}{suffix}", tmp_path / f"{respun.iso.name}{suffix}")
        (tmp_path / f"out.iso{suffix}").symlink_to(f"{respun.iso.name}{suffix}")
    shutil.copytree(forge.keys.trust, tmp_path / "trust")
    return tmp_path


def flip(file: Path, offset: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 1]))


def test_the_whole_chain(forge: Forge, desk: Path) -> None:
    done = by_hand(desk)
    assert done.returncode == 0, done.stderr
    for line in ("respun.iso: OK", "masked.iso: OK", f"{forge.iso.name}: OK"):
        assert line in done.stdout
    assert done.stdout.count(f"{forge.iso.name}: OK") == 2, "by the statement and by the vendor's CHECKSUM"
    assert sha256(desk / forge.iso.name) == sha256(forge.iso)
    assert len(re.findall("Good signature", done.stderr)) == 5, "CHECKSUM, statement, base, plugin, rpm"


@pytest.mark.parametrize("where", ["vendor's", "media check", "statement", "slot", "evidence"])
def test_a_flipped_bit_is_found(desk: Path, where: str) -> None:
    iso = desk / "respun.iso"
    data = iso.read_bytes()
    places = {record.path: record.extent * B for record in rawiso.records(data, False)}
    spot = {
        "vendor's": 40_000_000,
        "media check": 33651 + 20,
        "statement": places["/respin.json"] + 40,
        "slot": places["/respin.sig"] + 300,
        "evidence": places["/respin.evidence"] + 600,
    }[where]
    assert by_hand(desk, behind=99).returncode == 0
    flip(iso, spot)
    assert by_hand(desk).returncode != 0, "the CHECKSUM beside the ISO finds it"
    shutil.rmtree(desk / "evidence", ignore_errors=True)
    (desk / "CHECKSUM.respin").unlink()
    done = by_hand(desk, behind=2)
    assert done.returncode != 0, "and the ISO alone does"
    assert not (desk / "originals").exists()


@pytest.mark.parametrize("role", ["base", "plugin", "rpm", "respin"])
def test_a_key_of_another_role_does_not_do(forge: Forge, desk: Path, role: str) -> None:
    shutil.rmtree(desk / "trust" / role)
    (desk / "trust" / role).mkdir()
    (desk / "trust" / role / "other.asc").write_bytes(forge.keys.public("unknown"))
    done = by_hand(desk, behind=2)
    assert done.returncode != 0
    assert "No public key" in done.stderr
