"""Reads manifests: every key known, every value of its type, length and shape, and all parts consistent.

The same reader takes the parts of a manifest that a specification file spells in TOML; then what is wrong is the
user's (UsageError) and not an attacker's (MalformedError).
"""

from __future__ import annotations

import re
from typing import Any, List, Mapping, Tuple, Type

from respin import safepath, strictjson
from respin.bundle import packing
from respin.bundle.manifest import (
    SCHEMA,
    DeclaredScriptlet,
    Effects,
    FileMember,
    Manifest,
    RpmMember,
    Target,
)
from respin.errors import MalformedError, RespinError, UnsupportedError
from respin.limits import LIMITS
from respin.strictjson import Fields

FINDING = "bad-manifest"
SEE = "docs/reference/bundle.md describes the specification, key by key"
_REMEDY = "get the bundle from its maker again; `respin bundle create` makes one that this respin reads"
NOARCH = "noarch"
ARCHITECTURES = ("aarch64", "ppc64le", "riscv64", "s390x", "x86_64")

MAX_NAMES = 1_000  # of anything but paths
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~^]*")
_ARCH = re.compile(r"[a-z0-9_]+")
_GLOB = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9._+*?~^ ()-]*")
_NEVRA = re.compile(r"[^\s/:-][^\s/:]*-(?:[0-9]+:)?[^\s/:-]+-[^\s/:.-][^\s/:-]*\.[a-z0-9_]+")
_KIND = re.compile(r"[a-z]+")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(?:service|socket|timer|path|mount|automount|swap|target|slice)")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,30}")  # what shadow's useradd takes
_MODULE = re.compile(r"[a-z0-9_]+", re.IGNORECASE)
_ARGUMENT = re.compile(r"[\x21\x23-\x7e]+")  # one word, without quotes


def parse_manifest(data: bytes, *, where: str = packing.MANIFEST) -> Manifest:
    """The manifest in ``data``. Raises MalformedError, and UnsupportedError for another schema or architecture."""
    value = strictjson.decode(data, where=where, limit=LIMITS.manifest)
    manifest = from_json(value, where=where)
    if manifest.encode() != data:
        raise MalformedError(
            "the manifest is not in its canonical spelling",
            where=where,
            remedy="write it with `respin bundle create`; docs/reference/bundle.md describes the spelling",
            finding=FINDING,
        )
    return manifest


def subject_name(data: bytes, *, where: str = packing.MANIFEST) -> str:
    """The bundle's name in ``data``, all that is needed of a manifest to know which keys may sign it."""
    value = strictjson.decode(data, where=where, limit=LIMITS.manifest)
    return Fields(value, where=where, finding=FINDING).text("name", pattern=_NAME, limit=100)


def from_json(value: Any, *, where: str, error: Type[RespinError] = MalformedError) -> Manifest:
    """The manifest that plain data describes."""
    remedy = _REMEDY if error is MalformedError else SEE
    fields = Fields(value, where=where, error=error, finding=FINDING, remedy=remedy)
    schema = fields.text("schema")
    if schema != SCHEMA:
        raise UnsupportedError(
            f"the manifest follows the schema {schema!r}, this respin knows {SCHEMA!r}",
            where=where,
            remedy="use a release of respin that knows it",
            finding="unknown-schema",
        )
    manifest = Manifest(
        name=fields.text("name", pattern=_NAME, limit=100),
        version=fields.text("version", pattern=_VERSION, limit=60),
        release=fields.text("release", pattern=_VERSION, limit=60),
        arch=fields.text("arch", pattern=_ARCH, limit=20),
        vendor=fields.text("vendor", limit=100),
        summary=fields.text("summary", limit=200),
        license=fields.text("license", limit=200, empty=True),
        target=target(fields.fields("target")),
        effects=effects(fields.fields("effects")),
        files=tuple(_file(one, where) for one in fields.objects("files", limit=LIMITS.bundle_members)),
        rpms=tuple(_rpm(one) for one in fields.objects("rpms", limit=LIMITS.bundle_members)),
        conflicts=fields.texts("conflicts", limit=MAX_NAMES, pattern=_GLOB),
        after=fields.texts("after", limit=MAX_NAMES, pattern=_NAME),
    )
    fields.done()
    _check_architecture(manifest, fields, where)
    _check_members(manifest, fields)
    return manifest


def target(fields: Fields) -> Target:
    """The target that ``fields`` describe."""
    versions = fields.fields("versions")
    at_least = versions.text("at_least", pattern=_VERSION, limit=60, empty=True)
    below = versions.text("below", pattern=_VERSION, limit=60, empty=True)
    versions.done()
    found = Target(
        profiles=fields.texts("profiles", limit=MAX_NAMES, pattern=_GLOB),
        products=fields.texts("products", limit=MAX_NAMES, pattern=_GLOB),
        at_least=at_least,
        below=below,
        architectures=fields.texts("architectures", limit=len(ARCHITECTURES), pattern=_ARCH),
        kernels=fields.texts("kernels", limit=MAX_NAMES, pattern=_GLOB),
    )
    fields.done()
    for key in ("profiles", "products", "architectures"):
        if not getattr(found, key):
            raise fields.bad("is empty: the plugin would be for no Node at all", key)
    return found


