"""Fixtures of the tests of several modules together."""

from __future__ import annotations

import pytest

from tests.support.keys import KeyWorld
from tests.support.roots import SharedNode, build_root, pack


@pytest.fixture(scope="session")
def shared_node(key_world: KeyWorld, tmp_path_factory: pytest.TempPathFactory) -> SharedNode:
    """A small root as a directory and packed."""
    root = build_root(tmp_path_factory.mktemp("root") / "root", key_world)
    return root, pack(tmp_path_factory.mktemp("node"), root)
