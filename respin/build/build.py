"""The build as a whole: each step takes the value that the step before returned, and nothing reaches back."""

from __future__ import annotations

import os
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Container, Dict, Mapping, Optional, Tuple

from respin import process
from respin.build.seal import Sealed, seal
from respin.bundle import VerifiedBundle
from respin.bundle import verify as verify_bundle
from respin.clock import source_date_epoch
from respin.errors import UnsupportedError, UsageError
from respin.formats.ext.image import ExtImage
from respin.formats.openpgp import Signer
from respin.formats.squashfs.nested import NestedView, PatchedView
from respin.formats.squashfs.splice import SplicedSquashfs, splice_file
from respin.node import rpmdb
from respin.node.base import VerifiedBase, claim_from_checksum, claim_pinned, open_input, verify_base
from respin.node.image import NodeImage, open_node
from respin.node.places import FACTS
from respin.node.profile import built_in
from respin.node.treediff import SameBytes, compare
from respin.plan import InstallPlan, make_plan
from respin.policy.content import judge_content
from respin.policy.derived import judge_derived, read
from respin.policy.findings import require_none
from respin.policy.outcome import judge_delta, judge_shipped
from respin.policy.packages import soft_unmet
from respin.policy.preflight import judge_plan
from respin.progress import SILENT, Progress
from respin.provenance.facts import facts
from respin.root.delta import Delta
from respin.root.install import Installed, InstallJob, PackageFile, install
from respin.trust import TrustStore
from respin.verify.report import Report
from respin.workspace import Output, Workspace, refuse_existing

ARCHITECTURES: Mapping[str, Tuple[str, ...]] = {"x86_64": ("x86_64", "noarch"), "aarch64": ("aarch64", "noarch")}


@dataclass(frozen=True)
class BuildRequest:
    """What to build. Exactly one of ``base_checksum`` and ``base_sha256`` says what the base must be.

    ``sign_key`` None builds an unsigned ISO; ``gnupg_home`` holds the secret key.
    """

    base: Path
    plugins: Tuple[Path, ...]
    trust: Path
    output: Path
    base_checksum: Optional[Path] = None
    base_sha256: Optional[str] = None
    sign_key: Optional[str] = None
    gnupg_home: Optional[Path] = None
    tmpdir: Optional[Path] = None
    force: bool = False


@dataclass(frozen=True)
class BuildResult:
    """What was built, and counters that a person can check."""

    output: Path
    sha256: str
    size: int
    sidecars: Tuple[Path, ...]
    report: Report
    counters: Mapping[str, int]
    warnings: Tuple[str, ...]
    transcript: str

    def to_json(self) -> Dict[str, Any]:
        """The result as one document."""
        return {
            "schema": "respin.build/1",
            "output": str(self.output),
            "sha256": self.sha256,
            "size": self.size,
            "sidecars": [str(path) for path in self.sidecars],
            "counters": dict(self.counters),
            "warnings": list(self.warnings),
            "verification": self.report.to_json(),
            "transcript": self.transcript,
        }


def build(request: BuildRequest, progress: Progress = SILENT) -> BuildResult:
    """Build a respun ISO. Nothing appears under the output's name unless everything held."""
    refuse_existing(request.output, force=request.force)
    trust = TrustStore.load(request.trust)
    signer = _signer(request)
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(request.tmpdir))
        base = _verified_base(request, trust, workspace, stack, progress)
        node = open_node(base.view(), built_in())
        bundles = []
        for path in request.plugins:
            with progress.step(f"verifying {path.name}"):
                bundles.append(verify_bundle(path, trust, workspace.path))
            stack.callback(bundles[-1].close)
        plan = _plan(node, tuple(bundles), workspace)
        with progress.step("judging the plan"):
            require_none(judge_plan(plan))
        installed = _install(base, plan, trust, workspace, progress)
        stack.callback(installed.changed_blocks.close)
        shipped = _judge_outcome(plan, installed, workspace, progress)
        with progress.step("compressing the changed blocks"):
            spliced = splice_file(node.squashfs, node.image.path, installed.changed_blocks)
        output = stack.enter_context(Output(request.output, force=request.force))
        sealed = seal(base, plan, shipped, spliced, _toolchain(), output, signer, trust, workspace.path, progress)
        return BuildResult(
            output=request.output,
            sha256=sealed.sha256,
            size=sealed.size,
            sidecars=sealed.sidecars,
            report=sealed.report,
            counters=_counters(installed, shipped, spliced, sealed),
            warnings=soft_unmet(plan),
            transcript=installed.transcript,
        )


def _signer(request: BuildRequest) -> Optional[Signer]:
    if request.sign_key is None:
        return None
    if request.gnupg_home is None:
        raise UsageError(
            "a key to sign with was named, but not where it is",
            remedy="say --gnupg-home DIR; ~/.gnupg is never used by itself",
        )
    return Signer(request.gnupg_home, request.sign_key)


def _verified_base(
    request: BuildRequest, trust: TrustStore, workspace: Workspace, stack: ExitStack, progress: Progress
) -> VerifiedBase:
    if (request.base_checksum is None) == (request.base_sha256 is None):
        raise UsageError(
            "it takes exactly one word on what the base must be",
            remedy="give --base-checksum CHECKSUM (signed by the vendor), or --base-sha256 HEX",
        )
    name = request.base.name
    if request.base_checksum is not None:
        claim = claim_from_checksum(request.base_checksum, name, trust, workspace.path)
    else:
        claim = claim_pinned(request.base_sha256 or "", name)
    fd = open_input(request.base)
    stack.callback(os.close, fd)
    return verify_base(fd, request.base, claim, progress)


