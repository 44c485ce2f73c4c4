"""What a plugin's accounts may be: their homes, their shells as the signed packages name them, entries in pairs.

Nothing but the scriptlets and the sysusers.d files of the packages says which shell an account gets (useradd(8),
sysusers.d(5)). Both are signed.
"""

from __future__ import annotations

import re
from typing import Any, FrozenSet, Iterator, Mapping

from respin.node.paths import read_file
from respin.plan import InstallPlan
from respin.policy.findings import Finding
from respin.roottree import RootTree

_NO_LOGIN = ("nologin", "false")
# What useradd gives where nobody asks for another; more stand in /etc/default/useradd.
_DEFAULTS = ("", "/bin/sh", "/bin/bash")
_DEFAULT = re.compile(r"^SHELL=[\"']?([^\"'\s]+)", re.MULTILINE)
_PATH = re.compile(r"/[\w./+-]+")
_SYSUSERS = re.compile(r"(?:/etc|/usr/lib)/sysusers\.d/[^/]+\.conf")
_PAIRS = {"/etc/passwd": "/etc/shadow", "/etc/group": "/etc/gshadow"}


def shells(plan: InstallPlan, after: RootTree[Any]) -> Mapping[str, FrozenSet[str]]:
    """By declared user the shells that it may have besides those that are only for show.

    That is what the packages name where they speak of the user. Where that is no shell for show, it may be a default.
    """
    texts = [script.body for rpm in plan.rpms for script in rpm.header.scriptlets]
    texts += [_text(after, path) for path in plan.files if _SYSUSERS.fullmatch(path)]
    defaults = frozenset((*_DEFAULTS, *_DEFAULT.findall(_text(plan.node.root, "/etc/default/useradd"))))
    found = {}
    for user in plan.declared("users"):
        about = [text for text in texts if re.search(rf"(?<![\w.-]){re.escape(user)}(?![\w.-])", text)]
        named = frozenset(path for text in about for path in _PATH.findall(text))
        found[user] = named if any(map(is_for_show, named)) else named | defaults
    return found


def is_for_show(shell: str) -> bool:
    """Whether nobody can log in with ``shell``."""
    return shell.rpartition("/")[2] in _NO_LOGIN


def judge_pairs(plan: InstallPlan, after: RootTree[Any]) -> Iterator[Finding]:
    """A finding for each new account without the entry that locks it, where the vendor keeps those apart."""
    before = plan.node.root
    for main, shadow in _PAIRS.items():
        if read_file(before, shadow) is None:
            continue
        for name in sorted(_names(after, main) - _names(before, main) - _names(after, shadow)):
            yield Finding(
                "user-database",
                shadow,
                f"the new entry for {name!r} in {main} has none here, which would lock it",
                "create accounts with useradd and groupadd",
            )


def _names(root: RootTree[Any], path: str) -> FrozenSet[str]:
    return frozenset(line.partition(":")[0] for line in _text(root, path).split("\n") if line)


def _text(root: RootTree[Any], path: str) -> str:
    return (read_file(root, path) or b"").decode("utf-8", "surrogateescape")
