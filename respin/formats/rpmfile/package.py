"""An RPM file as a whole: where its parts lie, and what they say.

Lead (96 bytes, obsolete), signature header, padding to 8 bytes, main header, payload up to the end of the file. Nobody
signs the lead and the signature header: they say where to look and which signatures to check, and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError
from respin.formats.rpmfile import tags
from respin.formats.rpmfile.content import rpm_header
from respin.formats.rpmfile.header import Header
from respin.formats.rpmfile.model import RpmHeader

LEAD_SIZE = 96
_LEAD_MAGIC = b"\xed\xab\xee\xdb"
_SIGNATURE_IS_HEADER = 5
_HEADER_SIGNATURES = ((tags.SIG_DSAHEADER, "DSAHEADER"), (tags.SIG_RSAHEADER, "RSAHEADER"))
_WHOLE_SIGNATURES = ((tags.SIG_PGP, "SIG_PGP"), (tags.SIG_GPG, "SIG_GPG"))


@dataclass(frozen=True)
class PackageSignature:
    """One OpenPGP signature: its tag's name, its packets, and whether it covers the payload beside the header."""

    tag: str
    packets: bytes
    covers_payload: bool


@dataclass(frozen=True)
class RpmFile:
    """The parts of an RPM file; ranges are (first byte, byte behind the last)."""

    lead: Tuple[int, int]
    signature_range: Tuple[int, int]
    header_range: Tuple[int, int]
    payload_range: Tuple[int, int]
    signature: Header
    header: RpmHeader

    @classmethod
    def parse(cls, view: ByteView) -> "RpmFile":
        """Read lead and headers of ``view``; the payload is not touched.

        Raises MalformedError for a file that is no RPM or whose headers are broken, UnsupportedError for packages
        without an immutable region. Nothing is verified.
        """
        if view.size < LEAD_SIZE or view.read(0, 4) != _LEAD_MAGIC:
            raise MalformedError("this is not an RPM package", where=view.name, remedy="check which file you named")
        (signature_type,) = struct.unpack(">H", view.read(78, 2))
        if signature_type != _SIGNATURE_IS_HEADER:
            raise MalformedError(f"the lead announces signature type {signature_type}", where=view.name)
        signature = Header.parse(view, LEAD_SIZE, signature=True)
        start = signature.end + -signature.end % 8
        header = Header.parse(view, start, signature=False)
        return cls(
            lead=(0, LEAD_SIZE),
            signature_range=(LEAD_SIZE, signature.end),
            header_range=(start, header.end),
            payload_range=(header.end, view.size),
            signature=signature,
            header=rpm_header(header, where=view.name),
        )

    def signatures(self) -> Tuple[PackageSignature, ...]:
        """Every OpenPGP signature of the signature header, in the order of their tags."""
        found: List[PackageSignature] = []
        for known, covers_payload in ((_HEADER_SIGNATURES, False), (_WHOLE_SIGNATURES, True)):
            for tag, name in known:
                packets = self.signature.binary(tag)
                if packets is not None:
                    found.append(PackageSignature(name, packets, covers_payload))
        for text in self.signature.strings(tags.SIG_OPENPGP):
            try:
                packets = base64.b64decode(text.encode("ascii", "strict"), validate=True)
            except (binascii.Error, UnicodeEncodeError) as error:
                raise MalformedError("an OPENPGP signature is not base64", where="signature header") from error
            found.append(PackageSignature("OPENPGP", packets, False))
        return tuple(found)

    def header_digests(self) -> Dict[str, str]:
        """Digests over the header range that the signature header gives: algorithm -> lower-case hex."""
        known = (
            (tags.SIG_SHA1HEADER, "sha1"), (tags.SIG_SHA256HEADER, "sha256"), (tags.SIG_SHA3_256HEADER, "sha3_256"),
        )  # fmt: skip
        return {name: self.signature.string(tag).lower() for tag, name in known if tag in self.signature}

    def whole_md5(self) -> Optional[bytes]:
        """The MD5 over header and payload that the signature header gives."""
        return self.signature.binary(tags.SIG_MD5)

    def whole_size(self) -> Optional[int]:
        """How long header and payload are together, in bytes, as the signature header says."""
        long = self.signature.integer(tags.SIG_LONGSIZE)
        return self.signature.integer(tags.SIG_SIZE) if long is None else long
