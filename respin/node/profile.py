"""Profiles: one TOML file per kind of Node says how to recognise it, where its parts are and what is protected.

The protected sets that decide are always respin's own or the user's, never ones that an ISO brings along.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import resources
from typing import Any, Mapping, Tuple

from respin.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# A unit can be changed without touching its file: by a mask or copy in a directory that counts more, by a drop-in, by
# links that pull others in. These are the places (systemd.unit(5), "Unit File Load Path").
UNIT_DIRECTORIES = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


@dataclass(frozen=True)
class ProtectedSet:
    """Paths that a respin must leave as the vendor made them; patterns as :func:`respin.safepath.first_match`."""

    iso: Tuple[str, ...]
    root: Tuple[str, ...]
    units: Tuple[str, ...]

    @property
    def root_patterns(self) -> Tuple[str, ...]:
        """The root's patterns with every place from which a protected unit could be changed."""
        roads = []
        for unit in self.units:
            stem, _, kind = unit.rpartition(".")
            # foo-bar.service also reads drop-ins of foo-.service.d and service.d (systemd.unit(5)).
            prefixes = [stem[: i + 1] for i, letter in enumerate(stem) if letter == "-"]
            for directory in UNIT_DIRECTORIES:
                roads.append(f"{directory}/{unit}")
                roads += [f"{directory}/{unit}.{suffix}/**" for suffix in ("d", "wants", "requires", "upholds")]
                roads += [f"{directory}/*.{suffix}/{unit}" for suffix in ("wants", "requires", "upholds")]
                roads += [f"{directory}/{prefix}.{kind}.d/**" for prefix in prefixes]
        return self.root + tuple(roads)


@dataclass(frozen=True)
class Profile:
    """One kind of Node."""

    id: str
    title: str
    version_file: str
    packages: Tuple[str, ...]
    root: str
    kernel: str
    initrds: Tuple[str, ...]
    boot_configurations: Tuple[str, ...]
    protected: Mapping[str, ProtectedSet]

    def protected_by(self, set_name: str) -> ProtectedSet:
        """The protected set of that name ("installer", "persistence")."""
        return self.protected[set_name]


def parse(text: str, where: str) -> Profile:
    """Parse a profile; UsageError names the key that is wrong."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the profile is not valid TOML: {error}", where=where) from error
    if document.get("schema") != 1:
        raise UsageError("the profile's schema is not 1", where=where, remedy="this respin reads schema 1")
    recognise, layout = _table(document, "recognise", where), _table(document, "layout", where)
    protected = {
        name: ProtectedSet(
            iso=_strings(_table(_table(document, "protected", where), name, where), "iso", where),
            root=_strings(_table(_table(document, "protected", where), name, where), "root", where),
            units=_strings(_table(_table(document, "protected", where), name, where), "units", where),
        )
        for name in ("installer", "persistence")
    }
    return Profile(
        id=_string(document, "id", where),
        title=_string(document, "title", where),
        version_file=_string(recognise, "version_file", where),
        packages=_strings(recognise, "package", where),
        root=_string(layout, "root", where),
        kernel=_string(layout, "kernel", where),
        initrds=_strings(layout, "initrds", where),
        boot_configurations=_strings(layout, "boot_configurations", where),
        protected=protected,
    )


def built_in() -> Tuple[Profile, ...]:
    """The profiles that respin brings along, by name."""
    directory = resources.files("respin.node") / "profiles"
    files = sorted((entry for entry in directory.iterdir() if entry.name.endswith(".toml")), key=lambda e: e.name)
    return tuple(parse(entry.read_text("utf-8"), entry.name) for entry in files)


def _table(document: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise UsageError(f"the profile lacks the table [{key}]", where=where)
    return value


def _string(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise UsageError(f"the profile's {key} must be a string", where=where)
    return value


def _strings(table: Mapping[str, Any], key: str, where: str) -> Tuple[str, ...]:
    value = table.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"the profile's {key} must be a list of strings", where=where)
    return tuple(value)
