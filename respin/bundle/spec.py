"""The specification file (TOML) from which ``bundle create`` makes a bundle: docs/reference/bundle.md.

It spells the parts of a manifest that nobody can derive, with the manifest's own keys, and names the files.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

from respin.bundle.schema import ARCHITECTURES, NOARCH, SEE
from respin.byteview import open_stream
from respin.errors import UsageError
from respin.limits import LIMITS
from respin.safepath import show
from respin.strictjson import Fields

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FINDING = "bad-specification"
IDENTITY = ("name", "version", "release", "arch", "vendor", "summary")
EFFECTS = (
    "paths", "replaces", "setuid", "units", "users", "groups", "kernel_modules", "initrd_modules", "kernel_arguments",
    "accepts_unmet",
)  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """A specification: plain values for the manifest, checked with it, and the files to pack.

    ``effects`` holds the keys that the file has; ``files`` are (member name, path) of LICENSE and README.
    """

    path: Path
    identity: Dict[str, Any]
    target: Dict[str, Any]
    effects: Dict[str, Any]
    rpms: Tuple[Path, ...]
    files: Tuple[Tuple[str, Path], ...]


def read_spec(path: Path) -> Spec:
    """The specification in the file ``path``; raises UsageError."""
    where = str(path)
    fields = Fields(_load(path), where=where, error=UsageError, finding=FINDING, remedy=SEE)
    identity: Dict[str, Any] = {key: fields.take(key) for key in IDENTITY}
    identity["license"] = fields.take("license") if fields.has("license") else ""
    for key in ("conflicts", "after"):
        identity[key] = _sorted(fields, key)
    target = _target(fields.fields("target"), str(identity["arch"]))
    effects = _effects(fields.fields("effects")) if fields.has("effects") else {}
    rpms = _find(path, fields, fields.texts("rpms", limit=LIMITS.bundle_members, length=4096, ordered=True))
    files = tuple(
        (member, path.parent / fields.text(key, limit=4096))
        for key, member in (("license_file", "LICENSE"), ("readme_file", "README"))
        if fields.has(key)
    )
    fields.done()
    return Spec(path, identity, target, effects, rpms, files)


def _load(path: Path) -> Dict[str, Any]:
    try:
        with open_stream(path) as file:
            data = file.read(LIMITS.manifest + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read the specification: {error.strerror}",
            where=str(path),
            remedy="name a TOML file; docs/how-to/sign-a-plugin.md shows one",
            finding=FINDING,
        ) from error
    if len(data) > LIMITS.manifest:
        raise UsageError("the specification is too long", where=str(path), finding=FINDING)
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        what = f"this is not TOML: {show(str(error))[:200]}"
        raise UsageError(what, where=str(path), remedy=SEE, finding=FINDING) from error


def _target(fields: Fields, arch: str) -> Dict[str, Any]:
    target: Dict[str, Any] = {"profiles": _sorted(fields, "profiles")}
    target["products"] = _sorted(fields, "products") if fields.has("products") else ["*"]
    default = list(ARCHITECTURES) if arch == NOARCH else [arch]
    target["architectures"] = _sorted(fields, "architectures") if fields.has("architectures") else default
    target["kernels"] = _sorted(fields, "kernels")
    bounds = {"at_least": "", "below": ""}
    if fields.has("versions"):
        versions = fields.fields("versions")
        bounds.update({key: versions.take(key) for key in bounds if versions.has(key)})
        versions.done()
    target["versions"] = bounds
    fields.done()
    return target


def _effects(fields: Fields) -> Dict[str, Any]:
    effects: Dict[str, Any] = {
        key: list(fields.array(key, limit=LIMITS.rpm_files)) if key == "kernel_arguments" else _sorted(fields, key)
        for key in EFFECTS
        if fields.has(key)
    }
    if fields.has("capabilities"):
        effects["capabilities"] = fields.take("capabilities")
    fields.done()
    return effects


def _sorted(fields: Fields, key: str) -> List[Any]:
    """A list in the manifest's order; a person need not sort. What its values are is checked with the manifest."""
    if not fields.has(key):
        return []
    return sorted(set(fields.texts(key, limit=LIMITS.rpm_files, length=4096, ordered=True)))


def _find(path: Path, fields: Fields, patterns: Tuple[str, ...]) -> Tuple[Path, ...]:
    if not patterns:
        raise fields.bad("names no package", "rpms")
    found = set()
    for pattern in patterns:
        if pattern.startswith("/") or "**" in pattern:
            raise fields.bad(f"has the pattern {pattern!r}: patterns are relative, and ** is not known", "rpms")
        matches = [one for one in path.parent.glob(pattern) if one.is_file()]
        if not matches:
            raise UsageError(
                f"no file matches {pattern!r}",
                where=str(path),
                remedy="patterns in rpms are relative to the specification's directory",
                finding=FINDING,
            )
        found.update(matches)
    return tuple(sorted(found))
