"""``respin inspect --files`` and ``--cat``: what debugfs finds in the unpacked image, straight from the ISO."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Dict, Set, Tuple

import pytest

from tests.end_to_end.conftest import Respun
from tests.support.forge import respin
from tests.support.images import nested_image


@pytest.fixture(scope="module")
def image(respun: Respun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ext image of the respun ISO, taken out by other programs."""
    return nested_image(respun.iso, tmp_path_factory.mktemp("image"))


def debugfs(image: Path, request: str) -> bytes:
    return subprocess.run(["debugfs", "-R", request, image], check=True, capture_output=True).stdout


def listed(image: Path, directory: str) -> Set[Tuple[str, ...]]:
    """Name, mode, uid, gid of everything in a directory, by debugfs (``ls -p``: /inode/mode/uid/gid/name/size/)."""
    found = set()
    for line in debugfs(image, f"ls -p {directory}").decode().splitlines():
        parts = line.split("/")
        if len(parts) > 6 and parts[5] not in (".", "..") and parts[1] != "0":
            found.add((f"{directory}/{parts[5]}", parts[2][-4:], parts[3], parts[4]))
    return found


@pytest.mark.parametrize("directory", ["/etc", "/usr/share/good", "/usr/bin"])
def test_lists_what_debugfs_lists(respun: Respun, image: Path, directory: str) -> None:
    done = respin("inspect", respun.iso, "--files", "--below", directory, "--json")
    assert done.code == 0, done.err
    files: Dict[str, Dict[str, object]] = {one["path"]: one for one in done.json["files"]}
    assert directory in files
    here = {
        (path, str(one["mode"]), str(one["uid"]), str(one["gid"]))
        for path, one in files.items()
        if path.rpartition("/")[0] == directory
    }
    assert here == listed(image, directory)
    assert here


def test_prints_a_file_byte_by_byte(respun: Respun, image: Path) -> None:
    for path in ("/usr/share/good/data", "/usr/lib/os-release"):
        done = subprocess.run(
            [sys.executable, "-m", "respin", "inspect", respun.iso, "--cat", path], capture_output=True, check=True
        )
        assert done.stdout == debugfs(image, f"cat {path}")
        assert done.stdout


def test_follows_links_inside_the_image_only(respun: Respun, image: Path) -> None:
    done = respin("inspect", respun.iso, "--cat", "/etc/os-release", "--json")
    assert base64.b64decode(done.json["content"]) == debugfs(image, "cat /usr/lib/os-release")


def test_the_listing_for_people_has_a_line_for_each_path(respun: Respun) -> None:
    people = respin("inspect", respun.iso, "--files", "--below", "/usr/share/good")
    assert [line.split()[-1] for line in people.out.splitlines()] == ["/usr/share/good", "/usr/share/good/data"]
    assert people.out.startswith("drwxr-xr-x ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--cat", "/nope"),
        ("--cat", "/etc"),
        ("--cat", "etc/../x"),
        ("--files", "--below", "/nope"),
        ("--below", "/etc"),
    ],
)
def test_what_is_not_there_is_said(respun: Respun, arguments: Tuple[str, ...]) -> None:
    done = respin("inspect", respun.iso, *arguments, "--json")
    assert done.code == 2
    assert json.loads(done.out)["error"]["remedy"]