def effects(fields: Fields) -> Effects:
    """The effects that ``fields`` describe."""
    found = Effects(
        paths=_paths(fields, "paths", patterns=True),
        replaces=_paths(fields, "replaces"),
        setuid=_paths(fields, "setuid"),
        capabilities=_capabilities(fields.fields("capabilities")),
        scriptlets=tuple(_scriptlet(one) for one in fields.objects("scriptlets", limit=MAX_NAMES)),
        units=fields.texts("units", limit=MAX_NAMES, pattern=_UNIT),
        users=fields.texts("users", limit=MAX_NAMES, pattern=_ACCOUNT),
        groups=fields.texts("groups", limit=MAX_NAMES, pattern=_ACCOUNT),
        kernel_modules=fields.texts("kernel_modules", limit=MAX_NAMES, pattern=_MODULE),
        initrd_modules=fields.texts("initrd_modules", limit=MAX_NAMES, pattern=_MODULE),
        kernel_arguments=fields.texts("kernel_arguments", limit=MAX_NAMES, pattern=_ARGUMENT, ordered=True),
        accepts_unmet=fields.texts("accepts_unmet", limit=MAX_NAMES),
    )
    fields.done()
    if list(found.scriptlets) != sorted(set(found.scriptlets)):
        raise fields.bad("is not sorted, or names something twice", "scriptlets")
    if "root" in found.users or "root" in found.groups:
        raise fields.bad("may not name root", "users or groups")
    if not set(found.initrd_modules) <= set(found.kernel_modules):
        raise fields.bad("names a module that is not among kernel_modules", "initrd_modules")
    return found


def _paths(fields: Fields, key: str, *, patterns: bool = False) -> Tuple[str, ...]:
    paths = fields.texts(key, limit=LIMITS.rpm_files, length=4096)
    for path in paths:
        _check_path(fields, key, path, patterns=patterns)
    return paths


def _check_path(fields: Fields, key: str, path: str, *, patterns: bool = False) -> None:
    try:
        safepath.absolute(path, where=key)
    except MalformedError as error:
        raise fields.bad(f"names {path!r}, which is not a canonical absolute path", key) from error
    if not patterns:
        return
    if any(part != "**" and "**" in part for part in path.split("/")) or "**" in path.split("/")[:-1]:
        raise fields.bad(f"has the pattern {path!r}: ** stands alone and at the end", key)
    top = path.split("/")[1:3]
    if "[" in path or top[0][:1] in ("*", "?", "") or (set("*?") & set(top[0])) or top[-1][:1] in ("*", "?"):
        raise fields.bad(f"has the pattern {path!r}, which is too wide: its first two parts must be named", key)


def _capabilities(fields: Fields) -> Tuple[Tuple[str, str], ...]:
    found: List[Tuple[str, str]] = []
    for path in sorted(fields.names())[:MAX_NAMES]:
        _check_path(fields, path, path)
        found.append((path, fields.text(path)))
    fields.done()
    return tuple(found)


def _scriptlet(fields: Fields) -> DeclaredScriptlet:
    found = DeclaredScriptlet(
        nevra=fields.text("nevra", pattern=_NEVRA),
        kind=fields.text("kind", pattern=_KIND, limit=40),
        interpreter=fields.texts("interpreter", limit=64, length=4096, ordered=True),
        sha256=fields.sha256("sha256"),
    )
    fields.done()
    return found


def _file(fields: Fields, where: str) -> FileMember:
    path = packing.check_name(fields.text("path"), where=where)
    found = FileMember(path, fields.integer("size", limit=packing.size_limit(path)), fields.sha256("sha256"))
    fields.done()
    return found


def _rpm(fields: Fields) -> RpmMember:
    found = RpmMember(
        fields.text("path"),
        fields.text("nevra", pattern=_NEVRA),
        fields.sha256("sha256"),
        fields.sha256("header_sha256"),
    )
    fields.done()
    return found


def _check_architecture(manifest: Manifest, fields: Fields, where: str) -> None:
    for arch in (*manifest.target.architectures, manifest.arch):
        if arch not in (*ARCHITECTURES, NOARCH):
            raise UnsupportedError(
                f"the architecture {arch!r} is not one of {', '.join(ARCHITECTURES)}",
                where=where,
                finding="foreign-arch",
            )
    if NOARCH in manifest.target.architectures:
        raise fields.bad("names noarch, which no Node is", "target.architectures")
    if manifest.arch not in (NOARCH, *manifest.target.architectures) or (
        manifest.arch != NOARCH and len(manifest.target.architectures) > 1
    ):
        raise fields.bad(f"is not {manifest.arch}, as the bundle itself", "target.architectures")


def _check_members(manifest: Manifest, fields: Fields) -> None:
    names = [file.path for file in manifest.files]
    if names != sorted(set(names), key=packing.order):
        raise fields.bad("is not in the order of the bundle, or names something twice", "files")
    if packing.MANIFEST in names or packing.SIGNATURE in names:
        raise fields.bad("names the manifest or its signature", "files")
    sums: Mapping[str, str] = {file.path: file.sha256 for file in manifest.files}
    if [rpm.path for rpm in manifest.rpms] != [name for name in names if name.startswith(packing.RPMS)]:
        raise fields.bad("does not name exactly the RPMs among files", "rpms")
    if any(sums[rpm.path] != rpm.sha256 for rpm in manifest.rpms):
        raise fields.bad("gives a file another sha256 than files does", "rpms")
    if not manifest.rpms:
        raise fields.bad("is empty: a bundle without an RPM adds nothing", "rpms")
    if len({rpm.nevra for rpm in manifest.rpms}) != len(manifest.rpms):
        raise fields.bad("names a package twice", "rpms")
    if {scriptlet.nevra for scriptlet in manifest.effects.scriptlets} - {rpm.nevra for rpm in manifest.rpms}:
        raise fields.bad("names a package that is not in the bundle", "effects.scriptlets")
