"""A bill of materials of what a respin added, or of a Node's whole root: the packages that its RPM database records.

Nothing is verified here; ``respin verify`` holds the database against the plugins' signed headers and the vendor's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from respin import __version__
from respin.byteview import FileView
from respin.errors import MalformedError, UsageError, VerificationError
from respin.formats.cyclonedx import Bom, Component
from respin.formats.rpmfile import PackageInfo
from respin.node import rpmdb
from respin.node.base import opened
from respin.node.image import ReadableNode, open_readable
from respin.node.knownprofiles import built_in
from respin.progress import SILENT, Progress
from respin.provenance import statement
from respin.provenance.layout import STATEMENT
from respin.provenance.purl import package_url
from respin.verify.statement import is_respun, read_statement
from respin.workspace import Workspace, refuse_existing, refuse_inputs, write_file

SUFFIX = ".added.cdx.json"


@dataclass(frozen=True)
class SbomRequest:
    """What to describe: what was added to the ISO, or ``everything`` in its root."""

    iso: Path
    output: Path
    everything: bool = False
    force: bool = False
    tmpdir: Optional[Path] = None


@dataclass(frozen=True)
class Sbom:
    """A bill of materials that was written: its file and how many components it has."""

    output: Path
    components: int
    everything: bool

    def to_json(self) -> Dict[str, Any]:
        """The result as one document."""
        return {
            "schema": "respin.sbom/1",
            "output": str(self.output),
            "components": self.components,
            "all": self.everything,
        }


def sbom(request: SbomRequest, progress: Progress = SILENT) -> Sbom:
    """Write the bill of materials of an ISO.

    Raises UsageError when nothing was added to it, UnsupportedError for a layout or a database that can't be read.
    """
    refuse_inputs((request.output,), (request.iso,))
    refuse_existing(request.output, force=request.force)
    with Workspace(request.tmpdir) as workspace, opened(request.iso) as fd:
        node = open_readable(FileView(fd, str(request.iso)), built_in())
        with progress.step("reading the root's packages"):
            bom = describe(node, _claims(node, request), everything=request.everything, scratch=workspace.path)
    write_file(request.output, bom.encode(), force=request.force)
    return Sbom(request.output, len(bom.components), request.everything)


def beside(iso: Path) -> Path:
    """Where the bill of materials of what was added stands beside an ISO."""
    return iso.with_name(iso.name + SUFFIX)


def describe(node: ReadableNode, claims: Optional[statement.Claims], *, everything: bool, scratch: Path) -> Bom:
    """The bill of materials of an opened Node. ``claims`` is its statement's, None for a vendor's ISO.

    Raises VerificationError when the database lacks a package that the statement names.
    """
    added = {str(package["name"]): package for package in claims.packages} if claims is not None else {}
    found = [(header, added.get(header.nevra)) for header in packages(node, scratch)]
    missing = set(added) - {header.nevra for header, _ in found}
    if missing:
        raise VerificationError(
            f"the statement names {sorted(missing)[0]}, which the RPM database does not record",
            where=node.root.view.name,
            finding="rpmdb",
        )
    properties = {"respin:scope": "all" if everything else "added", "respin:profile": node.profile.id}
    if claims is not None:
        properties["respin:covered-sha256"] = claims.subject_sha256
        properties["respin:base"] = claims.base_name
        properties["respin:base-sha256"] = claims.base_sha256
    version = node.identity.version
    return Bom(
        subject=Component(
            name=version.get("PRODUCT") or node.iso.volume_id or "Node",
            version="-".join(version[key] for key in ("VERSION", "RELEASE") if version.get(key)),
            kind="operating-system",
        ),
        components=[_component(header, origin) for header, origin in found if everything or origin is not None],
        tool=Component(name="respin", version=__version__, kind="application"),
        time=claims.epoch if claims is not None else node.iso.created,
        properties=properties,
    )


def packages(node: ReadableNode, scratch: Path) -> List[PackageInfo]:
    """The packages that the Node's RPM database records, without the keys that rpm keeps there."""
    database = rpmdb.locate(node.root, node.profile.rpm_databases)
    where = f"{node.root.view.name}:{database.file}"
    blobs = rpmdb.records(node.root, database, scratch)
    return list(rpmdb.packages(blobs.values(), where))


def _component(header: PackageInfo, origin: Optional[Mapping[str, Any]]) -> Component:
    """A package. The digest of its file is known for what was added only: a database doesn't record it."""
    plugin: Tuple[Tuple[str, str], ...] = ()
    if origin is not None:
        plugin = (("respin:bundle", str(origin.get("bundle"))), ("respin:signer", str(origin.get("signer"))))
    return Component(
        name=header.name,
        version=f"{header.epoch}:" * (header.epoch is not None) + f"{header.version}-{header.release}",
        purl=str(origin["purl"]) if origin is not None else package_url(header, header.vendor),
        description=header.summary,
        license=header.license,
        supplier=header.vendor,
        sha256=str(origin["sha256"]) if origin is not None else "",
        properties={
            "respin:origin": "vendor" if origin is None else "plugin",
            "respin:rpm:header-sha256": header.sha256,
            "respin:rpm:sourcerpm": header.sourcerpm,
            **dict(plugin),
        },
    )


def _claims(node: ReadableNode, request: SbomRequest) -> Optional[statement.Claims]:
    if is_respun(node.iso):
        raw, _ = read_statement(node.iso)
        claims = statement.parse(raw, where=f"{request.iso}:/{STATEMENT}")
        if any("purl" not in package for package in claims.packages):
            raise MalformedError("the statement names a package without its purl", where=str(request.iso))
        return claims
    if not request.everything:
        raise UsageError(
            "nothing was added to this ISO: it carries no statement of respin",
            where=str(request.iso),
            remedy="describe its whole root with --all",
        )
    return None
