"""The evidence in a respun ISO: what others signed and the statement speaks of. Nobody has to believe its maker.

``/respin.evidence`` is a canonical ustar archive (as bundles are packed) with the vendor's CHECKSUM, and for each
plugin its manifest, the manifest's signature, and of each of its RPMs the main header and the signatures over it:

    CHECKSUM                  absent when the base was pinned
    1/manifest.json           the first plugin, in the order of the statement
    1/manifest.json.asc
    1/rpms/1.header           the manifest's first RPM
    1/rpms/1.header.1.sig     the first OpenPGP signature over that

Of an RPM's signature header nothing else is kept: nobody signs it, so it could hold anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Mapping, Tuple

from respin.bundle import Manifest, VerifiedBundle, effects, lint, parse_manifest
from respin.bundle.packing import BLOCK, header, padding
from respin.bundle.schema import subject_name
from respin.byteview import ByteView
from respin.errors import MalformedError, VerificationError
from respin.formats.rpmfile import RpmHeader
from respin.limits import LIMITS
from respin.safepath import relative
from respin.trust import PLUGIN, Role, TrustedSignature, TrustStore
from respin.trust.rpmheaders import header_signatures, verify_header

CHECKSUM = "CHECKSUM"
MANIFEST, SIGNATURE = "manifest.json", "manifest.json.asc"
_OCTAL = re.compile(rb"[0-7]{11}\0")


@dataclass(frozen=True)
class ProvenPackage:
    """A package as its signed header describes it; ``sha256`` of the whole RPM is what the signed manifest says."""

    header: RpmHeader
    sha256: str
    signer: TrustedSignature


@dataclass(frozen=True)
class ProvenBundle:
    """A bundle as its signed manifest describes it; ``sha256`` of the whole bundle is what the statement says."""

    path: Path
    manifest: Manifest
    sha256: str
    signer: TrustedSignature
    rpms: Tuple[ProvenPackage, ...]


def pack(checksum: bytes, bundles: Iterable[VerifiedBundle]) -> bytes:
    """The evidence of a build."""
    members: Dict[str, bytes] = {CHECKSUM: checksum} if checksum else {}
    for number, bundle in enumerate(bundles, 1):
        members[f"{number}/{MANIFEST}"] = bundle.manifest_bytes
        members[f"{number}/{SIGNATURE}"] = bundle.signature_bytes
        for index, rpm in enumerate(bundle.rpms, 1):
            members[f"{number}/rpms/{index}.header"] = rpm.header.raw
            for count, packets in enumerate(header_signatures(rpm.signature_header, rpm.header.raw), 1):
                members[f"{number}/rpms/{index}.header.{count}.sig"] = packets
    return _archive(members)


def unpack(view: ByteView) -> Mapping[str, bytes]:
    """The members of the evidence; MalformedError unless it is the canonical packing of them and nothing more."""
    if view.size > LIMITS.evidence:
        raise _bad("is larger than the limit", view)
    data = view.read(0, view.size)
    members: Dict[str, bytes] = {}
    position = 0
    while data[position : position + BLOCK] != bytes(BLOCK):
        block = data[position : position + BLOCK]
        if len(block) < BLOCK or not _OCTAL.fullmatch(block[124:136]):
            raise _bad(f"has no member at byte {position}", view)
        name = relative(block[:100].rstrip(b"\0").decode("ascii", "replace"), where=view.name)
        size = int(block[124:135], 8)
        position += BLOCK
        if name in members or position + size > len(data):
            raise _bad(f"has a member {name!r} twice, or one that is longer than the archive", view)
        members[name] = data[position : position + size]
        position += size + padding(size)
    if _archive(members) != data:
        raise _bad("is not the canonical packing of its members", view)
    return members


def verify_bundles(
    members: Mapping[str, bytes], digests: Mapping[str, str], trust: TrustStore, *, where: str, tmpdir: Path
) -> Tuple[ProvenBundle, ...]:
    """Judge the plugins' evidence by the trust store; ``digests`` are the bundles' by file name, as the statement says.

    Raises MalformedError, VerificationError or PolicyError; every member must be used, every bundle be there.
    """
    left = set(members) - {CHECKSUM}
    found: List[ProvenBundle] = []
    for number, file_name in enumerate(digests, 1):
        place = f"{where}:{number}/{MANIFEST}"
        manifest_bytes = _member(members, f"{number}/{MANIFEST}", where)
        signature = _member(members, f"{number}/{SIGNATURE}", where)
        subject = subject_name(manifest_bytes, where=place)
        signer = trust.verify_detached(Role.PLUGIN, subject, signature, manifest_bytes, where=place, tmpdir=tmpdir)
        manifest = parse_manifest(manifest_bytes, where=place)
        if manifest.file_name != file_name:
            raise VerificationError(f"it is the manifest of {manifest.file_name}", where=place, finding="evidence")
        trust.require_recent(PLUGIN, manifest.name, manifest.version, manifest.release, where=place)
        left -= {f"{number}/{MANIFEST}", f"{number}/{SIGNATURE}"}
        packages = []
        for index, rpm in enumerate(manifest.rpms, 1):
            main = f"{number}/rpms/{index}.header"
            signatures = _numbered(members, main)
            proven = verify_header(
                [members[one] for one in signatures],
                _member(members, main, where),
                trust,
                where=f"{where}:{main}",
                tmpdir=tmpdir,
            )
            if (proven.header.nevra, proven.header.sha256) != (rpm.nevra, rpm.header_sha256):
                raise VerificationError(
                    f"it is a header of {proven.header.nevra}, and not the one that the manifest names",
                    where=f"{where}:{main}",
                    finding="evidence",
                )
            packages.append(ProvenPackage(proven.header, rpm.sha256, proven.signer))
            left -= {main, *signatures}
        headers = [package.header for package in packages]
        lint.check(manifest, headers, where=place)
        effects.check(manifest.effects, effects.derive(headers), where=place)
        found.append(ProvenBundle(Path(file_name), manifest, digests[file_name], signer, tuple(packages)))
    if left:
        raise VerificationError(
            f"the evidence holds {sorted(left)[0]!r}, which the statement says nothing of",
            where=where,
            finding="evidence",
        )
    return tuple(found)


def _numbered(members: Mapping[str, bytes], main: str) -> List[str]:
    """The names of the signatures over a header, from number one on without a gap."""
    names: List[str] = []
    while f"{main}.{len(names) + 1}.sig" in members:
        names.append(f"{main}.{len(names) + 1}.sig")
    return names


def _member(members: Mapping[str, bytes], name: str, where: str) -> bytes:
    if name not in members:
        raise VerificationError(f"the evidence lacks {name!r}", where=where, finding="evidence")
    return members[name]


def _archive(members: Mapping[str, bytes]) -> bytes:
    return b"".join(_pieces(members))


def _pieces(members: Mapping[str, bytes]) -> Iterator[bytes]:
    for name in sorted(members):
        yield header(name, len(members[name]))
        yield members[name]
        yield bytes(padding(len(members[name])))
    yield bytes(2 * BLOCK)


def _bad(what: str, view: ByteView) -> MalformedError:
    return MalformedError(f"the evidence {what}", where=view.name, finding="bad-evidence")
