"""A Node whose ext image is full: grown by the build, said, recorded, verified, taken back; tampering is refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from respin.errors import MalformedError
from respin.provenance import statement
from tests.end_to_end.conftest import GOOD_FILES, sha256
from tests.support.attacker import Forgery, evil_build
from tests.support.forge import Forge, respin
from tests.support.images import nested_image, run
from tests.support.keys import KeyWorld
from tests.support.variants import variant

PACK = ("-comp", "gzip", "-Xcompression-level", "1")


@dataclass(frozen=True)
class World:
    """The full stock ISO, the plugin, the respun ISO, what the build said, and what made them."""

    stock: Path
    plugin: Path
    output: Path
    document: Dict[str, Any]
    forge: Forge


def filled(image: Path) -> None:
    """Shrink the file system until it is full, as some vendors ship theirs."""
    run("e2fsck", "-fy", image)
    run("resize2fs", "-M", image)


@pytest.fixture(scope="module")
def world(key_world: KeyWorld, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """One respin for all tests."""
    tmp = tmp_path_factory.mktemp("growth")
    stock = variant(stock_iso, tmp, PACK, filled)
    forge = Forge(key_world, stock, tmp)
    files = {**GOOD_FILES, "/usr/share/good/large": "a large file\n" * 500_000}
    plugin = forge.plugin("good", files=files)
    done = forge.build(tmp / "out.iso", plugin, json=True)
    assert done.code == 0, done.err
    return World(stock, plugin, tmp / "out.iso", done.json, forge)


def test_it_is_said_and_recorded(world: World, tmp_path: Path) -> None:
    vendors, new = (nested_image(iso, tmp_path / str(n)) for n, iso in enumerate((world.stock, world.output)))
    sizes = {"old_size": vendors.stat().st_size, "new_size": new.stat().st_size}
    assert sizes["new_size"] > sizes["old_size"]
    assert world.document["grown"] == sizes
    assert world.document["verification"]["grown"] == sizes
    assert statement_of(world.output)["predicate"]["respin_grown"] == sizes
    inspected = respin("inspect", world.output, "--json")
    assert inspected.json["provenance"]["grown"] == sizes
    run("e2fsck", "-fn", new)
    assert run("debugfs", "-R", "cat /usr/share/good/large", new) == b"a large file\n" * 500_000


def test_people_are_told(world: World, tmp_path: Path) -> None:
    done = world.forge.build(tmp_path / "out.iso", world.plugin)
    assert done.code == 0, done.err
    assert re.search(r"was grown from [0-9.]+ MiB to [0-9.]+ MiB", done.out)
    assert "Growing the root image" in done.err
    shown = respin("inspect", world.output)
    assert "grown from" in shown.out


def test_verify_restore_and_reproduce_hold(world: World, tmp_path: Path) -> None:
    for base in (world.stock, None):
        verified = world.forge.verify(world.output, base=base)
        assert verified.code == 0, verified.err
        assert verified.json["complete"] is True
        assert verified.json["grown"] == world.document["grown"]
    restored = respin("restore", world.output, "-o", tmp_path / "stock.iso")
    assert restored.code == 0, restored.err
    assert sha256(tmp_path / "stock.iso") == sha256(world.stock)
    again = respin("reproduce", world.output, "--plugin", world.plugin, "--trust", world.forge.keys.trust, "--json")
    assert again.code == 0, again.err
    assert again.json["reproduced"] is True


def test_a_respun_iso_is_a_base_again(world: World, tmp_path: Path) -> None:
    """The vendor's small image is what it starts from; nothing grows twice."""
    done = world.forge.build(tmp_path / "again.iso", world.plugin, base=world.output, json=True)
    assert done.code == 0, done.err
    assert done.json["grown"] == world.document["grown"]


def test_most_of_the_image_is_reused(world: World) -> None:
    counters = world.document["counters"]
    assert counters["root_blocks_reused"] > 0.7 * counters["root_blocks_stored"]


def test_diff_shows_the_files_only(world: World) -> None:
    done = respin("diff", world.stock, world.output, "--json")
    assert done.code == 1, done.err
    names = {one["name"] for one in done.json["sections"]["files"]["differences"]}
    assert "/usr/share/good/large" in names
    assert not [name for name in names if name.startswith(("/usr/bin/", "/usr/sbin/"))]


def test_growing_can_be_forbidden(world: World, tmp_path: Path) -> None:
    done = world.forge.build(tmp_path / "out.iso", world.plugin, no_grow=True)
    assert done.code == 6
    assert "no-space-in-root" in done.err
    assert list(tmp_path.iterdir()) == []


def statement_of(iso: Path) -> Dict[str, Any]:
    """The statement, found by isoinfo."""
    document: Dict[str, Any] = json.loads(run("isoinfo", "-i", iso, "-R", "-x", "/respin.json"))
    return document


ATTACKS: Dict[str, List[str]] = {
    "an orphan to be deleted at the next mount": ["ssv last_orphan 20"],
    "other options for every mount": ["ssv default_mount_opts 0x0"],
    "another journal": ["ssv journal_inum 15"],
    "all that is free reserved for root": ["ssv r_blocks_count 9000"],
    "fewer blocks than the image has": ["ssv blocks_count 60000"],
}


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_other_changes_of_a_grown_superblock_are_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    output = evil_build(world.forge, world.plugin, tmp_path / "evil.iso", ATTACKS[attack], monkeypatch)
    verified = world.forge.verify(output)
    assert verified.code == 3, attack
    assert verified.json["error"]["finding"] == "not-the-vendors"


@pytest.mark.parametrize("more", [None, {"old_size": -4096}, {"new_size": 4096}, {"old_size": 4096, "new_size": 4096}])
def test_a_statement_must_say_how_far_it_was_grown(
    world: World, tmp_path: Path, more: Optional[Dict[str, int]]
) -> None:
    forgery = Forgery(world.output, tmp_path / "forged.iso", world.forge.keys)
    document = json.loads(forgery.read("/respin.json"))
    sizes = document["predicate"].pop("respin_grown")
    if more is None:
        document["predicate"]["respin_nothing"] = "x" * (len(json.dumps(sizes, separators=(",", ":"))) - 4)
    else:
        document["predicate"]["respin_grown"] = {name: size + more.get(name, 0) for name, size in sizes.items()}
    forgery.write("/respin.json", json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    verified = world.forge.verify(forgery.finish())
    assert verified.code == 3, more
    assert verified.json["error"]["finding"] in ("undeclared-change", "root-image")


def test_a_growth_that_is_none_is_malformed(world: World) -> None:
    raw = run("isoinfo", "-i", world.output, "-R", "-x", "/respin.json")
    document = json.loads(raw)
    statement.parse(raw, where="good")
    for sizes in ({"old_size": 9, "new_size": 9}, {"old_size": 9, "new_size": 8}, {"old_size": 1}):
        document["predicate"]["respin_grown"] = sizes
        bad = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        with pytest.raises(MalformedError):
            statement.parse(bad, where="bad")
