"""Fixtures that several parts of the tests share; each world is built once."""

from __future__ import annotations

from typing import Iterator

import pytest

from tests.support.keys import KeyWorld


@pytest.fixture(scope="session")
def key_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyWorld]:
    """Throw-away keys of every role and fault, a trust store of them, and tools that sign with them."""
    world = KeyWorld(tmp_path_factory.mktemp("keys"))
    yield world
    world.close()
