"""The statement of a respin: an in-toto Statement v1 with SLSA Provenance v1, deterministic and without times.

docs/reference/provenance.md describes every field. The statement names two digests that are known only when the ISO is
written, so it is made twice, first with placeholders of the same length, and its size is known before anything is laid
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from respin import __version__
from respin.errors import MalformedError
from respin.formats import intoto
from respin.node.base import VerifiedBase
from respin.node.protected import ProtectedDigest
from respin.node.selinux import PolicyId
from respin.plan import Bundle, InstallPlan
from respin.provenance import grown, purl
from respin.provenance.layout import EVIDENCE, RESTORE, SLOT, STATEMENT
from respin.provenance.medium import MediumRecord, parse_medium
from respin.provenance.subject import Written, describe_subject, parse_subject
from respin.root.delta import Delta, Entry
from respin.root.growth import Growth
from respin.strictjson import Fields

NESTED_BUILD, FLAT_BUILD = "urn:respin:build:nested:1", "urn:respin:build:flat:1"
BUILDER = "urn:respin:builder"
MAX_CHANGES = 500_000


@dataclass(frozen=True)
class IsoFacts:
    """What the statement says of the new ISO: what writing it found, the root image's size, what else is on it.

    ``growth`` is that of the image inside the root image, None if it has the vendor's size.
    """

    written: Written
    root_image_size: int
    restorable: bool
    media_check: bool
    medium: MediumRecord
    growth: Optional[Growth] = None


# Makes the statement from what writing found.
Composer = Callable[[Written], bytes]


@dataclass(frozen=True)
class Claims:
    """A statement's contents, as verification needs them."""

    subject_sha256: str
    iso_size: int
    partition_area: bytes
    media_check: bool
    base_sha256: str
    base_name: str
    base_kind: str
    base_signer: Optional[str]
    profile: str
    epoch: int
    architecture: str
    root_image: str
    root_image_size: int
    inner_image: str  # empty for a flat root
    plugins: Tuple[Mapping[str, Any], ...]
    packages: Tuple[Mapping[str, Any], ...]
    changes: Tuple[Entry, ...]
    protected: Mapping[str, ProtectedDigest]
    builder: Mapping[str, str]
    restorable: bool
    medium: MediumRecord
    growth: Optional[Growth] = None
    selinux: Optional[PolicyId] = None  # by which labels were computed

    @property
    def delta(self) -> Delta:
        """The declared changes of the root."""
        return Delta(self.changes)


def compose(
    base: VerifiedBase,
    plan: InstallPlan,
    delta: Delta,
    protected: Mapping[str, ProtectedDigest],
    toolchain: Mapping[str, str],
    iso: IsoFacts,
) -> bytes:
    """The statement's exact bytes."""
    node = plan.node
    signature = base.claim.signature
    external = {
        "base": {
            "name": base.claim.name,
            "product": node.identity.product,
            "volume_id": node.iso.volume_id,
        },
        "plugins": [bundle.manifest.file_name for bundle in plan.bundles],
        **iso.medium.external(),
    }
    base_annotations: Dict[str, Any] = {"respin_role": "base", "respin_verified": base.claim.kind}
    if signature is not None:
        base_annotations["respin_signer"] = signature.key.public.fingerprint
    dependencies = [
        intoto.Resource(name=base.claim.name, digest={"sha256": base.claim.sha256}, annotations=base_annotations)
    ]
    dependencies += [one for bundle in plan.bundles for one in _materials(bundle)]
    provenance = intoto.Provenance(
        intoto.BuildDefinition(
            build_type=NESTED_BUILD if node.image.inner_path else FLAT_BUILD,
            external_parameters=external,
            internal_parameters={
                "respin_architecture": plan.architecture,
                "respin_epoch": plan.epoch,
                "respin_profile": node.profile.id,
                **({"respin_inner_image": node.image.inner_path} if node.image.inner_path else {}),
            },
            resolved_dependencies=tuple(dependencies),
        ),
        intoto.RunDetails(
            builder_id=BUILDER,
            builder_version={"respin": __version__, **toolchain},
        ),
        extensions={
            "respin_changes": [entry.to_json() for entry in delta.entries],
            "respin_protected": {
                name: {"sha256": digest.sha256, "paths": digest.paths} for name, digest in protected.items()
            },
            "respin_root_image": {"path": node.squashfs_path, "size": iso.root_image_size},
            "respin_added_to_iso": list(_added(restorable=iso.restorable)),
            **iso.medium.extension(),
            **grown.encode(iso.growth),
            **({} if plan.selinux is None else {"respin_selinux": plan.selinux.id.to_json()}),
        },
    )
    subject = describe_subject(node.iso.volume_id or "iso", iso.written, media_check=iso.media_check)
    return intoto.build([subject], intoto.SLSA_PROVENANCE, provenance.to_json()).raw


def described(bundles: Sequence[Bundle]) -> Tuple[Tuple[Mapping[str, Any], ...], Tuple[Mapping[str, Any], ...]]:
    """Plugins and packages as :class:`Claims` has them, of bundles that somebody verified."""
    resources = [one for bundle in bundles for one in _materials(bundle)]
    plugins, packages = (
        tuple(_named(one) for one in resources if one.annotations["respin_role"] == role)
        for role in ("plugin", "package")
    )
    return plugins, packages


