"""Whether a Node is one that a plugin is for."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Iterator, List, Sequence, Tuple

from respin.bundle.manifest import Target
from respin.safepath import show

_PART = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")


def mismatches(
    target: Target, *, profile: str, product: str, version: str, architecture: str, kernels: Sequence[str]
) -> Iterator[Tuple[str, str]]:
    """Why a Node with these facts is not meant: (finding, sentence) each; nothing when it is.

    ``kernels`` are the releases of all its kernels: a plugin that depends on the kernel must fit every one.
    """
    for what, value, globs in (
        ("profile", profile, target.profiles),
        ("product", product, target.products),
        ("architecture", architecture, target.architectures),
    ):
        if not _any(value, globs):
            yield "wrong-target", f"it is for Nodes of {what} {' or '.join(globs)}, this one is {show(value)!r}"
    if target.at_least and compare_versions(version, target.at_least) < 0:
        yield "wrong-target", f"it is for versions from {target.at_least} on, this Node is {show(version)!r}"
    if target.below and compare_versions(version, target.below) >= 0:
        yield "wrong-target", f"it is for versions before {target.below}, this Node is {show(version)!r}"
    for kernel in kernels if target.kernels else ():
        if not _any(kernel, target.kernels):
            yield "kernel-mismatch", f"it is for kernel {' or '.join(target.kernels)}, the Node has {show(kernel)!r}"


def compare_versions(one: str, other: str) -> int:
    """-1, 0 or 1 as ``one`` is older than, as old as or newer than ``other``, by the rules of rpm (rpm-version(7)).

    Runs of digits compare as numbers, runs of letters as text, digits are newer than letters; ``~`` is older than
    nothing at all, ``^`` is newer than nothing and older than anything else; separators only separate.
    """
    ours, theirs = _PART.findall(one), _PART.findall(other)
    for left, right in zip(_filled(ours, len(theirs)), _filled(theirs, len(ours))):
        if _rank(left) != _rank(right):
            return -1 if _rank(left) < _rank(right) else 1
        if left != right and _rank(left) in (_LETTERS, _DIGITS):
            numbers = _rank(left) == _DIGITS
            less = int(left) < int(right) if numbers else left < right
            if not numbers or int(left) != int(right):
                return -1 if less else 1
    return 0


_TILDE, _END, _CARET, _LETTERS, _DIGITS = range(5)


def _rank(part: str) -> int:
    if not part:
        return _END
    if part in "~^":
        return _TILDE if part == "~" else _CARET
    return _DIGITS if part.isdigit() else _LETTERS


def _filled(parts: List[str], length: int) -> List[str]:
    return parts + [""] * (max(len(parts), length) - len(parts))


def _any(value: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(value, glob) for glob in globs)