def _plan(node: NodeImage, bundles: "Tuple[VerifiedBundle, ...]", workspace: Workspace) -> InstallPlan:
    if not bundles:
        raise UsageError("no plugin is given, so there is nothing to build", remedy="give --plugin BUNDLE")
    if node.root.superblock.dirty:
        raise UnsupportedError(
            "the root's file system was not unmounted cleanly when the vendor made it",
            where=node.root.view.name,
            remedy="ask the vendor for an image whose file system is clean",
            finding="dirty",
        )
    database = rpmdb.locate(node.root)
    where = f"{node.root.view.name}:{database.file}"
    blobs = rpmdb.read_headers(read(node.root, database.file) or b"", workspace.path, where)
    vendor = tuple(rpmdb.package(blob, where) for blob in blobs.values())
    machine = _require_architecture(bundles)
    return make_plan(node, bundles, database, vendor, _epoch(node), machine)


def _require_architecture(bundles: "Tuple[VerifiedBundle, ...]") -> str:
    """The architecture of this machine and of the Node; UnsupportedError for packages of another one."""
    machine = os.uname().machine
    known = ARCHITECTURES.get(machine, (machine, "noarch"))
    for bundle in bundles:
        for rpm in bundle.rpms:
            if rpm.header.arch not in known:
                raise UnsupportedError(
                    f"{rpm.header.nevra} is for {rpm.header.arch}; this machine is {machine}",
                    where=str(bundle.path),
                    remedy="scriptlets run natively: build on a machine of the Node's architecture",
                    finding="architecture",
                )
    return machine


def _epoch(node: NodeImage) -> int:
    """SOURCE_DATE_EPOCH if it is set, else the date that the vendor gave the ISO."""
    epoch = source_date_epoch()
    if epoch is None:
        epoch = node.iso.created
    if epoch is None:
        raise UsageError("the ISO has no creation date", remedy="set SOURCE_DATE_EPOCH to whole seconds since 1970")
    return epoch


def _install(
    base: VerifiedBase, plan: InstallPlan, trust: TrustStore, workspace: Workspace, progress: Progress
) -> Installed:
    view = plan.node.iso.file_view(plan.node.squashfs_path)
    releases = plan.node.kernel_releases
    job = InstallJob(
        iso_fd=base.fd,
        iso_name=str(base.path),
        squashfs_offset=view.offset,
        squashfs_size=view.size,
        image_path=plan.node.image.path,
        packages=tuple(PackageFile(rpm.header.nevra, rpm.fd) for rpm in plan.rpms),
        rpm_keys=tuple(dict.fromkeys(rpm.signer.key.public.armored for rpm in plan.rpms)),
        dbpath=plan.database.path,
        epoch=plan.epoch,
        kernel_release=releases[-1] if releases else "",
        owned_mtimes=plan.owned_mtimes,
        facts=lambda delta: {FACTS: facts(base, plan, delta)},
    )
    return install(
        job,
        lambda delta: require_none(judge_delta(delta, plan)),
        scratch=workspace.directory("sandbox"),
        progress=progress,
    )


def _judge_outcome(plan: InstallPlan, installed: Installed, workspace: Workspace, progress: Progress) -> Delta:
    """Judge the root as it will be shipped, by the reader that verification uses; returns all that differs in it."""
    with progress.step("judging the outcome"):
        after = ExtImage.open(PatchedView(plan.node.nested, installed.changed_blocks))
        shipped = compare(plan.node.root, after, unchanged_blocks(plan.node.nested, installed.changed_blocks))
        require_none(judge_shipped(shipped, installed.delta, installed.facts))
        require_none(judge_content(plan, after))
        require_none(judge_derived(plan, shipped, after, workspace.path))
        return shipped


def unchanged_blocks(nested: NestedView, changed: Container[int]) -> SameBytes:
    """Says of a byte range of the root image whether no changed block touches it."""
    size = nested.block_size

    def same_bytes(offset: int, length: int) -> bool:
        return not any(index in changed for index in range(offset // size, -(-(offset + length) // size)))

    return same_bytes


def _toolchain() -> Mapping[str, str]:
    """The versions of what takes part in making the bytes."""
    rpm = process.run(["rpm", "--version"]).stdout.decode("ascii", "replace").strip().rpartition(" ")[2]
    e2fsprogs = process.run(["debugfs", "-V"]).stderr.decode("ascii", "replace").split()[1]
    return {"rpm": rpm, "e2fsprogs": e2fsprogs, "zlib": zlib.ZLIB_RUNTIME_VERSION}


def _counters(installed: Installed, shipped: Delta, spliced: SplicedSquashfs, sealed: Sealed) -> Mapping[str, int]:
    entries = shipped.entries
    return {
        "root_blocks_total": installed.counters.blocks_total,
        "root_blocks_read": installed.counters.blocks_read,
        "root_blocks_read_for_check": installed.counters.blocks_read_for_check,
        "root_blocks_stored": spliced.counters.stored,
        "root_blocks_reused": spliced.counters.reused,
        "root_blocks_recompressed": spliced.counters.recompressed,
        "bytes_copied": sealed.bytes_copied,
        "bytes_written": sealed.size,
        "paths_added": sum(1 for entry in entries if entry.old is None),
        "paths_changed": sum(1 for entry in entries if entry.old is not None and entry.new is not None),
    }
