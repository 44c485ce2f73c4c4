"""Profiles: one TOML file per kind of Node says how to recognise it, where its parts are and what is protected.

The protected sets that decide are always respin's own or the trust store's, never ones that an ISO brings along.
docs/reference/profiles.md has every key.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Dict, Mapping, Optional, Tuple

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
    """What a respin must leave as the vendor made it; paths are patterns as :func:`respin.safepath.first_match`.

    ``packages`` are globs on names of the vendor's packages; no plugin may bring one that is called so.
    """

    packages: Tuple[str, ...]
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
class Fact:
    """Something that a file of the ISO says: a text that stands in it, or one of ``values`` (globs) under ``key``.

    With ``section`` the file is an INI file, without it one of shell assignments.
    """

    file: str
    text: str = ""
    section: str = ""
    key: str = ""
    values: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Recognition:
    """What has to be so on an ISO: ``files`` (patterns) that are there, ``absent`` ones that are not, facts."""

    files: Tuple[str, ...]
    absent: Tuple[str, ...]
    facts: Tuple[Fact, ...]


@dataclass(frozen=True)
class VersionSource:
    """Where product, version and release stand: in a file on the ISO, or in the first of some files in the root.

    ``section`` as for :class:`Fact`; ``keys`` are the names under which the three stand there, empty for none.
    """

    iso: str
    root: Tuple[str, ...]
    section: str
    keys: Mapping[str, str]


@dataclass(frozen=True)
class Checksums:
    """Patterns of files on the ISO with digests of others: INI files of productmd, kickstarts, lists of coreutils."""

    treeinfo: Tuple[str, ...]
    kickstarts: Tuple[str, ...]
    sums: Tuple[str, ...]


@dataclass(frozen=True)
class Marks:
    """Where a respin becomes visible. Empty for a kind of Node that has no such place.

    ``version_iso`` and ``version_root`` are copies of one file of assignments whose RELEASE changes, ``release_lines``
    are texts whose first line says that the Node was respun, ``nvr`` holds NAME-VERSION-RELEASE of the image, and
    ``factory`` is a directory with a copy of /etc that follows what a plugin adds there.
    """

    version_iso: str
    version_root: str
    release_lines: Tuple[str, ...]
    nvr: str
    factory: str


class IsoPlace(str, Enum):
    """Where a Node that starts from a network gets the whole ISO from."""

    NOWHERE = ""
    INITRD = "initrd"
    FILE = "file"


@dataclass(frozen=True)
class PxeMode:
    """One way in which the Node starts from a network.

    ``remove`` are the arguments by which it would look for its medium (as :func:`respin.formats.bootconfig.matches`),
    ``arguments`` those that take their place, with placeholders in braces. ``files`` are patterns of what it fetches
    from the ISO besides its kernel and initrds, ``kickstart`` is one of those. It cannot start this way unless one of
    ``initrd_has`` (patterns) is in its initrds; empty says that nothing special is needed.
    """

    arguments: Tuple[str, ...]
    remove: Tuple[str, ...]
    files: Tuple[str, ...]
    kickstart: str
    iso: IsoPlace
    initrd_has: Tuple[str, ...]


@dataclass(frozen=True)
class Pxe:
    """The ways in which the Node starts from a network, by name, and which of them counts if nobody says."""

    mode: str
    modes: Mapping[str, PxeMode]


@dataclass(frozen=True)
class Profile:
    """One kind of Node. Paths on the ISO are patterns; :func:`respin.node.recognise.places` finds the files.

    ``pxe`` is None for a kind of Node that is not known to start from a network. ``driver_disk`` is where in an initrd
    the installer finds a driver update disk, empty for a Node without such an installer.
    """

    id: str
    title: str
    instead_of: Tuple[str, ...]
    recognition: Recognition
    version: VersionSource
    root: str
    stage2: Tuple[str, ...]
    kernels: Tuple[str, ...]
    initrds: Tuple[str, ...]
    boot_configurations: Tuple[str, ...]
    rpm_databases: Tuple[str, ...]
    checksums: Checksums
    kept_arguments: Tuple[str, ...]
    marks: Marks
    protected: Mapping[str, ProtectedSet]
    pxe: Optional[Pxe] = None
    driver_disk: str = ""

    def to_json(self) -> Dict[str, Any]:
        """What it is, and what it protects, as plain data."""
        return {
            "id": self.id,
            "title": self.title,
            "protected": {
                name: {
                    "packages": list(one.packages),
                    "iso": list(one.iso),
                    "root": list(one.root),
                    "units": list(one.units),
                }
                for name, one in sorted(self.protected.items())
            },
        }
