"""Whether a bundle agrees with its own manifest: members, sizes, digests. Says nothing about who made it."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

from respin.bundle import packing
from respin.bundle.manifest import Manifest, RpmMember
from respin.bundle.members import Bundle, Member
from respin.errors import MalformedError, VerificationError
from respin.formats.rpmfile import RpmHeader


def manifest_member(bundle: Bundle) -> Member:
    """The manifest's member; MalformedError when the bundle has none."""
    member = bundle.member(packing.MANIFEST)
    if member is None:
        raise MalformedError(
            f"there is no {packing.MANIFEST} in it",
            where=str(bundle.path),
            remedy="a bundle is made by `respin bundle create`",
            finding="not-a-bundle",
        )
    return member


def place(path: Path, member: str) -> str:
    """How a message calls a member."""
    return f"{path}: {member}"


def member_name(header: RpmHeader) -> str:
    """The name of a package's file in a bundle: ``rpms/NAME-VERSION-RELEASE.ARCH.rpm``, without the epoch."""
    return f"{packing.RPMS}{header.name}-{header.version}-{header.release}.{header.arch}.rpm"


def check_files(manifest: Manifest, bundle: Bundle) -> Mapping[str, Member]:
    """The files that the manifest names, by name.

    Raises VerificationError unless the bundle holds exactly those, with the contents the manifest gives them.
    """
    there: Mapping[str, Member] = {
        member.name: member for member in bundle.members if member.name not in (packing.MANIFEST, packing.SIGNATURE)
    }
    for file in manifest.files:
        member = there.get(file.path)
        if member is None:
            raise _differs("is missing", bundle, file.path)
        if (member.size, member.sha256) != (file.size, file.sha256):
            raise _differs("is not the file that the manifest names", bundle, file.path)
    for name in there.keys() - {file.path for file in manifest.files}:
        raise _differs("is not named by the manifest", bundle, name)
    return there


def check_identity(rpm: RpmMember, header: RpmHeader, bundle: Bundle) -> None:
    """Raise VerificationError unless the package is the one the manifest names and its file is called after it."""
    if header.sha256 != rpm.header_sha256:
        raise VerificationError(
            "the package has another header than the manifest says",
            where=place(bundle.path, rpm.path),
            remedy="have the bundle made again with `respin bundle create`",
            finding="header-mismatch",
        )
    if (header.nevra, member_name(header)) != (rpm.nevra, rpm.path):
        raise VerificationError(
            f"the package is {header.nevra}, the manifest says {rpm.nevra}",
            where=place(bundle.path, rpm.path),
            remedy="get the bundle again from its maker",
            finding="nevra-mismatch",
        )


def _differs(what: str, bundle: Bundle, name: str) -> VerificationError:
    return VerificationError(
        f"the file {what}",
        where=place(bundle.path, name),
        remedy="the bundle was changed after it was made; get it again from its maker",
        finding="digest-mismatch",
    )
