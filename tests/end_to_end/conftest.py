"""The valid world of the end-to-end tests: the example Node, a good plugin, and a respin of both. Built once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping

import pytest

from tests.support.attacker import Forgery
from tests.support.forge import Forge
from tests.support.images import nested_image
from tests.support.keys import KeyWorld
from tests.support.quickstart import ExampleNode, example_node

__all__ = ["example_node"]

ROOM = 256

GOOD_FILES = {
    "/usr/share/good/data": "good data\n" * 1000,
    "/etc/good/good.conf": "# good\n",
    "/usr/libexec/good/tool": "#!/bin/sh\necho good\n",
}


@dataclass(frozen=True)
class Respun:
    """A good respin: what went in, what came out, the document that the build printed, the plugin's files."""

    plugin: Path
    iso: Path
    document: Dict[str, Any]
    files: Mapping[str, str]


@pytest.fixture(scope="session")
def stock_iso(request: pytest.FixtureRequest) -> Path:
    """The stock example Node; RESPIN_EXAMPLE_NODE names one that is there already."""
    named = os.environ.get("RESPIN_EXAMPLE_NODE")
    if named:
        return Path(named)
    node: ExampleNode = request.getfixturevalue("example_node")
    return node.iso


@pytest.fixture(scope="session")
def forge(key_world: KeyWorld, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Forge:
    """Makes plugins for the stock example Node."""
    return Forge(key_world, stock_iso, tmp_path_factory.mktemp("forge"))


@pytest.fixture(scope="session")
def respun(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Respun:
    """The good plugin on the stock Node. What pads its restore map gives an attacker room to add to it."""
    tmp = tmp_path_factory.mktemp("respun")
    for places in ((), ("/usr/lib",), ("/var/lib",), ("/usr/lib", "/var/lib"), ("/usr/bin",)):
        # In another directory of the vendor's, which lies in another compressed block: another original to keep.
        files = {**GOOD_FILES, **{f"{place}/good-room": "room\n" for place in places}}
        plugin = _good_plugin(forge, files)
        done = forge.build(tmp / "respun.iso", plugin, json=True, force=True)
        assert done.code == 0, done.err
        if Forgery(tmp / "respun.iso", tmp / "unused", forge.keys).room() >= ROOM:
            return Respun(plugin, tmp / "respun.iso", done.json, files)
    raise AssertionError(f"no restore map with {ROOM} bytes to spare")


@pytest.fixture(scope="session")
def good_plugin(respun: Respun) -> Path:
    """A plugin that does nothing wrong: files, a user made in %pre, a scriptlet that looks around."""
    return respun.plugin


def _good_plugin(forge: Forge, files: Mapping[str, str]) -> Path:
    return forge.plugin(
        "good",
        files=files,
        sections='%pre\nuseradd -r -M -s /usr/sbin/nologin good\n%post\ntest "$(uname -r)" != ""\n',
        effects='users = ["good"]\ngroups = ["good"]',
    )


@pytest.fixture(scope="session")
def installed(respun: Respun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the respun Node as an installer copies it, made without respin's readers."""
    directory = tmp_path_factory.mktemp("installed")
    image, mount = nested_image(respun.iso, directory), directory / "mnt"
    mount.mkdir()
    mounted = subprocess.run(["fuse2fs", image, mount, "-o", "ro"], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.strip()}")
    try:
        subprocess.run(["cp", "-a", mount, directory / "root"], check=True)
    finally:
        subprocess.run(["umount", mount], check=True)
    shutil.rmtree(directory / "nested")
    return directory / "root"


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
