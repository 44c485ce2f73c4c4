"""What all commands share: the options that work everywhere, the session object, the way from error to exit status."""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path
from typing import Any, Callable, List, Optional, TypeVar

import click

from respin.errors import BuildError, RespinError, UsageError
from respin.report.console import Console, OutputClosedError, Verbosity
from respin.scratch import NO_SPACE

F = TypeVar("F", bound=Callable[..., Any])

# A group without a command: its help, which click before 8.2 prints itself.
_NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())


class Session:
    """What a command gets beside its own options: the console and the place for temporary files."""

    def __init__(self) -> None:
        self.verbose = 0
        self.quiet = False
        self.color: Optional[bool] = _color_from_environment()
        self.json_output = False
        self.tmpdir: Optional[Path] = None

    @property
    def console(self) -> Console:
        """The console, as the options asked for it."""
        return Console(verbosity=Verbosity(self.quiet, self.verbose), color=self.color, json_output=self.json_output)

    def take(self, options: "dict[str, Any]") -> None:
        """Take the common options out of a command's parameters; given twice (group and command), the inner counts."""
        self.verbose = max(self.verbose, options.pop("verbose", None) or 0)
        self.quiet = bool(options.pop("quiet", None)) or self.quiet
        color, tmpdir = options.pop("color", None), options.pop("tmpdir", None)
        self.color = self.color if color is None else color
        self.tmpdir = self.tmpdir if tmpdir is None else tmpdir
        self.json_output = bool(options.get("json_output")) or self.json_output


def _common_parameters() -> List[click.Parameter]:
    return [
        click.Option(["-v", "--verbose"], count=True, help="Say more; -vv says most."),
        click.Option(["-q", "--quiet"], is_flag=True, help="No progress and notes."),
        click.Option(["--color/--no-color"], default=None, help="Force or forbid colour."),
        click.Option(["--tmpdir"], type=click.Path(path_type=Path), help="Where temporary files go.", metavar="DIR"),
    ]


class Command(click.Command):
    """A command that understands the options which work everywhere."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.params.extend(_common_parameters())

    def invoke(self, ctx: click.Context) -> Any:
        ctx.find_object(Session).take(ctx.params)  # type: ignore[union-attr]
        return super().invoke(ctx)


class Group(click.Group):
    """A group of such commands; the common options may also stand before the command's name."""

    command_class = Command

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.params.extend(_common_parameters())

    def invoke(self, ctx: click.Context) -> Any:
        ctx.find_object(Session).take(ctx.params)  # type: ignore[union-attr]
        return super().invoke(ctx)


Group.group_class = Group


def json_option(function: F) -> F:
    """``--json``: the parameter is called ``json_output``."""
    return click.option("--json", "json_output", is_flag=True, help="Print one JSON document.")(function)


def trust_option(function: F) -> F:
    """``--trust DIR`` with its documented defaults; the parameter is called ``trust``."""
    return click.option(
        "--trust",
        type=click.Path(path_type=Path),
        callback=lambda ctx, parameter, value: value or _default_trust(),
        metavar="DIR",
        help="The trust store (default: $RESPIN_TRUST, $XDG_CONFIG_HOME/respin/trust, /etc/respin/trust).",
    )(function)


def gnupg_home_option(function: F) -> F:
    """``--gnupg-home DIR``, by default ``$GNUPGHOME``; the parameter is called ``gnupg_home``."""
    return click.option(
        "--gnupg-home",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="GnuPG home with the secret key (default: $GNUPGHOME).",
    )(function)


def gnupg_home_of(given: Optional[Path], *, wanted: bool) -> Optional[Path]:
    """The home that was ``given``, else the environment's if one is ``wanted``; never ~/.gnupg by itself."""
    named = os.environ.get("GNUPGHOME") if wanted else None
    return given or (Path(named) if named else None)


def claim_options(checksum: str, sha256: str) -> Callable[[F], F]:
    """``--base-checksum CHECKSUM`` and ``--base-sha256 HEX`` with these texts of help."""
    path = click.Path(path_type=Path)
    first = click.option("--base-checksum", type=path, metavar="CHECKSUM", help=checksum)
    second = click.option("--base-sha256", metavar="HEX", help=sha256)
    return lambda function: first(second(function))


def force_option(function: F) -> F:
    """``--force``: overwrite an existing output."""
    return click.option("--force", is_flag=True, help="Overwrite an existing output.")(function)


def _default_trust() -> Path:
    named = os.environ.get("RESPIN_TRUST")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.environ.get("HOME", "/nonexistent"), ".config")
    own = Path(home) / "respin" / "trust"
    return own if own.is_dir() else Path("/etc/respin/trust")


def _color_from_environment() -> Optional[bool]:
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def report_failure(session: Session, error: BaseException) -> int:
    """Say what went wrong and return the exit status for it."""
    console = session.console
    if isinstance(error, OutputClosedError):
        return BuildError.exit_code  # whoever read our output has gone, and knows
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        console.warn("interrupted; nothing half-done was left behind")
        return 130
    if isinstance(error, _NO_ARGUMENTS):
        click.echo(str(error), err=True)
        return UsageError.exit_code
    if isinstance(error, click.ClickException):
        console.error(UsageError(error.format_message(), remedy=_usage_hint(error)))
        return UsageError.exit_code
    if session.verbose >= 2:
        console.note("".join(traceback.format_exception(type(error), error, error.__traceback__)), level=2)
    if isinstance(error, OSError):
        error = _explain_os_error(error)
    if isinstance(error, MemoryError):
        error = BuildError("there is not enough memory for this", finding="no-memory")
    if not isinstance(error, RespinError):
        error = RespinError(
            f"respin ran into a bug: {type(error).__name__}: {error}",
            remedy="please report it with the output of the same command with -vv",
        )
    console.error(error)
    return error.exit_code


def _usage_hint(error: click.ClickException) -> Optional[str]:
    context = getattr(error, "ctx", None)
    return f"see `{context.command_path} -h`" if context is not None else None


def _explain_os_error(error: OSError) -> RespinError:
    where = str(error.filename) if error.filename is not None else None
    if error.errno in (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG):
        return UsageError(f"cannot open it: {error.strerror}", where=where, remedy="check the name and the permissions")
    if error.errno in NO_SPACE:
        return BuildError(
            f"there is no room: {error.strerror}",
            where=where,
            remedy="free some space, or use --tmpdir",
            finding="no-space",
        )
    if error.errno == errno.EROFS:
        return BuildError(
            f"cannot write: {error.strerror}", where=where, remedy="write to another place", finding="cannot-write"
        )
    return BuildError(
        f"the operating system says: {error.strerror or error}",
        where=where,
        remedy="the system's log may say more; a medium that fails is best copied first",
        finding="system-error",
    )
