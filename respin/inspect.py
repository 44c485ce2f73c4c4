"""What an ISO is: product, layout, kernel, boot setup, plugins, provenance. Works on stock ISOs, and proves nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from respin.byteview import ByteView
from respin.digest import sha256_view
from respin.errors import RespinError, UnsupportedError
from respin.formats import mediacheck
from respin.formats.iso9660.image import IsoImage
from respin.medium.bootfiles import find_boot_files
from respin.node import selinux
from respin.node.image import Identity, NodeImage, ReadableNode, identify_anyway, open_readable, unsupported_layout
from respin.node.knownprofiles import built_in
from respin.node.profile import Profile
from respin.node.rootimage import ErofsRoot
from respin.node.rpmdb import RpmDatabase, locate, require_writable
from respin.provenance import sidecar, statement, testresult
from respin.provenance.carrier import find_iso
from respin.root.growth import describe
from respin.safepath import show
from respin.verify.statement import is_respun, read_statement


@dataclass(frozen=True)
class Inspection:
    """What was found. ``node`` and ``provenance`` are None when there is none, with the reason beside.

    A ``node`` with a reason is one that can be read and not built on.

    ``beside`` are the statements in the file beside the ISO, of what others say about it.
    ``boot_files`` are all copies of the boot configuration, ``boot_images`` the EFI images that were looked into.
    ``carrier`` is what a respun ISO lies on if that is larger; ``carrier_reason`` says what is wrong with it.
    """

    iso: Mapping[str, Any]
    identity: Identity
    media_check: bool
    node: Optional[Mapping[str, Any]]
    node_reason: str
    provenance: Optional[Mapping[str, Any]]
    provenance_reason: str
    beside: Tuple[Mapping[str, Any], ...]
    beside_reason: str
    carrier: Optional[Mapping[str, Any]] = None
    carrier_reason: str = ""
    boot_files: Tuple[Mapping[str, Any], ...] = ()
    boot_images: Tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> Dict[str, Any]:
        """The inspection as one document."""
        profile = self.identity.profile
        return {
            "schema": "respin.inspect/1",
            "iso": dict(self.iso),
            "media_check": self.media_check,
            "profile": None if profile is None else profile.to_json(),
            "version": dict(self.identity.version),
            "root_image": self.identity.root_image,
            "places": self.identity.places.to_json(),
            "boot_files": [dict(one) for one in self.boot_files],
            "boot_images": [dict(one) for one in self.boot_images],
            "layout": self.identity.layout,
            "node": None if self.node is None else dict(self.node),
            "node_reason": self.node_reason,
            "provenance": None if self.provenance is None else dict(self.provenance),
            "provenance_reason": self.provenance_reason,
            "beside": [dict(one) for one in self.beside],
            "beside_reason": self.beside_reason,
            "carrier": None if self.carrier is None else dict(self.carrier),
            "carrier_reason": self.carrier_reason,
        }


def inspect(view: ByteView, beside: bytes = b"", profiles: Sequence[Profile] = ()) -> Inspection:
    """Inspect an ISO, and ``beside``, the ``.intoto.jsonl`` beside it. Nothing is verified, mounted or executed.

    ``profiles`` are those that may fit; without any it is the ones that respin brings along.
    Raises UnsupportedError when it is no ISO 9660 image at all, MalformedError when its directories are damaged.
    """
    carrier: Optional[Mapping[str, Any]] = None
    carrier_reason = ""
    try:
        found = find_iso(view)
        view, carrier = found.view, None if found.carrier is None else found.carrier.to_json()
    except RespinError as error:
        carrier_reason = str(error)
    iso = IsoImage.open(view)
    profiles = profiles or built_in()
    identity = identify_anyway(iso, profiles)  # opening the Node says why, if no profile fits
    node: Optional[Mapping[str, Any]] = None
    node_reason = ""
    try:
        opened = open_readable(view, profiles)
        identity, node = opened.identity, _describe_node(opened)
        node_reason = _why_not(opened)
    except RespinError as error:
        node_reason = str(error)
    provenance: Optional[Mapping[str, Any]] = None
    provenance_reason = "stock: the ISO carries no statement of respin"
    if is_respun(iso):
        try:
            provenance, provenance_reason = _describe_provenance(iso), "not verified; `respin verify` does that"
        except RespinError as error:
            provenance_reason = str(error)
    statements: Tuple[Mapping[str, Any], ...] = ()
    beside_reason = "not verified"
    try:
        statements = _describe_beside(view, beside)
    except RespinError as error:
        beside_reason = str(error)
    return Inspection(
        iso.describe(),
        identity,
        mediacheck.read(view) is not None,
        node,
        node_reason,
        provenance,
        provenance_reason,
        statements,
        beside_reason,
        carrier,
        carrier_reason,
        *_describe_boot(iso, identity),
    )


def _why_not(node: ReadableNode) -> str:
    """Why nothing can be built on the Node, or an empty string."""
    if not isinstance(node, NodeImage):
        return str(unsupported_layout(node.identity, node.iso))
    try:
        require_writable(node.root, locate(node.root, node.profile.rpm_databases))
    except UnsupportedError as error:
        return str(error)
    return ""


def _describe_node(node: ReadableNode) -> Mapping[str, Any]:
    database: Optional[RpmDatabase] = None
    with suppress(UnsupportedError):
        database = locate(node.root, node.profile.rpm_databases)
    if isinstance(node.image, ErofsRoot):
        compression, block_size = node.image.erofs.compression, node.image.erofs.superblock.block_size
    else:
        compression, block_size = node.image.squashfs.compressor.name.lower(), node.image.squashfs.block_size
    return {
        "inner_image": node.image.inner_path or None,
        "inner_size": node.image.inner_size or None,
        "compression": compression,
        "block_size": block_size,
        "kernels": list(node.kernel_releases),
        "rpm_database": None if database is None else database.file,
        "rpm_backend": None if database is None else database.backend,
        "selinux": selinux.describe(node.root),
    }


def _describe_boot(iso: IsoImage, identity: Identity) -> Tuple[Tuple[Mapping[str, Any], ...], ...]:
    """Every copy of the boot configuration with its entries, and every EFI image with the ways that lead to it."""
    try:
        found = find_boot_files(iso, identity.profile)
    except RespinError as error:
        return (), ({"name": iso.name, "reason": str(error)},)
    files = tuple(
        {
            "place": copy.place,
            "syntax": copy.config.kind.value,
            "entries": [
                {
                    "title": show(one.title),
                    "kernel": show(one.kernel),
                    "arguments": [show(word) for word in one.arguments],
                }
                for one in copy.config.entries
            ],
        }
        for copy in found.copies
    )
    images = [{"name": one.name, "offset": one.offset, "roads": list(one.roads)} for one in found.images]
    return files, (*images, *({"name": where, "reason": what} for where, what in found.closed))


def _describe_provenance(iso: IsoImage) -> Mapping[str, Any]:
    raw, envelope = read_statement(iso)
    claims = statement.parse(raw, where=f"{iso.view.name}:/respin.json")
    return {
        "base": {"name": claims.base_name, "sha256": claims.base_sha256, "verified": claims.base_kind},
        "plugins": [dict(one) for one in claims.plugins],
        "packages": [dict(one) for one in claims.packages],
        "changes": len(claims.changes),
        "grown": describe(claims.growth),
        "builder": dict(claims.builder),
        "signatures": [signature.keyid for signature in envelope.signatures],
    }


def _describe_beside(view: ByteView, bundle: bytes) -> Tuple[Mapping[str, Any], ...]:
    """The statements of a bundle. Those of test results also say whether they are about these bytes."""
    where = f"beside {view.name}"
    found = [testresult.describe(envelope, where=where) for _, envelope in sidecar.envelopes(bundle, where=where)]
    if any(one["predicate_type"] == sidecar.TEST_RESULT for one in found):
        digest = sha256_view(view)
        for one in found:
            one["this_iso"] = digest in [subject["sha256"] for subject in one["subjects"]]
    return tuple(found)
