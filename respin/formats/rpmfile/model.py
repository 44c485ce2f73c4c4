"""What an RPM's main header says, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

# RPMSENSE flags of a dependency (rpm's include/rpm/rpmds.h)
LESS, GREATER, EQUAL = 1 << 1, 1 << 2, 1 << 3
RPMLIB = 1 << 24

# RPMFILE flags of a file (rpm's include/rpm/rpmfiles.h)
CONFIG, DOC, MISSINGOK, NOREPLACE, GHOST = 1 << 0, 1 << 1, 1 << 3, 1 << 4, 1 << 6


@dataclass(frozen=True)
class FileEntry:
    """A file that a package owns.

    ``mode`` is a full st_mode; ``mtime`` is in seconds since 1970; ``size`` in bytes; ``digest`` is lower-case hex by
    ``digest_algorithm`` ("" for what has no content). ``flags`` are RPMFILE_* bits. Hard links share ``inode``.
    """

    path: str
    mode: int
    user: str
    group: str
    mtime: int
    size: int
    digest: str
    digest_algorithm: str
    linkto: str
    rdev: int
    flags: int
    caps: str
    inode: int

    @property
    def is_config(self) -> bool:
        return bool(self.flags & CONFIG)

    @property
    def is_ghost(self) -> bool:
        return bool(self.flags & GHOST)


@dataclass(frozen=True)
class Scriptlet:
    """Code that runs when packages come and go.

    ``kind`` is the section's name in a spec file, without the percent sign and in rpm's internal spelling: ``prein``,
    ``postin``, ``preun``, ``postun``, ``pretrans``, ``posttrans``, ``preuntrans``, ``postuntrans``, ``verify``, and
    for triggers ``triggerprein``, ``triggerin``, ``triggerun``, ``triggerpostun``, with ``file`` or ``transfile``
    before it. ``interpreter`` is the program and its arguments; ``<lua>`` is rpm's own interpreter.
    """

    kind: str
    interpreter: Tuple[str, ...]
    body: str


@dataclass(frozen=True)
class Dependency:
    """A capability; ``flags`` are RPMSENSE_* bits. Its text is as in a spec file: ``name >= version``."""

    name: str
    flags: int
    version: str

    def __str__(self) -> str:
        sense = "<" * bool(self.flags & LESS) + ">" * bool(self.flags & GREATER) + "=" * bool(self.flags & EQUAL)
        return f"{self.name} {sense} {self.version}" if sense and self.version else self.name

    @property
    def is_rpmlib(self) -> bool:
        """Whether it is about rpm's own features and no package."""
        return bool(self.flags & RPMLIB) or self.name.startswith("rpmlib(")


@dataclass(frozen=True)
class PackageInfo:
    """What a main header says of a package as a whole, and what it provides: all that is asked of installed ones.

    ``sha256`` (hex) is the digest of its exact bytes with the 16-byte intro, which is what header signatures cover.
    """

    name: str
    epoch: Optional[int]
    version: str
    release: str
    arch: str
    summary: str
    vendor: str
    license: str
    sourcerpm: str
    provides: Tuple[Dependency, ...]
    is_source: bool
    sha256: str

    @property
    def nevra(self) -> str:
        """``name-[epoch:]version-release.arch``; the arch of a source package is ``src``."""
        epoch = f"{self.epoch}:" if self.epoch is not None else ""
        return f"{self.name}-{epoch}{self.version}-{self.release}.{'src' if self.is_source else self.arch}"


@dataclass(frozen=True)
class RpmHeader(PackageInfo):
    """The whole main header. ``raw`` are its exact bytes.

    ``payload_digest`` is lower-case hex over the compressed payload by ``payload_digest_algorithm``, "" if there is
    none. ``format`` is 4, or 6 for packages that say so.
    """

    os: str
    files: Tuple[FileEntry, ...]
    scriptlets: Tuple[Scriptlet, ...]
    requires: Tuple[Dependency, ...]
    conflicts: Tuple[Dependency, ...]
    obsoletes: Tuple[Dependency, ...]
    payload_digest: str
    payload_digest_algorithm: str
    format: int
    raw: bytes
