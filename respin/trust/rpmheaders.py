"""An RPM's signature over its header, checked without the payload: what the headers alone can prove.

The header names the digest of every file, with its mode, owner and capabilities. So a good signature over it says what
the package's files must be, wherever they lie now.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence, Tuple

from respin.byteview import BytesView
from respin.errors import VerificationError
from respin.formats.rpmfile import Header, RpmFile, RpmHeader
from respin.formats.rpmfile.content import rpm_header
from respin.formats.rpmfile.package import LEAD_SIZE
from respin.trust.model import Role, TrustedSignature
from respin.trust.store import TrustStore


@dataclass(frozen=True)
class SignedHeader:
    """A package's header and the trusted signature over it."""

    header: RpmHeader
    signer: TrustedSignature


def header_signatures(signature_header: bytes, header: bytes) -> Tuple[bytes, ...]:
    """The OpenPGP signatures over the main header alone that a package's signature header holds."""
    lead = b"\xed\xab\xee\xdb" + bytes(74) + b"\0\5" + bytes(LEAD_SIZE - 80)
    padding = bytes(-len(signature_header) % 8)
    package = RpmFile.parse(BytesView(lead + signature_header + padding + header, "the package"))
    return tuple(signature.packets for signature in package.signatures() if not signature.covers_payload)


def verify_header(
    signatures: Sequence[bytes], header: bytes, trust: TrustStore, *, where: str, tmpdir: Path
) -> SignedHeader:
    """Judge a package by its main header and the detached signatures over it.

    Every signature must count, and there must be one. Raises MalformedError, VerificationError or PolicyError.
    """
    if not signatures:
        raise VerificationError(
            "no signature covers the header alone, so the package cannot be judged without its payload",
            where=where,
            remedy="have the package signed by rpm 4.14 or newer",
            finding="unsigned",
        )
    parsed = Header.parse(BytesView(header, where), 0, signature=False)
    if parsed.raw != header:
        raise VerificationError("something follows the header", where=where, finding="malformed")
    package = rpm_header(parsed, where=where)
    keyring = trust.keyring(Role.RPM, tmpdir)
    judged = [keyring.verify_detached(signature, header) for signature in signatures]
    signers = [trust.judge(Role.RPM, package.name, one, where=where) for one in judged]
    return SignedHeader(package, signers[0])
