"""Old things that are validly signed: Nodes and plugins below the minimum, a trust store past its end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable

import pytest

from tests.end_to_end.conftest import Respun
from tests.support.forge import Done, Forge, respin

Store = Callable[[str], Path]


@pytest.fixture
def store(forge: Forge, tmp_path: Path) -> Store:
    """Makes a trust store with something in front of its keys."""

    def make(text: str) -> Path:
        path = forge.keys.make_store(tmp_path / "trust", {role: [role] for role in ("base", "plugin", "rpm", "respin")})
        policy = path / "policy.toml"
        policy.write_text(policy.read_text().replace("version = 1", f"version = 1\n{text}", 1))
        return path

    return make


def refused(done: Done, code: int, finding: str) -> None:
    assert (done.code, done.json["error"]["finding"]) == (code, finding), done.out + done.err


def test_a_node_below_the_minimum(
    forge: Forge, respun: Respun, good_plugin: Path, store: Store, tmp_path: Path
) -> None:
    """Replay of an older ISO: everything in it is as it was signed."""
    trust = store('[minimum.node.example-node]\nversion = "1.0"\nrelease = "99"\n')
    refused(forge.verify(respun.iso, base=None, trust=trust), 4, "too-old")
    refused(forge.build(tmp_path / "out.iso", good_plugin, trust=trust, json=True), 4, "too-old")
    assert not (tmp_path / "out.iso").exists()


def test_a_plugin_below_the_minimum(
    forge: Forge, respun: Respun, good_plugin: Path, store: Store, tmp_path: Path
) -> None:
    trust = store('[minimum.plugin.good]\nversion = "1"\nrelease = "2"\n')
    refused(forge.verify(respun.iso, base=None, trust=trust), 4, "too-old")
    refused(forge.build(tmp_path / "out.iso", good_plugin, trust=trust, json=True), 4, "too-old")
    refused(respin("bundle", "verify", good_plugin, "--trust", trust, "--json"), 4, "too-old")


def test_what_is_not_below_it(forge: Forge, respun: Respun, store: Store) -> None:
    minimum = '[minimum.node.example-node]\nversion = "1.0"\n[minimum.plugin.good]\nversion = "1"\nrelease = "1"\n'
    document = forge.verify(respun.iso, base=None, trust=store("expires = 2999-12-31\n" + minimum)).json
    assert document["complete"] is True
    assert document["trust"]["expires"] == "2999-12-31T00:00:00Z"
    assert document["trust"]["judged_at"] is None


def test_a_trust_store_past_its_end(
    forge: Forge, respun: Respun, good_plugin: Path, store: Store, tmp_path: Path
) -> None:
    tomorrow = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86_400))
    trust = store(f"expires = {tomorrow}\n")
    assert forge.verify(respun.iso, base=None, trust=trust).code == 0
    refused(forge.verify(respun.iso, base=None, trust=trust, at=tomorrow), 3, "trust-expired")
    policy = trust / "policy.toml"
    policy.write_text(policy.read_text().replace(tomorrow, time.strftime("%Y-%m-%d", time.gmtime())))
    refused(forge.verify(respun.iso, base=None, trust=trust), 3, "trust-expired")
    refused(forge.build(tmp_path / "out.iso", good_plugin, trust=trust, json=True), 3, "trust-expired")
    refused(respin("bundle", "verify", good_plugin, "--trust", trust, "--json"), 3, "trust-expired")


def test_a_later_time(forge: Forge, respun: Respun) -> None:
    """The test keys have no end, so what holds now holds then."""
    done = forge.verify(respun.iso, base=None, at="2037-01-01T12:00:00Z")
    assert done.code == 0, done.err
    assert done.json["trust"]["judged_at"] == "2037-01-01T12:00:00Z"


@pytest.mark.parametrize("at", ["2020-01-01", "the day of signing"])
def test_an_earlier_time(forge: Forge, respun: Respun, at: str) -> None:
    """Nobody is accused of having changed what was only signed later."""
    signed = forge.verify(respun.iso, base=None).json["signatures"][0]["signed_at"]
    if at == "the day of signing":
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(signed - 1))
    refused(forge.verify(respun.iso, base=None, at=at), 3, "future")


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "1790000000", "2026-01-01 10:00"])
def test_what_is_no_time(forge: Forge, respun: Respun, text: str) -> None:
    assert forge.verify(respun.iso, base=None, at=text).code == 2