def _materials(bundle: Bundle) -> List[intoto.Resource]:
    """A bundle and its packages."""
    plugin = intoto.Resource(
        name=bundle.manifest.file_name,
        digest={"sha256": bundle.sha256},
        annotations={
            "respin_role": "plugin",
            "respin_signer": bundle.signer.key.public.fingerprint,
            "respin_tier": bundle.signer.key.tier,
        },
    )
    packages = [
        intoto.Resource(
            name=rpm.header.nevra,
            uri=purl.package_url(rpm.header, bundle.manifest.vendor),
            digest={"sha256": rpm.sha256},
            annotations={
                "respin_role": "package",
                "respin_bundle": bundle.manifest.file_name,
                "respin_signer": rpm.signer.key.public.fingerprint,
            },
        )
        for rpm in bundle.rpms
    ]
    return [plugin, *packages]


def parse(data: bytes, *, where: str) -> Claims:
    """The claims of a statement that respin wrote; MalformedError for any other."""
    statement = intoto.parse(data, where=where)
    provenance = statement.provenance(where=where)
    definition = provenance.build_definition
    if definition.build_type not in (NESTED_BUILD, FLAT_BUILD) or len(statement.subjects) != 1:
        raise MalformedError(
            f"the statement is of build type {definition.build_type}, which this respin does not know", where=where
        )
    internal = Fields(definition.internal_parameters, where=where, place="internalParameters", finding="bad-statement")
    by_role: Dict[str, List[intoto.Resource]] = {"base": [], "plugin": [], "package": []}
    for dependency in definition.resolved_dependencies:
        role = dependency.annotations.get("respin_role")
        if role not in by_role or not dependency.sha256:
            raise MalformedError("a dependency has no known role or no digest", where=where, finding="bad-statement")
        by_role[role].append(dependency)
    if len(by_role["base"]) != 1 or provenance.run_details.byproducts:
        raise MalformedError("the statement must name one base and no byproducts", where=where)
    base = by_role["base"][0]
    asked = definition.external_parameters
    said = asked.get("base")
    if asked.get("plugins") != [one.name for one in by_role["plugin"]] or not isinstance(said, dict):
        raise MalformedError("externalParameters name other plugins than the dependencies", where=where)
    if said.get("name") != base.name:
        raise MalformedError("externalParameters name another base than the dependencies", where=where)
    extensions = Fields(provenance.extensions, where=where, place="predicate", finding="bad-statement")
    protected = extensions.fields("respin_protected")
    changes = extensions.array("respin_changes", limit=MAX_CHANGES)
    image = extensions.fields("respin_root_image")
    media_check, size, area = parse_subject(statement.subjects[0], where)
    return Claims(
        subject_sha256=statement.subjects[0].sha256,
        iso_size=size,
        partition_area=area,
        media_check=media_check,
        base_sha256=base.sha256,
        base_name=base.name,
        base_kind=str(base.annotations.get("respin_verified", "")),
        base_signer=base.annotations.get("respin_signer"),
        profile=internal.text("respin_profile"),
        epoch=internal.integer("respin_epoch"),
        architecture=internal.text("respin_architecture"),
        inner_image=_inner_image(internal, definition.build_type),
        root_image=image.text("path"),
        root_image_size=image.integer("size"),
        plugins=tuple(_named(one) for one in by_role["plugin"]),
        packages=tuple(_named(one) for one in by_role["package"]),
        changes=_entries(changes, where),
        protected={
            name: ProtectedDigest(one.sha256("sha256"), one.integer("paths"))
            for name in protected.names()
            for one in [protected.fields(name)]
        },
        builder=provenance.run_details.builder_version,
        restorable=_restorable(extensions),
        medium=parse_medium(definition.external_parameters, extensions, where),
        growth=grown.parse(extensions, nested=definition.build_type == NESTED_BUILD),
        selinux=PolicyId.from_fields(extensions.fields("respin_selinux")) if extensions.has("respin_selinux") else None,
    )


def _entries(changes: Sequence[Any], where: str) -> Tuple[Entry, ...]:
    found: List[Entry] = []
    for change in changes:
        try:
            found.append(Entry.from_json(change))
        except MalformedError as error:
            what = f"respin_changes[{len(found)}]: {error.what}"
            raise MalformedError(what, where=where, finding="bad-statement") from error
    return tuple(found)


def _added(*, restorable: bool) -> Tuple[str, ...]:
    """The files that a respin adds to the ISO, sorted."""
    return tuple(sorted(f"/{name}" for name in (EVIDENCE, SLOT, STATEMENT, *([RESTORE] if restorable else []))))


def _restorable(extensions: Fields) -> bool:
    added = extensions.texts("respin_added_to_iso", limit=4)
    if added not in (_added(restorable=True), _added(restorable=False)):
        raise extensions.bad("says that other files were added to the ISO than respin adds")
    return added == _added(restorable=True)


def _inner_image(internal: Fields, build_type: str) -> str:
    """The path of the image inside the squashfs, which a flat root does not have."""
    if build_type == NESTED_BUILD:
        return internal.text("respin_inner_image")
    if "respin_inner_image" in internal.names():
        raise internal.bad("names an image inside a flat root image")
    return ""


def _named(resource: intoto.Resource) -> Mapping[str, Any]:
    return {
        "name": resource.name,
        "sha256": resource.sha256,
        **({"purl": resource.uri} if resource.uri else {}),
        **{key[len("respin_") :]: value for key, value in sorted(resource.annotations.items())},
    }
