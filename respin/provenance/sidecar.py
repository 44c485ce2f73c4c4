"""What stands beside a respun ISO: DSSE envelopes over a statement with its plain digest, and a signed CHECKSUM.

``OUT.iso.intoto.jsonl`` holds one envelope a line (in-toto "attestation bundle"); ``OUT.iso.CHECKSUM`` works with
``sha256sum -c`` and is what a base's CHECKSUM is for the next respin.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List, Protocol, Tuple

from respin.errors import MalformedError
from respin.formats import dsse, intoto
from respin.formats.openpgp import Signer
from respin.limits import LIMITS

TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
LIMIT = 4 * LIMITS.statement  # bytes of an ``.intoto.jsonl``


class StatementSigner(Protocol):
    """Whoever can sign a statement; ``fingerprint`` is what the signature is filed under."""

    @property
    def fingerprint(self) -> str:
        """The full fingerprint of the key."""

    def sign_detached(self, data: bytes) -> bytes:
        """An armored detached OpenPGP signature over ``data``."""


def sign(statement: bytes, signer: StatementSigner) -> dsse.Envelope:
    """An envelope with one signature over ``statement``."""
    return countersign(dsse.Envelope(statement, dsse.IN_TOTO), signer)


def countersign(envelope: dsse.Envelope, signer: StatementSigner) -> dsse.Envelope:
    """``envelope`` with one signature more; one that is filed under the same key is replaced."""
    signature = dsse.EnvelopeSignature(signer.fingerprint, signer.sign_detached(envelope.signed_bytes))
    return envelope.with_signature(signature)


def outside(inside: bytes, iso_name: str, iso_sha256: str) -> bytes:
    """The statement inside an ISO, with the ISO's plain name and digest as its subject."""
    statement = intoto.parse(inside, where="the statement")
    subject = intoto.Resource(name=iso_name, digest={"sha256": iso_sha256})
    return intoto.build([subject], statement.predicate_type, statement.predicate).raw


def attestation(inside: bytes, iso_name: str, iso_sha256: str, signer: StatementSigner) -> bytes:
    """The ``.intoto.jsonl`` of a new ISO."""
    return sign(outside(inside, iso_name, iso_sha256), signer).encode() + b"\n"


def renewed(bundle: bytes, statement: bytes, signer: StatementSigner, *, where: str) -> bytes:
    """An ``.intoto.jsonl`` with a further signature over ``statement``, which names the ISO's present digest.

    What others signed is kept: over the same statement in the same envelope, over an earlier one (of the ISO before it
    was countersigned) in lines before it, and so are results of tests, of bytes that were what they were. Other lines
    that only this signer signed are replaced. Raises MalformedError for a file that is no such bundle.
    """
    lines: List[bytes] = []
    envelope = dsse.Envelope(statement, dsse.IN_TOTO)
    for line, found in envelopes(bundle, where=where):
        if found.payload == statement:
            envelope = found
        elif {signature.keyid for signature in found.signatures} != {signer.fingerprint} or _is_test_result(found):
            lines.append(line)
    lines.append(countersign(envelope, signer).encode())
    return b"".join(line + b"\n" for line in lines)


def appended(bundle: bytes, statement: bytes, signer: StatementSigner, *, where: str) -> bytes:
    """An ``.intoto.jsonl`` with one statement more; all lines that were there stay as they are.

    A statement that is there already gets a further signature. Raises MalformedError for a file that is no such bundle.
    """
    lines: List[bytes] = []
    envelope = dsse.Envelope(statement, dsse.IN_TOTO)
    for line, found in envelopes(bundle, where=where):
        if found.payload == statement:
            envelope = found
        else:
            lines.append(line)
    lines.append(countersign(envelope, signer).encode())
    return b"".join(line + b"\n" for line in lines)


def envelopes(bundle: bytes, *, where: str) -> Iterator[Tuple[bytes, dsse.Envelope]]:
    """The lines of an ``.intoto.jsonl`` and what they hold; MalformedError for one that is no DSSE envelope."""
    for number, line in enumerate(bundle.splitlines(), 1):
        yield line, dsse.parse(line, where=f"{where}, line {number}")


def _is_test_result(envelope: dsse.Envelope) -> bool:
    try:
        return intoto.parse(envelope.payload, where="a statement").predicate_type == TEST_RESULT
    except MalformedError:
        return False


def checksum_text(name: str, sha256: str, size: int) -> bytes:
    """The ``.CHECKSUM`` of a file before it is signed: BSD style with the size as a comment."""
    return f"# {name}: {size} bytes\nSHA256 ({name}) = {sha256}\n".encode()


def checksum(name: str, sha256: str, size: int, signer: Signer) -> bytes:
    """The ``.CHECKSUM``, clearsigned."""
    return signer.clearsign(checksum_text(name, sha256, size))


def paths(iso: Path) -> "tuple[Path, Path]":
    """The names of both files for an ISO."""
    return iso.with_name(iso.name + ".intoto.jsonl"), checksum_path(iso)


def checksum_path(path: Path) -> Path:
    """The name of the CHECKSUM for a file."""
    return path.with_name(path.name + ".CHECKSUM")
