"""An installed Node against the facts in its root: consistency, which is all that unsigned facts can give.

The facts name each package of the plugins with the digest of its header. The record in the root's RPM database must
have that digest, and each file must be as that header says. With a verified ISO, every path of its root is compared.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from respin.byteview import BytesView
from respin.digest import sha256_hex
from respin.errors import UnsupportedError
from respin.formats.rpmfile import Header, RpmHeader
from respin.formats.rpmfile.content import rpm_header
from respin.host.files import PackageFiles
from respin.host.report import Drift, HostReport
from respin.host.root import HostRoot
from respin.host.tree import TreeCheck
from respin.limits import LIMITS
from respin.node import rpmdb, rpmrecord, versionfile
from respin.node.image import NodeImage, product_of
from respin.node.places import FACTS
from respin.progress import SILENT, Progress
from respin.provenance import facts as facts_file
from respin.provenance.facts import Facts
from respin.safepath import show
from respin.verify.verify import VerifyRequest, verify
from respin.workspace import Workspace

VERSION_FILE = "/etc/default/version"


@dataclass(frozen=True)
class HostRequest:
    """Which root to check; ``iso`` with ``trust`` is verified first, and the root compared with its root."""

    root: Path
    iso: Optional[Path] = None
    trust: Optional[Path] = None
    tmpdir: Optional[Path] = None
    at: Optional[int] = None


def check_host(request: HostRequest, progress: Progress = SILENT) -> HostReport:
    """Check an installed Node. Nothing of the root is executed, and no link leads out of it.

    Raises UnsupportedError when the root is no respun Node, MalformedError for facts or a database that cannot be
    read, and whatever :func:`respin.verify.verify.verify` raises for the ISO. Drift is reported, not raised.
    """
    with ExitStack() as stack:
        root = stack.enter_context(HostRoot(request.root))
        workspace = stack.enter_context(Workspace(request.tmpdir))
        raw = root.read(FACTS, LIMITS.manifest)
        if raw is None:
            raise UnsupportedError(
                f"there is no {FACTS}: this is not a respun Node",
                where=root.name,
                remedy="name the root of a Node that was installed from a respun ISO",
                finding="no-facts",
            )
        facts = facts_file.parse(raw, where=f"{root.name}:{FACTS}")
        drift: List[Drift] = []
        product = _product(root, facts, drift)
        with progress.step("checking the plugins' packages and files"):
            counts = _packages(root, facts, drift, workspace.path)
        described: Optional[Mapping[str, Any]] = None
        if request.iso is not None and request.trust is not None:
            described = _compare_with_iso(request, root, raw, drift, counts, progress)
        return HostReport(root.name, facts, product, tuple(_unique(drift)), counts, described)


def _product(root: HostRoot, facts: Facts, drift: List[Drift]) -> str:
    data = root.read(VERSION_FILE, LIMITS.small_file)
    if data is None:
        drift.append(Drift(VERSION_FILE, "there is no version file"))
        return ""
    product = product_of(versionfile.parse(data, f"{root.name}:{VERSION_FILE}"))
    if product != facts.base_product:
        drift.append(Drift(VERSION_FILE, f"it says {show(product)!r}, the facts say {show(facts.base_product)!r}"))
    return product


def _packages(root: HostRoot, facts: Facts, drift: List[Drift], scratch: Path) -> Dict[str, int]:
    found, others = _records(root, scratch)
    files = PackageFiles(root)
    for package in facts.packages:
        header = found.get(package.header_sha256)
        if header is not None and header.nevra == package.nevra:
            drift += files.check(header)
            continue
        same_name = [one for one in found.values() if one.nevra == package.nevra]
        what = "its record in the RPM database has another header" if same_name else "it is not in the RPM database"
        drift.append(Drift("", what, package.nevra))
    named = len(facts.packages)
    return {"packages": named, "files": files.checked, "other_packages": max(others - named, 0)}


def _records(root: HostRoot, scratch: Path) -> Tuple[Mapping[str, RpmHeader], int]:
    """The packages in the root's database by the digest of their headers, and how many there are."""
    for directory, (name, backend) in product(rpmdb.CANDIDATES, rpmdb.BACKENDS.items()):
        place = f"{root.real_path(directory)}/{name}"
        data = root.read(place, LIMITS.rpm_database)
        if data is None:
            continue
        log = root.read(f"{place}-wal", LIMITS.rpm_database) or b""
        where = f"{root.name}:{place}"
        blobs = rpmdb.headers_in(backend, data, scratch, where, log).values()
        found: Dict[str, RpmHeader] = {}
        for blob in blobs:
            exact, _ = rpmrecord.split(blob, where)
            header = Header.parse(BytesView(exact, where), 0, signature=False)
            if not rpmdb.is_key(header):
                found[sha256_hex(exact)] = rpm_header(header, where=where)
        return found, len(found)
    raise UnsupportedError(
        "the root has no RPM database, as every respun Node has",
        where=root.name,
        remedy=f"looked in {', '.join(rpmdb.CANDIDATES)}",
        finding="rpmdb",
    )


def _compare_with_iso(
    request: HostRequest, root: HostRoot, raw: bytes, drift: List[Drift], counts: Dict[str, int], progress: Progress
) -> Mapping[str, Any]:
    """Verify the ISO and compare the root with its root, while the ISO is open."""
    assert request.iso is not None
    assert request.trust is not None

    def compare(node: NodeImage) -> None:
        with progress.step("comparing the root with the ISO's"):
            tree = TreeCheck(root, node)
            drift.extend(tree.run(raw))
            counts["paths"] = tree.checked

    verified = VerifyRequest(request.iso, request.trust, tmpdir=request.tmpdir, at=request.at)
    report = verify(verified, progress, then=compare)
    return {"iso": report.iso, "complete": report.complete, "product": report.product, "signer": report.signer}


def _unique(drift: List[Drift]) -> List[Drift]:
    """One entry for each path: the first says whose it is."""
    seen: Dict[Tuple[str, str], Drift] = {}
    for one in drift:
        seen.setdefault((one.path, "" if one.path else one.package), one)
    return list(seen.values())
