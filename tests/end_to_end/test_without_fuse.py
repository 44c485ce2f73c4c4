"""Builds without /dev/fuse, subordinate ids or namespaces: the same bytes, or a sentence that says why not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from tests.end_to_end.conftest import GOOD_FILES, Respun, sha256
from tests.support.forge import Done, Forge
from tests.support.keys import KeyWorld
from tests.support.ordinary import built_by_an_ordinary_user
from tests.support.roots import without_fuse
from tests.support.variants import flat_variant, variant

CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="hiding /dev/fuse takes root"),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="needs FUSE to compare with"),
]


def run(prefix: List[str], *arguments: object) -> Done:
    """``respin`` behind another command."""
    command = [sys.executable, "-m", "respin", *map(str, arguments)]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    wrapped = without_fuse(command) if prefix == ["without FUSE"] else [*prefix, *command]
    done = subprocess.run(
        wrapped, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=CHECKOUT, env=environment, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def build(prefix: List[str], forge: Forge, plugin: Path, output: Path) -> Done:
    """An unsigned build behind another command."""
    options = ["--base", forge.iso, "--base-checksum", forge.checksum, "--trust", forge.keys.trust, "--unsigned"]
    return run(prefix, "build", *options, "--plugin", plugin, "-o", output, "--json")


@pytest.fixture(scope="module")
def served(forge: Forge, good_plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build through FUSE makes."""
    output = tmp_path_factory.mktemp("served") / "out.iso"
    done = build([], forge, good_plugin, output)
    assert done.code == 0, done.err
    return output


def test_a_nested_root_gives_the_same_bytes(served: Path, forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    done = build(["without FUSE"], forge, good_plugin, tmp_path / "out.iso")
    assert done.code == 0, done.err
    assert "Unpacking the root image" in done.err
    assert "/dev/fuse" in done.err
    assert sha256(tmp_path / "out.iso") == sha256(served)
    assert {path.name for path in tmp_path.iterdir()} == {"out.iso", "out.iso.added.cdx.json"}


def test_an_ordinary_user_gets_the_same_bytes(
    served: Path, forge: Forge, good_plugin: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Path("/tmp") / f"respin-without-fuse-{os.getpid()}"
    place.mkdir(mode=0o755)
    try:
        assert sha256(built_by_an_ordinary_user(forge, good_plugin, place, fuse=False)) == sha256(served)
    finally:
        shutil.rmtree(place)


def test_a_flat_root_gives_the_same_bytes(key_world: KeyWorld, stock_iso: Path, tmp_path: Path) -> None:
    stock = flat_variant(stock_iso, tmp_path / "flat", ("-comp", "gzip", "-Xcompression-level", "1"))
    forge = Forge(key_world, stock, tmp_path)
    plugin = forge.plugin("good", files=GOOD_FILES)
    for prefix, name in (([], "served"), (["without FUSE"], "unpacked")):
        done = build(list(prefix), forge, plugin, tmp_path / f"{name}.iso")
        assert done.code == 0, done.err
    assert "Unpacking the root (" in done.err
    assert sha256(tmp_path / "unpacked.iso") == sha256(tmp_path / "served.iso")


def test_a_root_that_has_to_be_grown_gives_the_same_bytes(key_world: KeyWorld, stock_iso: Path, tmp_path: Path) -> None:
    def filled(image: Path) -> None:
        subprocess.run(["e2fsck", "-fy", image], check=True, capture_output=True)
        subprocess.run(["resize2fs", "-M", image], check=True, capture_output=True)

    stock = variant(stock_iso, tmp_path / "full", ("-comp", "gzip", "-Xcompression-level", "1"), filled)
    forge = Forge(key_world, stock, tmp_path)
    plugin = forge.plugin("good", files={**GOOD_FILES, "/usr/share/good/large": "large\n" * 800_000})
    for prefix, name in (([], "served"), (["without FUSE"], "unpacked")):
        done = build(list(prefix), forge, plugin, tmp_path / f"{name}.iso")
        assert done.code == 0, done.err
        assert done.json["grown"] is not None
    assert sha256(tmp_path / "unpacked.iso") == sha256(tmp_path / "served.iso")


def test_a_damaged_image_is_named(respun: Respun, forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    """A block of a file that nobody reads: through FUSE it would be copied, unpacked it shows."""
    damaged = tmp_path / "node.iso"
    shutil.copy(forge.iso, damaged)
    where = subprocess.run(
        ["isoinfo", "-R", "-l", "-i", damaged], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    line = next(line for line in where if line.rstrip().endswith("squashfs.img"))
    extent = int(line.split("[")[1].split()[0])
    with damaged.open("r+b") as stream:
        stream.seek(extent * 2048 + 5_000_000)
        stream.write(b"\xff" * 5000)
    digest = sha256(damaged)
    options = ["--base", damaged, "--base-sha256", digest, "--trust", forge.keys.trust, "--unsigned", "--json"]
    done = run(["without FUSE"], "build", *options, "--plugin", good_plugin, "-o", tmp_path / "out.iso")
    assert done.code == 3, done.err
    assert done.json["error"]["finding"] == "malformed"
    assert not (tmp_path / "out.iso").exists()


def test_doctor_says_which_way_it_goes() -> None:
    through = run([], "doctor", "--json").json
    assert {name: way["fuse"] for name, way in through["ways"].items()} == {"nested": True, "flat": True}
    done = run(["without FUSE"], "doctor", "--json")
    assert done.code == 0, done.err
    assert {name: way["fuse"] for name, way in done.json["ways"].items()} == {"nested": False, "flat": False}
    assert "/dev/fuse" in done.json["ways"]["nested"]["detail"]
    shown = run(["without FUSE"], "doctor").out
    assert "absent" in shown
    assert "This machine can build." in shown


def test_a_container_with_a_covered_proc(forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    covered = ["unshare", "--mount", "sh", "-ec", 'mount --bind /dev/null /proc/version; exec "$@"', "sh"]
    done = build(covered, forge, good_plugin, tmp_path / "out.iso")
    assert done.code == 5, done.err
    assert "unmask=ALL" in done.json["error"]["remedy"]
    assert run(covered, "doctor").code == 5


@pytest.mark.parametrize(
    ("limit", "finding", "says"),
    [
        ("true", "no-subordinate-ids", "has only 1 of the 65535 ids"),
        ("echo 0 >/proc/sys/user/max_user_namespaces", "no-user-namespace", "namespace"),
    ],
)
def test_a_container_that_allows_too_little(
    forge: Forge, good_plugin: Path, tmp_path: Path, limit: str, finding: str, says: str
) -> None:
    """Root in a user namespace with one id, as in a container without subordinate ids, or without namespaces."""
    container = ["unshare", "--user", "--map-root-user", "sh", "-ec", f'{limit}; exec "$@"', "sh"]
    done = build(container, forge, good_plugin, tmp_path / "out.iso")
    assert done.code == 5, done.err
    error = json.loads(done.out)["error"]
    assert error["finding"] == finding
    assert says in error["what"]
    assert error["remedy"]
    assert list(tmp_path.iterdir()) == []
