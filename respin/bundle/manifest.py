"""What a bundle's ``manifest.json`` says: the plugin's identity, the Nodes it is for, its files and its effects.

The format is documented in docs/reference/bundle.md. There is one spelling of every manifest: members sorted by name,
two spaces of indentation, UTF-8, a newline at the end; nothing is optional. :mod:`respin.bundle.schema` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from respin import strictjson

SCHEMA = "respin.plugin/1"


@dataclass(frozen=True)
class Target:
    """The Nodes a plugin is for.

    ``profiles``, ``products`` and ``kernels`` are globs, ``architectures`` are names as RPM spells them. No ``kernels``
    means that the plugin does not depend on one. Versions count from ``at_least`` on and ``below`` the other; an empty
    string sets no bound.
    """

    profiles: Tuple[str, ...]
    products: Tuple[str, ...]
    at_least: str
    below: str
    architectures: Tuple[str, ...]
    kernels: Tuple[str, ...]

    def to_json(self) -> Dict[str, Any]:
        return {
            "profiles": list(self.profiles),
            "products": list(self.products),
            "versions": {"at_least": self.at_least, "below": self.below},
            "architectures": list(self.architectures),
            "kernels": list(self.kernels),
        }


@dataclass(frozen=True, order=True)
class DeclaredScriptlet:
    """Code of an RPM that runs during the installation: which RPM, when, in which interpreter, SHA-256 of its text."""

    nevra: str
    kind: str
    interpreter: Tuple[str, ...]
    sha256: str

    def to_json(self) -> Dict[str, Any]:
        return {
            "nevra": self.nevra,
            "kind": self.kind,
            "interpreter": list(self.interpreter),
            "sha256": self.sha256,
        }

    def __str__(self) -> str:
        return f"%{self.kind} of {self.nevra}"


@dataclass(frozen=True)
class Effects:
    """Everything a plugin does to a Node, as its maker declares it.

    ``paths`` are patterns in the sense of :func:`respin.safepath.first_match`; ``replaces`` are vendor files by their
    exact names; ``capabilities`` maps a path to capabilities as RPM spells them; ``initrd_modules`` are kernel modules
    that early boot needs; ``accepts_unmet`` are requirements that may stay unmet.
    """

    paths: Tuple[str, ...] = ()
    replaces: Tuple[str, ...] = ()
    setuid: Tuple[str, ...] = ()
    capabilities: Tuple[Tuple[str, str], ...] = ()
    scriptlets: Tuple[DeclaredScriptlet, ...] = ()
    units: Tuple[str, ...] = ()
    users: Tuple[str, ...] = ()
    groups: Tuple[str, ...] = ()
    kernel_modules: Tuple[str, ...] = ()
    initrd_modules: Tuple[str, ...] = ()
    kernel_arguments: Tuple[str, ...] = ()
    accepts_unmet: Tuple[str, ...] = ()

    def to_json(self) -> Dict[str, Any]:
        return {
            "paths": list(self.paths),
            "replaces": list(self.replaces),
            "setuid": list(self.setuid),
            "capabilities": dict(self.capabilities),
            "scriptlets": [scriptlet.to_json() for scriptlet in self.scriptlets],
            "units": list(self.units),
            "users": list(self.users),
            "groups": list(self.groups),
            "kernel_modules": list(self.kernel_modules),
            "initrd_modules": list(self.initrd_modules),
            "kernel_arguments": list(self.kernel_arguments),
            "accepts_unmet": list(self.accepts_unmet),
        }


@dataclass(frozen=True)
class FileMember:
    """A member of the bundle: name, length in bytes, SHA-256."""

    path: str
    size: int
    sha256: str

    def to_json(self) -> Dict[str, Any]:
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


@dataclass(frozen=True)
class RpmMember:
    """An RPM of the bundle and what it is: ``NAME-[EPOCH:]VERSION-RELEASE.ARCH``.

    ``sha256`` is that of the file, ``header_sha256`` that of its main header (rpm's SHA256HEADER): a respun ISO carries
    the header alone, and a package may be built and signed twice under one name.
    """

    path: str
    nevra: str
    sha256: str
    header_sha256: str

    def to_json(self) -> Dict[str, Any]:
        return {
            "path": self.path,
            "nevra": self.nevra,
            "sha256": self.sha256,
            "header_sha256": self.header_sha256,
        }


@dataclass(frozen=True)
class Manifest:
    """A whole manifest. ``conflicts`` are globs on bundle names, ``after`` names bundles to install before this one."""

    name: str
    version: str
    release: str
    arch: str
    vendor: str
    summary: str
    license: str
    target: Target
    effects: Effects
    files: Tuple[FileMember, ...]
    rpms: Tuple[RpmMember, ...]
    conflicts: Tuple[str, ...]
    after: Tuple[str, ...]

    @property
    def nvr(self) -> str:
        """NAME-VERSION-RELEASE."""
        return f"{self.name}-{self.version}-{self.release}"

    @property
    def nvra(self) -> str:
        """NAME-VERSION-RELEASE.ARCH."""
        return f"{self.nvr}.{self.arch}"

    @property
    def file_name(self) -> str:
        """How the bundle's file is called."""
        return f"{self.nvra}.plugin.tar"

    def to_json(self) -> Mapping[str, Any]:
        """The manifest as plain data."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "version": self.version,
            "release": self.release,
            "arch": self.arch,
            "vendor": self.vendor,
            "summary": self.summary,
            "license": self.license,
            "target": self.target.to_json(),
            "effects": self.effects.to_json(),
            "files": [file.to_json() for file in self.files],
            "rpms": [rpm.to_json() for rpm in self.rpms],
            "conflicts": list(self.conflicts),
            "after": list(self.after),
        }

    def encode(self) -> bytes:
        """The bytes of ``manifest.json``."""
        return strictjson.encode(self.to_json(), indent=2)
