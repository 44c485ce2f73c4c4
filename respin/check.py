"""``respin check``: everything that a build would judge before anything runs, without building."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from respin.build.bundles import Verifying
from respin.build.prepare import plan_for
from respin.byteview import FileView
from respin.errors import RespinError, UsageError
from respin.formats import lspci
from respin.formats.iso9660.image import IsoImage
from respin.formats.lspci import PciDevice
from respin.medium.derive import NO_REQUEST, derive_marks, derive_medium
from respin.medium.driverdisk import disk_packages, left_off
from respin.node.base import NOT_VERIFIED, claim_given, opened, read_small, verify_base
from respin.node.devices import Alias, Taker, pci_aliases, takers, vendor_aliases
from respin.node.image import NodeImage, open_node
from respin.node.knownprofiles import known
from respin.plan import InstallPlan
from respin.policy.drivers import Driver, Judgement, judge_drivers, read_drivers
from respin.policy.findings import Finding
from respin.policy.packages import soft_unmet
from respin.policy.preflight import judge_plan
from respin.progress import SILENT, Progress
from respin.provenance.carrier import find_iso
from respin.trust import TrustStore
from respin.verify.root import require_recent
from respin.verify.statement import is_respun
from respin.workspace import Workspace

_LARGEST_LISTING = 4 << 20


@dataclass(frozen=True)
class CheckRequest:
    """What to check against which vendor's ISO. Without a checksum and a digest the base is read as it is.

    ``lspci`` is a file with the output of ``lspci -nn``.
    """

    base: Path
    plugins: Tuple[Path, ...]
    trust: Path
    base_checksum: Optional[Path] = None
    base_sha256: Optional[str] = None
    lspci: Optional[Path] = None
    tmpdir: Optional[Path] = None


@dataclass(frozen=True)
class Device:
    """A PCI device, and what would drive it on the vendor's Node and on the respun one."""

    device: PciDevice
    before: Tuple[Taker, ...]
    after: Tuple[Taker, ...]

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {
            "slot": self.device.slot,
            "kind": self.device.kind,
            "name": self.device.name,
            "id": self.device.id,
            "before": [{"module": one.name, "certain": one.certain} for one in self.before],
            "after": [{"module": one.name, "certain": one.certain} for one in self.after],
        }


@dataclass(frozen=True)
class Checked:
    """What came out. ``findings`` refuse a build; ``base`` is "vendor-signed", "pinned" or "not verified".

    ``places`` says of each part of the ISO that could need a driver whether one that is checked here reaches it.
    """

    node: str
    base: str
    plugins: Tuple[str, ...]
    findings: Tuple[Finding, ...]
    warnings: Tuple[str, ...]
    drivers: Tuple[Judgement, ...]
    places: Tuple[Tuple[str, str], ...]
    devices: Optional[Tuple[Device, ...]]

    def to_json(self) -> Dict[str, Any]:
        """As one document."""
        return {
            "schema": "respin.check/1",
            "node": self.node,
            "base": self.base,
            "plugins": list(self.plugins),
            "passed": not self.findings,
            "findings": [
                {"id": one.id, "place": one.place, "message": one.message, "remedy": one.remedy}
                for one in self.findings
            ],
            "warnings": list(self.warnings),
            "drivers": [one.to_json() for one in self.drivers],
            "places": dict(self.places),
            "devices": None if self.devices is None else [one.to_json() for one in self.devices],
        }


def check(request: CheckRequest, progress: Progress = SILENT) -> Checked:
    """Judge plugins against a vendor's ISO. Bundles and checksums that do not verify raise, as in a build."""
    trust = TrustStore.load(request.trust, request.tmpdir)
    devices = None
    if request.lspci is not None:
        listing = read_small(request.lspci, _LARGEST_LISTING).decode("utf-8", "replace")
        devices = lspci.parse(listing, str(request.lspci))
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(request.tmpdir))
        verifying = Verifying(request.plugins, trust, workspace.path, stack)
        fd = stack.enter_context(opened(request.base))
        view = find_iso(FileView(fd, str(request.base))).view
        if is_respun(IsoImage.open(view)):
            raise UsageError(
                "this ISO is respun already",
                where=str(request.base),
                remedy="`respin restore` brings back the vendor's ISO; check against that",
            )
        vouched = _verify(request, fd, trust, workspace, progress)
        node = open_node(view, known(trust))
        require_recent(node.iso, node.identity, trust)
        bundles = verifying.wait(progress)
        plan = plan_for(node, bundles, workspace)
        with progress.step("judging the plan"):
            findings = [*judge_plan(plan), *_medium(plan)]
            drivers, broken = read_drivers(plan, bundles)
            judgements = tuple(judge_drivers(plan, drivers))
        findings += [*broken, *(one for judgement in judgements for one in judgement.findings)]
        return Checked(
            node=node.identity.product,
            base=vouched,
            plugins=tuple(bundle.manifest.nvra for bundle in bundles),
            findings=tuple(findings),
            warnings=soft_unmet(plan),
            drivers=judgements,
            places=tuple(_places(node, plan, drivers)),
            devices=None if devices is None else _driven(node, drivers, devices),
        )


def _medium(plan: InstallPlan) -> Iterator[Finding]:
    """Whether kernel arguments of the plugins can be given in every way to boot, and a respin be marked as one."""
    try:
        derive_medium(plan, NO_REQUEST)
        derive_marks(plan, NO_REQUEST)
    except RespinError as error:
        yield Finding(error.finding, error.where or plan.node.iso.name, error.what, error.remedy or "")


def _verify(request: CheckRequest, fd: int, trust: TrustStore, workspace: Workspace, progress: Progress) -> str:
    """Verify the base if the request says what it must be; who says so."""
    claim = claim_given(request.base_checksum, request.base_sha256, request.base.name, trust, workspace.path)
    return NOT_VERIFIED if claim is None else verify_base(fd, request.base, claim, progress).claim.kind


def _places(node: NodeImage, plan: InstallPlan, drivers: Sequence[Driver]) -> List[Tuple[str, str]]:
    """Where drivers can be needed, and whether those at hand get there."""
    if not drivers:
        return []
    early = sorted(driver.module.name for driver in drivers if driver.early)
    late = sorted(driver.module.name for driver in drivers if not driver.early)
    found = [(node.squashfs_path, f"all: {', '.join(sorted(driver.module.name for driver in drivers))}")]
    for initrd in node.identity.places.initrds:
        sentence = f"asked for: {', '.join(early)}" if early else ""
        missing = f"not asked for (effects.initrd_modules): {', '.join(late)}" if late else ""
        found.append((initrd, "; ".join(filter(None, (sentence, missing)))))
    on_disk = [rpm.header.nevra for rpm in disk_packages(plan)]
    reached = f"by a driver update disk in the initrd: {', '.join(sorted(on_disk))}"
    missing = "; ".join(("none: the installer's own root image stays the vendor's", *left_off(plan)))
    found += [(stage2, reached if on_disk else missing) for stage2 in node.identity.places.stage2]
    return found


def _driven(node: NodeImage, drivers: Sequence[Driver], devices: Sequence[PciDevice]) -> Tuple[Device, ...]:
    vendor: List[Alias] = []
    for release in node.kernel_releases:
        vendor += pci_aliases(vendor_aliases(node.root, release))
    added = pci_aliases((alias, driver.module.name) for driver in drivers for alias in driver.module.aliases)
    both = [*vendor, *added]
    return tuple(Device(device, takers(device, vendor), takers(device, both)) for device in devices)
