"""What stands beside a respun ISO: a DSSE envelope over a statement with its plain digest, and a clearsigned CHECKSUM.

``OUT.iso.intoto.jsonl`` holds one envelope a line (in-toto "attestation bundle"); ``OUT.iso.CHECKSUM`` works with
``sha256sum -c`` and is what a base's CHECKSUM is for the next respin.
"""

from __future__ import annotations

from pathlib import Path

from respin.formats import dsse, intoto
from respin.formats.openpgp import Signer


def sign(statement: bytes, signer: Signer) -> dsse.Envelope:
    """An envelope with one signature over ``statement``."""
    envelope = dsse.Envelope(statement, dsse.IN_TOTO)
    signature = dsse.EnvelopeSignature(signer.fingerprint, signer.sign_detached(envelope.signed_bytes))
    return envelope.with_signature(signature)


def attestation(inside: bytes, iso_name: str, iso_sha256: str, signer: Signer) -> bytes:
    """The ``.intoto.jsonl``: the statement inside the ISO with the ISO's plain name and digest as its subject."""
    statement = intoto.parse(inside, where="the statement")
    subject = intoto.Resource(name=iso_name, digest={"sha256": iso_sha256})
    outside = intoto.build([subject], statement.predicate_type, statement.predicate)
    return sign(outside.raw, signer).encode() + b"\n"


def checksum(iso_name: str, iso_sha256: str, size: int, signer: Signer) -> bytes:
    """The ``.CHECKSUM``: BSD style with the size as a comment, clearsigned."""
    return signer.clearsign(f"# {iso_name}: {size} bytes\nSHA256 ({iso_name}) = {iso_sha256}\n".encode())


def paths(iso: Path) -> "tuple[Path, Path]":
    """The names of both files for an ISO."""
    return iso.with_name(iso.name + ".intoto.jsonl"), iso.with_name(iso.name + ".CHECKSUM")
