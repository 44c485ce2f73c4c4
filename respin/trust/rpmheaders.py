"""An RPM's signature over its header, checked without the payload: what the headers alone can prove.

The header names the digest of every file, with its mode, owner and capabilities. So a good signature over it says what
the package's files must be, wherever they lie now.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from respin.byteview import BytesView
from respin.errors import VerificationError
from respin.formats.rpmfile import RpmFile, RpmHeader
from respin.formats.rpmfile.package import LEAD_SIZE
from respin.trust.model import Role, TrustedSignature
from respin.trust.store import TrustStore


@dataclass(frozen=True)
class SignedHeader:
    """A package's header and the trusted signature over it."""

    header: RpmHeader
    signer: TrustedSignature


def verify_header(
    signature_header: bytes, header: bytes, trust: TrustStore, *, where: str, tmpdir: Path
) -> SignedHeader:
    """Judge a package by its signature header and main header, both as they stand in the RPM.

    Every signature over the header alone must count, and there must be one; signatures over the payload cannot be
    checked here and don't count. Raises MalformedError, VerificationError or PolicyError.
    """
    lead = b"\xed\xab\xee\xdb" + bytes(74) + b"\0\5" + bytes(LEAD_SIZE - 80)
    view = BytesView(lead + signature_header + bytes(-len(signature_header) % 8) + header, where)
    package = RpmFile.parse(view)
    if package.signature.raw != signature_header or package.header.raw != header:
        raise VerificationError("the headers are not those of one package", where=where, finding="malformed")
    signer = None
    with trust.keyring(Role.RPM, tmpdir) as keyring:
        for signature in package.signatures():
            if not signature.covers_payload:
                judged = keyring.verify_detached(signature.packets, package.header.raw)
                counted = trust.judge(Role.RPM, package.header.name, judged, where=where)
                signer = signer or counted
    if signer is None:
        raise VerificationError(
            "no signature covers the header alone, so the package cannot be judged without its payload",
            where=where,
            remedy="have the package signed by rpm 4.14 or newer",
            finding="unsigned",
        )
    return SignedHeader(package.header, signer)
