"""GnuPG's colon listing of public keys (doc/DETAILS of GnuPG) to values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Tuple

from respin.errors import VerificationError
from respin.formats.openpgp import home as gnupg_home
from respin.formats.openpgp.model import ALGORITHMS, WEAK_BELOW_BITS, PublicKey
from respin.formats.openpgp.packets import armor, fingerprint, split_keys

_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")


@dataclass(frozen=True)
class Strength:
    """Algorithm and size of one key or subkey."""

    algorithm: str
    bits: int

    @property
    def weak(self) -> bool:
        """Whether the key is too short to count."""
        return self.bits < WEAK_BELOW_BITS.get(self.algorithm, 0)


@dataclass
class Listed:
    """What GnuPG's listing says of a key; the primary key's fingerprint is the first."""

    validity: str
    created: int
    expires: Optional[int]
    algorithm: str
    fingerprints: List[str]
    user_ids: List[str]


def list_keys(home: Path) -> Tuple[List[Listed], Mapping[str, Strength]]:
    """The public keys of a home, and the strength of each key and subkey by fingerprint."""
    listing = gnupg_home.gpg(home, ["--with-colons", "--fixed-list-mode", "--list-keys"])
    if listing.returncode not in (0, 2):
        raise VerificationError(f"GnuPG cannot list keys: {listing.explain()}", where=str(home))
    readings, strengths = parse_listing(listing.stdout.decode("utf-8", "replace"))
    return [one for one in readings if one.fingerprints], strengths


def export_keys(home: Path, listed: Iterable[Listed]) -> Tuple[PublicKey, ...]:
    """These keys of a home, with their armored packets."""
    exported = gnupg_home.gpg(home, ["--export"])
    if exported.returncode not in (0, 2):
        raise VerificationError(f"GnuPG cannot export keys: {exported.explain()}", where=str(home))
    armored = {
        fingerprint(packets[0]): armor(b"".join(packet.raw for packet in packets), b"PGP PUBLIC KEY BLOCK")
        for packets in split_keys(exported.stdout, where="GnuPG's export")
    }
    return tuple(
        PublicKey(
            fingerprint=reading.fingerprints[0],
            user_ids=tuple(reading.user_ids),
            created=reading.created,
            expires=reading.expires,
            revoked=reading.validity == "r",
            algorithm=reading.algorithm,
            subkeys=tuple(reading.fingerprints[1:]),
            armored=armored[reading.fingerprints[0]],
        )
        for reading in listed
        if reading.fingerprints[0] in armored
    )


def parse_listing(text: str) -> Tuple[List[Listed], Dict[str, Strength]]:
    """The records of ``gpg --with-colons --fixed-list-mode --list-keys``."""
    readings: List[Listed] = []
    strengths: Dict[str, Strength] = {}
    strength = Strength("", 0)
    for line in text.split("\n"):
        fields = line.split(":")
        if fields[0] in ("pub", "sub"):
            fields += [""] * (18 - len(fields))
            family = ALGORITHMS.get(_number(fields[3]), fields[16] or f"algorithm-{fields[3]}")
            strength = Strength(family, _number(fields[2]))
            if fields[0] == "pub":
                name = f"{family}{fields[2]}" if family in WEAK_BELOW_BITS else fields[16] or family
                expires = _number(fields[6]) if fields[6] else None
                readings.append(Listed(fields[1], _number(fields[5]), expires, name, [], []))
        elif fields[0] == "fpr" and readings:
            readings[-1].fingerprints.append(fields[9])
            strengths[fields[9]] = strength
        elif fields[0] == "uid" and readings:
            readings[-1].user_ids.append(_ESCAPE.sub(lambda match: chr(int(match[1], 16)), fields[9]))
    return readings, strengths


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
