"""The terminal: results, messages, errors and progress."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Optional, TextIO, cast

from rich.console import Console as RichConsole
from rich.text import Text

from respin.errors import BuildError, RespinError
from respin.progress import Step
from respin.safepath import printable, show

# Of many findings of one kind a person needs the first few; --json has them all.
MOST_LINES = 20


@dataclass(frozen=True)
class Verbosity:
    """How much to say: ``quiet`` silences progress and notes, ``level`` counts the -v."""

    quiet: bool = False
    level: int = 0


class OutputClosedError(Exception):
    """Whoever read standard output does not any more, as in ``respin verify ... | head -1``."""


def make_descriptors() -> None:
    """Open what is closed of standard input, output and error on /dev/null, before any file gets its number."""
    while True:
        number = os.open(os.devnull, os.O_RDWR)
        if number > 2:
            os.close(number)
            break
        os.set_inheritable(number, True)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def guard_output() -> None:
    """Make whoever writes to standard output hear of it when that fails, also those who print help."""
    sys.stdout = cast(TextIO, _Result(sys.stdout))


class _Result:
    """Standard output: a result that nobody gets is a failure."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._lost_is_failed():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._lost_is_failed():
            self._stream.flush()

    def raw(self, data: bytes) -> None:
        """Bytes as they are, behind what was written before."""
        with self._lost_is_failed():
            self._stream.flush()
            self._stream.buffer.write(data)

    @contextmanager
    def _lost_is_failed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _drop(self._stream)
            if isinstance(error, BrokenPipeError):
                raise OutputClosedError from error
            raise BuildError(
                f"the result cannot be written: {error.strerror}",
                where="standard output",
                remedy="send it elsewhere; what the command writes to files is complete",
                finding="cannot-write",
            ) from error


class _Messages:
    """Standard error: messages that nobody gets are no reason to stop."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            _drop(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            _drop(self._stream)


def _drop(stream: TextIO) -> None:
    """Let what is still to be written go nowhere; Python would try again while it closes the stream."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


class Console:
    """Writes results to stdout and everything else to stderr."""

    def __init__(self, *, verbosity: Verbosity, color: Optional[bool] = None, json_output: bool = False) -> None:
        self.verbosity = verbosity
        self.json_output = json_output
        self._stdout = sys.stdout if isinstance(sys.stdout, _Result) else _Result(sys.stdout)
        self._out = _console(self._stdout, color)
        self._err = _console(_Messages(sys.stderr), color)

    def result(self, document: Mapping[str, Any], human: str) -> None:
        """Print a command's result: ``document`` (with its ``schema`` field) under --json, else the text."""
        if self.json_output:
            self._stdout.write(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True) + "\n")
        else:
            self._out.print(_harmless(Text.from_ansi(human) if "\x1b" in human else Text(human)), soft_wrap=True)
        self._stdout.flush()

    def markup(self, document: Mapping[str, Any], text: Text) -> None:
        """Like :meth:`result` with styled text."""
        if self.json_output:
            self.result(document, "")
        else:
            self._out.print(_harmless(text), soft_wrap=True)
            self._stdout.flush()

    def line(self, text: str) -> None:
        """Print one line of a long result as it is; the caller has made names in it harmless (``safepath.show``)."""
        self._stdout.write(text + "\n")

    def raw(self, data: bytes) -> None:
        """Write bytes to stdout as they are: a file's content that was asked for."""
        self._stdout.raw(data)

    def note(self, text: str, *, level: int = 0) -> None:
        """Say something on the side; ``level`` is how many -v it takes to hear it."""
        if not self.verbosity.quiet and self.verbosity.level >= level:
            self._err.print(_harmless(Text(text)), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Say something a person should act on; -q does not silence it."""
        self._err.print(_harmless(Text.assemble(("warning: ", "bold yellow"), text)), soft_wrap=True)

    def error(self, error: RespinError) -> None:
        """Explain a failure: what, where, what to do; under --json also as a document on stdout."""
        if self.json_output:
            document = {"schema": "respin.error/1", "error": describe_error(error)}
            try:
                self._stdout.write(json.dumps(document, indent=2, sort_keys=True) + "\n")
                self._stdout.flush()
            except (OutputClosedError, BuildError):
                pass  # the exit status says it, and the message that follows
        text = Text.assemble(("error: ", "bold red"), (f"{show(error.where)}: " if error.where else ""), error.what)
        text.append(f" [{error.finding}]", style="dim")
        self._err.print(_harmless(text), soft_wrap=True)
        for line in error.also[:MOST_LINES]:
            self._err.print(_harmless(Text(f"  also: {line}")), soft_wrap=True)
        if len(error.also) > MOST_LINES:
            self._err.print(Text(f"  and {len(error.also) - MOST_LINES} more"), soft_wrap=True)
        if error.remedy:
            self._err.print(_harmless(Text.assemble(("  what to do: ", "bold"), error.remedy)), soft_wrap=True)

    @contextmanager
    def step(self, title: str, total: Optional[int] = None) -> Iterator[Step]:
        """Show one step of the work; on a terminal as a bar, elsewhere as a line when it is done."""
        started = time.monotonic()
        if self.verbosity.quiet:
            yield _Quiet()
            return
        if self._err.is_terminal:
            from respin.report.bars import bar

            with bar(self._err, show(title), total) as step:
                yield step
        else:
            yield _Quiet()
        done = _harmless(Text(f"  {title}: {time.monotonic() - started:.1f} s"))
        self._err.print(done, soft_wrap=True, style="dim")


class _Quiet:
    def advance(self, amount: int) -> None:
        pass


def _harmless(text: Text) -> Text:
    """``text`` with nothing in it that a terminal obeys, whoever let a name from outside into it; styles stay."""
    text.plain = "".join(c if c in "\n\t" or printable(c) else "\N{REPLACEMENT CHARACTER}" for c in text.plain)
    return text


def describe_error(error: RespinError) -> Mapping[str, Any]:
    """An error as plain data."""
    return {
        "finding": error.finding,
        "exit_code": error.exit_code,
        "what": error.what,
        "where": error.where,
        "remedy": error.remedy,
        "also": list(error.also),
    }


def _console(stream: Any, color: Optional[bool]) -> RichConsole:
    return RichConsole(
        file=stream,
        force_terminal=True if color else None,
        no_color=True if color is False else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
