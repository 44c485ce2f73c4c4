"""Reading a profile's TOML text. Every key is known or refused: a mistyped one would protect less than was meant."""

from __future__ import annotations

import re
import sys
from typing import Any, Dict, Mapping, Optional, Set, Tuple

from respin.errors import UsageError
from respin.node.profile import (
    Checksums,
    Fact,
    IsoPlace,
    Marks,
    Profile,
    ProtectedSet,
    Pxe,
    PxeMode,
    Recognition,
    VersionSource,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
SETS = ("installer", "persistence")
# Where rpm's databases are on the Nodes that are known (rpm's %_dbpath through the years).
RPM_DATABASES = ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm")
_NAMES = ("product", "version", "release")
_MODE = re.compile(r"[a-z][a-z0-9-]*")
# What stands for something in an argument of a way to start from a network.
PLACEHOLDERS = ("iso", "kickstart", "root", "url")
_ARGUMENT = re.compile(r"(?:[A-Za-z0-9_.,:/=@%+~^-]|\{(?:" + "|".join(PLACEHOLDERS) + r")\})+")


class _Table:
    """A table of the document whose keys are taken one by one; what is left at the end was not known."""

    def __init__(self, values: Mapping[str, Any], name: str, where: str) -> None:
        self._values, self._name, self._where = values, name, where
        self._left: Set[str] = set(values)

    def bad(self, key: str, what: str) -> UsageError:
        place = f"{self._name}.{key}" if self._name else key
        return UsageError(f"the profile's {place} {what}", where=self._where, remedy="see docs/reference/profiles.md")

    def text(self, key: str, default: Optional[str] = None) -> str:
        value = self._take(key, default)
        if not isinstance(value, str) or (not value and default is None):
            raise self.bad(key, "must be a string")
        return value

    def texts(self, key: str, default: Optional[Tuple[str, ...]] = None) -> Tuple[str, ...]:
        value = self._take(key, default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
            raise self.bad(key, "must be a list of strings")
        return tuple(value)

    def paths(self, key: str, default: Optional[Tuple[str, ...]] = None) -> Tuple[str, ...]:
        found = self.texts(key, default)
        for one in found:
            self._absolute(key, one)
        return found

    def path(self, key: str, default: Optional[str] = None) -> str:
        found = self.text(key, default)
        if found:
            self._absolute(key, found)
        return found

    def table(self, key: str, *, optional: bool = False) -> "_Table":
        value = self._take(key, {} if optional else None)
        if not isinstance(value, dict):
            raise self.bad(key, "must be a table")
        return _Table(value, f"{self._name}.{key}" if self._name else key, self._where)

    def tables(self, key: str) -> Tuple["_Table", ...]:
        value = self._take(key, ())
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, dict) for item in value):
            raise self.bad(key, "must be an array of tables")
        return tuple(_Table(item, f"{self._name}.{key}", self._where) for item in value)

    def names(self) -> Tuple[str, ...]:
        """The keys that nobody has taken so far."""
        return tuple(sorted(self._left))

    def done(self) -> None:
        for key in sorted(self._left):
            raise self.bad(key, "is no key that respin knows")

    def _take(self, key: str, default: object) -> Any:
        self._left.discard(key)
        if key not in self._values and default is None:
            raise self.bad(key, "is missing")
        return self._values.get(key, default)

    def _absolute(self, key: str, path: str) -> None:
        if not path.startswith("/") or any(part in ("", ".", "..") for part in path[1:].split("/")):
            raise self.bad(key, f"holds {path!r}, which is no absolute path")


