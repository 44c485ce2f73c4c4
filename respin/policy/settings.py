"""Rules on what a plugin's drop-in files say: settings for what is its own, not for what is the vendor's.

Read are the files with a format in which one line can turn a vendor's unit, module, user or path into something else:
systemd.preset(5), modprobe.d(5), sysusers.d(5), tmpfiles.d(5). Options, blacklists and dependencies of modules are what
drivers need such files for; they are let through.
"""

from __future__ import annotations

import posixpath
import re
import shlex
import stat
from fnmatch import fnmatchcase
from typing import Any, Callable, Iterator, List, Mapping

from respin.node.paths import read_file, real_parent
from respin.node.places import DROP_IN_DIRECTORIES, DROP_IN_ROOTS
from respin.node.profile import UNIT_DIRECTORIES
from respin.plan import InstallPlan
from respin.policy.findings import Finding
from respin.policy.overrides import template
from respin.policy.preflight import protected, vendor_modules
from respin.roottree import RootTree
from respin.safepath import first_match, show

Line = List[str]
Rule = Callable[[Line, InstallPlan], Iterator[str]]
# Where tmpfiles.d may work besides on files of the plugin; made at boot, or the plugin's state.
_VOLATILE = ("/run/", "/var/", "/tmp/", "/dev/", "/sys/", "/proc/")
_RUNTIME_CONFIGURATION = ("/run/systemd/**", "/run/udev/**", *(f"/run/{name}/**" for name in DROP_IN_DIRECTORIES))
_GLOB = re.compile(r"[*?\[%]")


def judge_settings(plan: InstallPlan, after: RootTree[Any]) -> Iterator[Finding]:
    """A finding for every line that sets something for what is not the plugins' own, as ``after`` holds the files."""
    for path in sorted(plan.files):
        rule = _RULES.get(path.rpartition("/")[0])
        if rule is None or stat.S_ISDIR(plan.files[path].entry.mode):
            continue
        content = read_file(after, path)
        if content is None:
            yield _finding(path, plan, "is no plain file, so nobody knows what it says once the Node runs")
            continue
        problems = {
            f"says {show(' '.join(words))[:120]!r}: {problem}"
            for words in _lines(content.decode("utf-8", "surrogateescape"))
            for problem in rule(words, plan)
        }
        for problem in sorted(problems):
            yield _finding(path, plan, problem)


def _finding(path: str, plan: InstallPlan, what: str) -> Finding:
    remedy = "set only what belongs to the plugin; docs/reference/policy.md says what is let through"
    return Finding("foreign-setting", path, f"{plan.files[path].nevra} {what}", remedy)


def _lines(text: str) -> Iterator[Line]:
    # Not every reader joins lines that end in a backslash, nor in the same way: what any of them sees counts.
    for line in "\n".join((text, text.replace("\\\n", ""), text.replace("\\\n", " "))).split("\n"):
        if not line.strip() or line.lstrip()[0] in "#;":
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            words = line.split()
        if words:
            yield words


def _preset(words: Line, plan: InstallPlan) -> Iterator[str]:
    names = {path.rpartition("/")[2] for path in plan.files if path.rpartition("/")[0] in UNIT_DIRECTORIES}
    if len(words) < 2 or not {words[1], template(words[1])} & names:
        yield "this is no unit of the plugin's own"


def _modprobe(words: Line, plan: InstallPlan) -> Iterator[str]:
    if words[0] in ("install", "remove"):
        yield "a program would run in place of loading a module"
    if words[0] == "alias" and len(words) > 1:
        pattern = words[1].replace("-", "_")
        taken = sorted(name for name in vendor_modules(plan.node.root) if fnmatchcase(name, pattern))
        if taken:
            yield f"another module would be loaded for the vendor's {taken[0]}"


def _sysusers(words: Line, plan: InstallPlan) -> Iterator[str]:
    kind, name = words[0][:1], words[1] if len(words) > 1 else ""
    users, groups = plan.declared("users"), (*plan.declared("groups"), *plan.declared("users"))
    if kind in ("u", "g") and name not in (users if kind == "u" else groups):
        yield f"the manifest does not declare {show(name)!r}"
    elif kind == "m" and not (name in users and len(words) > 2 and words[2] in groups):
        yield "a membership needs a user and a group that the manifest declares"
    elif kind not in ("u", "g", "m"):
        yield "only users, groups and memberships are let through"
    if kind in ("u", "g") and any(part in ("0", "root") or part[:1] == "/" for part in ":".join(words[2:3]).split(":")):
        yield "its id is root's, or taken from a file"


def _tmpfiles(words: Line, plan: InstallPlan) -> Iterator[str]:
    path = words[1].rstrip("/") if len(words) > 1 else ""
    glob = _GLOB.search(path)
    # Of a pattern, the part that is surely a path decides.
    path = path if glob is None else path[: glob.start()].rpartition("/")[0]
    if not path.startswith("/") or ".." in path.split("/"):
        yield "this is no absolute path"
        return
    real = real_parent(plan.node.root, posixpath.normpath(path))
    for finding in protected(plan.node.profile, real, "it"):
        yield finding.message
    if real not in plan.files and not real.startswith(_VOLATILE):
        yield "this is no path of the plugin's own"
    elif plan.node.root.lookup(real) is not None or first_match(real, _RUNTIME_CONFIGURATION):
        yield f"{real} is not the plugin's own"


_RULES: Mapping[str, Rule] = {
    f"{top}/{name}": rule
    for top in DROP_IN_ROOTS
    for name, rule in (
        ("systemd/system-preset", _preset),
        ("modprobe.d", _modprobe),
        ("sysusers.d", _sysusers),
        ("tmpfiles.d", _tmpfiles),
    )
}
