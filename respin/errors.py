"""Errors, grouped by whose fault they are; the class decides the exit code.

Every error says what is wrong, where (file, path inside it, offset) and what to do about it. Code that raises one
never prints and never exits; :mod:`respin.cli` turns it into a message and an exit status.
"""

from __future__ import annotations

from typing import Optional, Sequence


class RespinError(Exception):
    """A failure with an explanation for a person.

    ``what`` is one sentence; ``where`` names the file and, if it helps, the path or byte offset inside it;
    ``remedy`` says what to do; ``finding`` is a stable id that scripts may match on; ``also`` lists further failures of
    the same check, one sentence each.
    """

    exit_code = 1
    default_finding = "internal"

    def __init__(
        self,
        what: str,
        *,
        where: Optional[str] = None,
        remedy: Optional[str] = None,
        finding: Optional[str] = None,
        also: Sequence[str] = (),
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy
        self.finding = finding or self.default_finding
        self.also = tuple(also)

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class UsageError(RespinError):
    """The command line, a recipe or a specification file asks for something that makes no sense."""

    exit_code = 2
    default_finding = "usage"


class VerificationError(RespinError):
    """Bytes are not what a signature or a digest says they are, or nobody trusted says anything about them."""

    exit_code = 3
    default_finding = "verification-failed"


class PolicyError(RespinError):
    """Everything is authentic, and still not allowed: protected path, undeclared effect, scope, conflict."""

    exit_code = 4
    default_finding = "policy"


class MissingToolError(RespinError):
    """This machine lacks a program or a privilege; ``remedy`` names the package or the setting."""

    exit_code = 5
    default_finding = "missing-tool"


class BuildError(RespinError):
    """The build itself failed: a scriptlet, the disk, the transaction."""

    exit_code = 6
    default_finding = "build-failed"


class UnsupportedError(RespinError):
    """A kind or layout of input that respin does not handle; nothing was changed."""

    exit_code = 7
    default_finding = "unsupported"


class MalformedError(VerificationError):
    """A parser met bytes that its specification does not allow: truncated, corrupt or hostile input."""

    default_finding = "malformed"
