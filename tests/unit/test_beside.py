"""A function in a process of its own: what comes back, what is raised, and that it never outlives its maker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Dict

import pytest

from respin.errors import BuildError, MalformedError, RespinError
from respin.node.beside import Beside

CHECKOUT = Path(__file__).resolve().parents[2]
MAKER = """
import os, sys, time
from contextlib import ExitStack
from respin.node.beside import Beside
def forever():
    print(os.getpid(), flush=True)
    time.sleep(1000)
with ExitStack() as stack:
    Beside(forever, stack, [1])
    time.sleep(1000)
"""


def result(function: Callable[[], object], *keep: int) -> object:
    with ExitStack() as stack:
        return Beside(function, stack, keep).result()


def test_what_the_function_returns_comes_back() -> None:
    value: Dict[str, object] = {"numbers": list(range(100_000)), "pid": 0}
    assert result(lambda: value) == value
    assert result(os.getpid) != os.getpid()


def test_what_it_raises_is_raised() -> None:
    def refuse() -> None:
        raise MalformedError("it is broken", where="the image", remedy="mend it", finding="broken")

    with pytest.raises(MalformedError, match="it is broken") as caught:
        result(refuse)
    assert (caught.value.where, caught.value.remedy, caught.value.finding) == ("the image", "mend it", "broken")

    def fail() -> None:
        raise FileNotFoundError(2, "gone", "/some/file")

    with pytest.raises(FileNotFoundError) as lost:
        result(fail)
    assert lost.value.filename == "/some/file"


def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(BuildError, match="status -9"):
        result(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_it_has_the_descriptors_that_it_may_use_and_no_other(tmp_path: Path) -> None:
    with (tmp_path / "one").open("w") as one, (tmp_path / "two").open("w") as two:

        def use() -> bool:
            os.write(one.fileno(), b"text")
            try:
                os.fstat(two.fileno())
            except OSError:
                return False
            return True

        assert result(use, one.fileno()) is False
    assert (tmp_path / "one").read_text() == "text"


def test_it_ends_with_the_stack() -> None:
    with ExitStack() as stack:
        running: Beside[None] = Beside(lambda: time.sleep(1000), stack, [])
        assert not running.is_done
        pid = running._pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_its_maker(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", MAKER], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=-3) as maker:
        assert maker.stdout is not None
        pid = int(maker.stdout.readline())
        maker.send_signal(number)
        maker.wait(30)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except FileNotFoundError:
                return
            if state == "Z":
                return
            time.sleep(0.05)
    raise AssertionError(f"process {pid} is still there")


def test_an_interrupt_is_for_its_maker_only() -> None:
    def interrupted() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "went on"

    assert result(interrupted) == "went on"


def test_errors_of_this_package_survive_the_way_back() -> None:
    """They are sent by pickle: every attribute must come through."""
    for kind in RespinError.__subclasses__():

        def fail(kind: "type[RespinError]" = kind) -> None:
            raise kind("what", where="where", also=["more"])

        with pytest.raises(kind) as caught:
            result(fail)
        assert (caught.value.where, caught.value.also) == ("where", ("more",))
