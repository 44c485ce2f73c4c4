"""A recipe builds what its options would, and says which key is wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.end_to_end.conftest import Respun
from tests.support.forge import Done, Forge, respin


@pytest.fixture
def recipe(forge: Forge, respun: Respun, tmp_path: Path) -> Dict[str, Any]:
    """A recipe whose paths count from its own directory, where links lead to the files."""
    for name, target in (("base", forge.iso), ("plugin", respun.plugin)):
        (tmp_path / name).mkdir()
        (tmp_path / name / target.name).symlink_to(target)
    return {
        "schema": 1,
        "base": f"base/{forge.iso.name}",
        "base_checksum": str(forge.checksum),
        "plugins": [f"plugin/{respun.plugin.name}"],
        "trust": str(forge.keys.trust),
        "unsigned": True,
        "output": "out.iso",
    }


def build(tmp_path: Path, recipe: Dict[str, Any], *arguments: object) -> Done:
    path = tmp_path / "respin.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in recipe.items()))
    return respin("build", path, *arguments, cwd=Path("/"))


def test_a_recipe_builds_what_its_options_would(
    recipe: Dict[str, Any], forge: Forge, respun: Respun, tmp_path: Path
) -> None:
    done = build(tmp_path, recipe)
    assert done.code == 0, done.err
    same = forge.build(tmp_path / "same.iso", respun.plugin, sign_key=None, gnupg_home=None, unsigned=True)
    assert same.code == 0, same.err
    digests = [hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("out.iso", "same.iso")]
    assert digests[0] == digests[1]


def test_the_command_line_counts_where_both_say_something(recipe: Dict[str, Any], tmp_path: Path) -> None:
    missing = {**recipe, "base": "nowhere.iso"}
    assert build(tmp_path, missing).code == 2
    done = build(tmp_path, missing, "--base", tmp_path / recipe["base"], "-o", tmp_path / "other.iso")
    assert done.code == 0, done.err
    assert (tmp_path / "other.iso").exists()
    assert not (tmp_path / "out.iso").exists()


def test_naming_an_alternative_takes_back_what_the_recipe_says(
    recipe: Dict[str, Any], forge: Forge, tmp_path: Path
) -> None:
    signed = {**recipe, "sign_key": forge.keys.fingerprints["respin"], "gnupg_home": str(forge.keys.gnupg_home)}
    del signed["unsigned"]
    done = build(tmp_path, signed, "--unsigned", "--json")
    assert (done.code, done.json["verification"]["signer"]) == (0, None), done.err
    digest = hashlib.sha256(forge.iso.read_bytes()).hexdigest()
    signing = ("--sign-key", signed["sign_key"], "--gnupg-home", signed["gnupg_home"])
    done = build(tmp_path, recipe, *signing, "--base-sha256", digest, "--force", "--json")
    assert done.code == 0, done.err
    assert done.json["verification"]["signer"] is not None
    assert done.json["verification"]["base"]["verified"] == "pinned"
    for both in (("--unsigned", *signing), ("--base-sha256", digest, "--base-checksum", forge.checksum)):
        assert build(tmp_path, recipe, *both, "--force").code == 2, "on the command line, both cannot be meant"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"revision": 0}, "revision"),
        ({"schema": 2}, "schema"),
        ({"plugin": ["x"]}, "plugin"),
        ({"plugins": "x"}, "plugins"),
        ({"grow": 1}, "grow"),
        ({"base": 7}, "base"),
    ],
)
def test_a_key_that_is_wrong_is_named(
    recipe: Dict[str, Any], tmp_path: Path, change: Dict[str, Any], said: str
) -> None:
    done = build(tmp_path, {**recipe, **change})
    assert done.code == 2
    assert said in done.err
    assert "bad-recipe" in done.err
    assert not (tmp_path / "out.iso").exists()


def test_what_is_no_recipe_is_refused(forge: Forge, tmp_path: Path) -> None:
    for content in (b"= no TOML", b"\xff\xfe"):
        path = tmp_path / "broken.toml"
        path.write_bytes(content)
        assert respin("build", path).code == 2
    assert respin("build", tmp_path / "missing.toml").code == 2