def parse(text: str, where: str) -> Profile:
    """Parse a profile; UsageError names the key that is wrong."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the profile is not valid TOML: {error}", where=where) from error
    if document.get("schema") != SCHEMA:
        raise UsageError("the profile's schema is not 1", where=where, remedy="this respin reads schema 1")
    top = _Table({key: value for key, value in document.items() if key != "schema"}, "", where)
    layout, arguments = top.table("layout"), top.table("arguments", optional=True)
    protected = top.table("protected")
    profile = Profile(
        id=top.text("id"),
        title=top.text("title"),
        instead_of=top.texts("instead_of", ()),
        recognition=_recognition(top.table("recognise")),
        version=_version(top.table("version")),
        root=layout.path("root"),
        stage2=layout.paths("stage2", ()),
        kernels=layout.paths("kernels"),
        initrds=layout.paths("initrds"),
        boot_configurations=layout.paths("boot_configurations"),
        rpm_databases=layout.paths("rpm_databases", RPM_DATABASES),
        checksums=_checksums(top.table("checksums", optional=True)),
        kept_arguments=arguments.texts("kept", ()),
        marks=_marks(top.table("marks", optional=True)),
        protected={name: _set(protected.table(name)) for name in SETS},
        pxe=_pxe(top.table("pxe")) if "pxe" in document else None,
        driver_disk=layout.path("driver_disk", ""),
    )
    for table in (layout, arguments, protected, top):
        table.done()
    return profile


def _recognition(table: _Table) -> Recognition:
    facts = []
    for one in table.tables("says"):
        fact = Fact(
            file=one.path("file"),
            text=one.text("text", ""),
            section=one.text("section", ""),
            key=one.text("key", ""),
            values=one.texts("values", ()),
        )
        if bool(fact.text) == bool(fact.key) or bool(fact.key) != bool(fact.values):
            raise one.bad("file", "needs either a text, or a key with values")
        one.done()
        facts.append(fact)
    found = Recognition(table.paths("files"), table.paths("absent", ()), tuple(facts))
    if not found.files:
        raise table.bad("files", "must name at least one file: a profile without facts would match any ISO")
    table.done()
    return found


def _version(table: _Table) -> VersionSource:
    found = VersionSource(
        iso=table.path("iso", ""),
        root=table.paths("root", ()),
        section=table.text("section", ""),
        keys={name: table.text(name, "") for name in _NAMES},
    )
    if bool(found.iso) == bool(found.root):
        raise table.bad("iso", "or version.root must be there, not both: one of them says what the Node is")
    table.done()
    return found


def _checksums(table: _Table) -> Checksums:
    names = ("treeinfo", "kickstarts", "sums")
    found: Dict[str, Tuple[str, ...]] = {name: table.paths(name, ()) for name in names}
    table.done()
    return Checksums(**found)


def _marks(table: _Table) -> Marks:
    found = Marks(
        version_iso=table.path("version_iso", ""),
        version_root=table.path("version_root", ""),
        release_lines=table.paths("release_lines", ()),
        nvr=table.path("nvr", ""),
        factory=table.path("factory", ""),
    )
    table.done()
    return found


def _set(table: _Table) -> ProtectedSet:
    found = ProtectedSet(
        packages=table.texts("packages", ()),
        iso=table.paths("iso"),
        root=table.paths("root"),
        units=table.texts("units"),
    )
    table.done()
    return found


def _pxe(table: _Table) -> Pxe:
    default = table.text("mode")
    modes = {}
    for name in table.names():
        if not _MODE.fullmatch(name):
            raise table.bad(name, "is no name of a way to start: small letters, digits and -")
        modes[name] = _pxe_mode(table.table(name))
    if default not in modes:
        raise table.bad("mode", f"is {default!r}, and there is no table of that name")
    return Pxe(default, modes)


def _pxe_mode(table: _Table) -> PxeMode:
    place = table.text("iso", "")
    if place not in [one.value for one in IsoPlace]:
        raise table.bad("iso", 'must be "initrd" or "file"')
    found = PxeMode(
        arguments=table.texts("arguments"),
        remove=table.texts("remove", ()),
        files=table.paths("files", ()),
        kickstart=table.path("kickstart", ""),
        iso=IsoPlace(place),
        initrd_has=table.paths("initrd_has", ()),
    )
    for one in found.arguments:
        if not _ARGUMENT.fullmatch(one):
            raise table.bad("arguments", f"holds {one!r}; {', '.join(PLACEHOLDERS)} may stand in braces")
        no_iso, no_kickstart = found.iso is IsoPlace.NOWHERE, not found.kickstart
        if ("{iso}" in one and no_iso) or ("{kickstart}" in one and no_kickstart):
            raise table.bad("arguments", f"holds {one!r}, and the way has none")
    table.done()
    return found
