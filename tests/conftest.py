"""Fixtures that several parts of the tests share; each world is built once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Generator, Iterator, Set

import pytest

from tests.support.keys import KeyWorld

_OWNED: Set[Path] = set()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Directories that a fixture makes go with it: at its end a run would else hold tens of gigabytes of ISOs."""
    if "tmp_path_factory" not in fixturedef.argnames or fixturedef.argname == "tmp_path":
        return (yield)
    base: Path = request.getfixturevalue("tmp_path_factory").getbasetemp()
    before, made = set(base.iterdir()), set()

    def remove() -> None:
        for directory in made:
            shutil.rmtree(directory, ignore_errors=True)

    fixturedef.addfinalizer(remove)  # the first to be added is the last to run: after the fixture's own end
    try:
        return (yield)
    finally:
        made |= set(base.iterdir()) - before - _OWNED  # without those of fixtures that were set up within this one
        _OWNED.update(made)


@pytest.fixture(scope="session")
def key_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyWorld]:
    """Throw-away keys of every role and fault, a trust store of them, and tools that sign with them."""
    world = KeyWorld(tmp_path_factory.mktemp("keys"))
    yield world
    world.close()
