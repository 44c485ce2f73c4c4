"""What is said about keys and signatures: verdict words, and frozen values that carry them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Mapping, Optional, Tuple

# RFC 4880, section 9.4, and the additions of RFC 9580 that GnuPG 2.2 does not know
HASHES: Mapping[int, str] = {
    1: "md5",
    2: "sha1",
    3: "ripemd160",
    8: "sha256",
    9: "sha384",
    10: "sha512",
    11: "sha224",
    12: "sha3-256",
    14: "sha3-512",
}
WEAK_HASHES = frozenset({"md5", "sha1", "ripemd160"})
# RFC 4880, section 9.1, RFC 6637 and RFC 9580
ALGORITHMS: Mapping[int, str] = {1: "rsa", 2: "rsa", 3: "rsa", 16: "elgamal", 17: "dsa", 18: "ecdh", 19: "ecdsa"}
WEAK_BELOW_BITS: Mapping[str, int] = {"rsa": 2048, "dsa": 2048, "elgamal": 2048}


class Verdict(str, Enum):
    """One word for a signature or a signed file; everything but GOOD is a refusal."""

    GOOD = "GOOD"
    UNSIGNED = "UNSIGNED"
    NOKEY = "NOKEY"
    EXPKEY = "EXPKEY"
    REVKEY = "REVKEY"
    FUTURE = "FUTURE"
    WEAK = "WEAK"
    BADSIG = "BADSIG"
    BADDIGEST = "BADDIGEST"
    PAYLOAD_NOT_COVERED = "PAYLOAD-NOT-COVERED"
    MALFORMED = "MALFORMED"
    UNSUPPORTED = "UNSUPPORTED"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class PublicKey:
    """A public key as GnuPG understands it.

    Fingerprints are those of version 4 keys: 40 upper-case hex digits. Times are seconds since 1970; ``expires`` is
    None for a key without an end. ``algorithm`` is GnuPG's name for it, as ``rsa3072`` or ``ed25519``. ``armored``
    is the whole key with its user ids and subkeys, as GnuPG keeps it.
    """

    fingerprint: str
    user_ids: Tuple[str, ...]
    created: int
    expires: Optional[int]
    revoked: bool
    algorithm: str
    subkeys: Tuple[str, ...]
    armored: bytes


@dataclass(frozen=True)
class Signature:
    """What is known of one signature.

    ``primary`` is the fingerprint of the primary key and only set when GnuPG validated the signature with it;
    ``signing_key`` is the key or subkey that made it (a bare key id when the key is unknown). ``problems`` holds every
    objection, of which ``verdict`` is the first; it is empty for GOOD. ``validated`` says that the bytes are what the
    key signed, whatever else is wrong: no opt-in may ever accept a signature without it.
    """

    verdict: Verdict
    primary: Optional[str]
    signing_key: Optional[str]
    created: Optional[int]
    hash_name: Optional[str]
    detail: str
    problems: Tuple[Verdict, ...] = ()
    validated: bool = False


def refused(verdict: Verdict, detail: str, *, signing_key: Optional[str] = None) -> Signature:
    """A signature that was not validated."""
    return Signature(verdict, None, signing_key, None, None, detail, (verdict,))
