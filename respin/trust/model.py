"""Roles, tiers, trusted keys and trusted signatures."""

from __future__ import annotations

import fnmatch
from dataclasses import InitVar, dataclass
from enum import Enum
from pathlib import Path
from typing import Optional, Tuple

from respin.formats.openpgp import PublicKey, Signature, Verdict


class Role(str, Enum):
    """What a key may sign. A key used outside its role is an unknown key."""

    BASE = "base"  # the vendor's checksum files
    PLUGIN = "plugin"  # bundle manifests
    RPM = "rpm"  # RPM packages
    RESPIN = "respin"  # provenance statements and checksum files of respun ISOs

    def __str__(self) -> str:
        return self.value


TIERS: Tuple[str, ...] = ("vendor", "certified", "partner", "community")  # from most to least trusted

_BY_THE_STORE = object()


@dataclass(frozen=True)
class TrustedKey:
    """A key with what it may do.

    ``scope`` holds patterns (``*``, ``?``) of the names it may sign: bundle names, RPM names, file names of checksum
    files, names of statements. ``allow_expired`` and ``allow_weak`` are opt-ins for signatures by an expired key or
    with a weak hash or a short key. ``file`` is the key's file in the store.
    """

    public: PublicKey
    role: Role
    tier: str
    scope: Tuple[str, ...]
    allow_expired: bool
    allow_weak: bool
    file: Path

    def covers(self, subject: str) -> bool:
        """Whether the scope covers a name."""
        return any(fnmatch.fnmatchcase(subject, pattern) for pattern in self.scope)

    def accepts(self, signature: Signature) -> bool:
        """Whether a signature by this key counts: validated, and every objection to it is opted in."""
        accepted = {Verdict.EXPKEY: self.allow_expired, Verdict.WEAK: self.allow_weak}
        return signature.validated and all(accepted.get(problem, False) for problem in signature.problems)


@dataclass(frozen=True)
class TrustedSignature:
    """A signature that a key of the store made within its role and scope; only the store makes these."""

    key: TrustedKey
    signature: Signature
    made_by: InitVar[Optional[object]] = None

    def __post_init__(self, made_by: Optional[object]) -> None:
        if made_by is not _BY_THE_STORE:
            raise TypeError("only a TrustStore makes trusted signatures")


def trusted(key: TrustedKey, signature: Signature) -> TrustedSignature:
    """For :mod:`respin.trust.store` alone."""
    return TrustedSignature(key, signature, made_by=_BY_THE_STORE)
