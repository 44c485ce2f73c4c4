"""SIGKILL at random moments: nothing runs on, nothing is mounted, no temporary file stays, no output is half there.

The moments are drawn (by a seed) from the time that the command took without being killed. The ordinary tests draw a
few, the slow ones many.
"""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.support.faults import Ended, Stage
from tests.support.forge import Forge, respin


def clean(ended: Ended) -> None:
    """Whatever became of the outputs, this holds."""
    assert ended.survivors == []
    assert (ended.left["tmp"], ended.left["other"]) == ({}, {})
    assert ended.code in (0, -signal.SIGKILL), ended.err


class Build:
    """Builds over an existing output and kills them."""

    def __init__(self, forge: Forge, plugin: Path, path: Path) -> None:
        self._path, self._count = path, 0
        self._line = ["build", "--base", forge.iso, "--base-checksum", forge.checksum, "--trust", forge.keys.trust]
        self._line += ["--plugin", plugin, "--force", "-q"]
        self._line += ["--sign-key", forge.keys.fingerprints["respin"], "--gnupg-home", forge.keys.gnupg_home]
        self._old = path / "old"
        self._old.write_text("what was there before\n")
        self._forge = forge

    def run(self, seconds: float) -> Ended:
        """Kill a build so many seconds after its start; 0: don't."""
        self._count += 1
        stage = Stage(self._path / f"stage{self._count}")
        for name in ("out.iso", "out.iso.CHECKSUM"):
            (stage.out / name).write_bytes(self._old.read_bytes())
        ended = stage.run(*self._line, "-o", stage.out / "out.iso", kill_after=seconds or None)
        clean(ended)
        old = sha256(self._old)
        if ended.left["out"] != {"out.iso": old, "out.iso.CHECKSUM": old}:
            assert len(ended.left["out"]) == 4, ended.left["out"]
            assert ended.left["out"]["out.iso"] in (stage.out / "out.iso.CHECKSUM").read_text()
            assert self._forge.verify(stage.out / "out.iso", base=None).code == 0
            assert ended.code == 0 or seconds > 0
        else:
            assert ended.code != 0, "it said that all was well"
        for file in stage.out.iterdir():
            file.unlink()
        return ended


def moments(seed: int, count: int, seconds: float) -> List[float]:
    """Random moments of a run; a little beyond its end, because a run is sometimes slower."""
    chosen = random.Random(seed)
    return [chosen.uniform(0.01, 1.05 * seconds) for _ in range(count)]


def test_builds_killed_at_some_moments(forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    build = Build(forge, good_plugin, tmp_path)
    seconds = build.run(0).seconds
    for moment in moments(1, 4, seconds):
        build.run(moment)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_builds_killed_at_twenty_moments(forge: Forge, good_plugin: Path, tmp_path: Path, seed: int) -> None:
    build = Build(forge, good_plugin, tmp_path)
    seconds = build.run(0).seconds
    killed = [build.run(moment).code for moment in moments(seed, 20, seconds)]
    assert killed.count(-signal.SIGKILL) >= 15, "the moments lie within the run"


def sign_and_kill(forge: Forge, respun: Respun, path: Path, seed: int, count: int) -> "Dict[str, int]":
    """Kill `sign` at random moments; how often the ISO was as before and how often it was signed."""
    found = {"as before": 0, "signed": 0}
    keys = forge.keys
    before = sha256(respun.iso)
    times: Tuple[float, ...] = (0.0,)
    for number in range(count + 1):
        stage = Stage(path / f"stage{number}")
        for source in respun.iso.parent.glob("respun.iso*"):
            (stage.out / source.name).write_bytes(source.read_bytes())
        iso = stage.out / respun.iso.name
        line = ["sign", iso, "--key", keys.fingerprints["plugin"], "--gnupg-home", keys.gnupg_home]
        ended = stage.run(*line, "-q", kill_after=times[number] or None)
        clean(ended)
        if number == 0:
            assert ended.code == 0
            times = (0.0, *moments(seed, count, ended.seconds))
        state = "as before" if ended.left["out"][iso.name] == before else "signed"
        found[state] += 1
        assert forge.verify(iso, base=None).code == 0, "the maker's signature is there and counts"
        again = respin(*line)
        assert again.code == 0, again.err
        assert f"= {sha256(iso)}\n" in (stage.out / f"{iso.name}.CHECKSUM").read_text(), "signing again completes it"
        for file in stage.out.iterdir():
            file.unlink()
    return found


def test_signing_killed_at_some_moments(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    assert sign_and_kill(forge, respun, tmp_path, 2, 3)["signed"] >= 1, "the one that was not killed"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_signing_killed_at_twenty_moments(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    found = sign_and_kill(forge, respun, tmp_path, 21, 20)
    assert found["as before"] >= 5
    assert found["signed"] >= 1


def restore_and_kill(forge: Forge, respun: Respun, path: Path, seed: int, count: int) -> None:
    """Kill `restore` at random moments: the vendor's ISO, or what was there before."""
    times: Tuple[float, ...] = (0.0,)
    stock = sha256(forge.iso)
    for number in range(count + 1):
        stage = Stage(path / f"stage{number}")
        (stage.out / "stock.iso").write_text("what was there before\n")
        before = sha256(stage.out / "stock.iso")
        line = ["restore", respun.iso, "-o", stage.out / "stock.iso", "--force", "-q"]
        ended = stage.run(*line, kill_after=times[number] or None)
        clean(ended)
        if number == 0:
            times = (0.0, *moments(seed, count, ended.seconds))
        assert ended.left["out"] in ({"stock.iso": stock}, {"stock.iso": before})
        assert ended.code != 0 or ended.left["out"] == {"stock.iso": stock}
        (stage.out / "stock.iso").unlink()


def test_restoring_killed_at_some_moments(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    restore_and_kill(forge, respun, tmp_path, 3, 3)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_restoring_killed_at_twenty_moments(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    restore_and_kill(forge, respun, tmp_path, 31, 20)
