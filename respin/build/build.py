"""The build as a whole: each step takes the value that the step before returned, and nothing reaches back."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from respin import process
from respin.build.bundles import Verifying, packages_of
from respin.build.newroot import NewRoot, new_root
from respin.build.prepare import BuildRequest, plan_for, require_every_plugin, signer_for, start_from
from respin.build.seal import Sealed, SealJob, seal
from respin.build.vendor import look_through
from respin.bundle import VerifiedBundle
from respin.digesting import Digesting
from respin.medium.checksums import with_checksums
from respin.medium.derive import derive_marks, derive_medium, numbered
from respin.medium.earlyboot import take_apart_early, with_early_drivers
from respin.medium.initrds import Initrds
from respin.node.base import VerifiedBase
from respin.node.image import open_node
from respin.node.knownprofiles import known
from respin.node.places import FACTS
from respin.node.rootimage import NestedRoot
from respin.plan import InstallPlan, ordered
from respin.policy.content import judge_content
from respin.policy.derived import judge_derived
from respin.policy.drivers import judge_drivers, read_drivers
from respin.policy.findings import require_none
from respin.policy.labels import judge_labels, labels_of_facts, with_labels
from respin.policy.outcome import judge_delta, judge_shipped
from respin.policy.packages import soft_unmet
from respin.policy.preflight import judge_plan
from respin.progress import SILENT, Progress
from respin.provenance.facts import facts
from respin.root.delta import Delta
from respin.root.growth import Growth, describe
from respin.root.install import Installation, Installed, InstallJob, PackageFile, install
from respin.root.sandbox import Sandbox
from respin.roottree import RootTree
from respin.segments import SegmentsView
from respin.trust import Role, TrustStore
from respin.verify.report import Report
from respin.verify.root import require_recent
from respin.workspace import Output, Workspace, refuse_existing


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
    growth: Optional[Growth] = None

    def to_json(self) -> Dict[str, Any]:
        """The result as one document."""
        return {
            "schema": "respin.build/1",
            "output": str(self.output),
            "sha256": self.sha256,
            "size": self.size,
            "sidecars": [str(path) for path in self.sidecars],
            "counters": dict(self.counters),
            "grown": describe(self.growth),
            "warnings": list(self.warnings),
            "verification": self.report.to_json(),
            "transcript": self.transcript,
        }


def build(request: BuildRequest, progress: Progress = SILENT, begun: Optional[Digesting] = None) -> BuildResult:
    """Build a respun ISO. Nothing appears under the output's name unless everything held.

    ``begun`` has begun to hash the base, perhaps.
    """
    refuse_existing(request.output, force=request.force)
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(request.tmpdir))
        sandbox = stack.enter_context(Sandbox())  # started now, it is there when it is needed
        trust = TrustStore.load(request.trust, scratch=workspace.path)
        verifying = Verifying(request.plugins, trust, workspace.path, stack)
        signer = signer_for(request)
        if signer is not None:
            trust.require_key(Role.RESPIN, signer.fingerprint)
        start = start_from(request, trust, workspace, stack, progress, begun)
        with start.verifying(progress) as verified:
            node = open_node(start.view, known(trust))
            require_recent(node.iso, node.identity, trust)
            bundles = verifying.wait(progress)
            require_every_plugin(start.had, bundles, request.remove)
            plan = plan_for(node, bundles, workspace, request.epoch)
            with progress.step("judging the plan"):
                require_none(judge_plan(plan))
                drivers, broken = read_drivers(plan, bundles)
                require_none((*broken, *(one for judged in judge_drivers(plan, drivers) for one in judged.findings)))
                medium = numbered(request.medium, start.revision, node.profile.marks)
                edit = derive_medium(plan, medium)
                marks = derive_marks(plan, medium)
        base = verified()
        beside = ThreadPoolExecutor(1, thread_name_prefix="beside")
        stack.callback(beside.shutdown, cancel_futures=True)
        initrds = Initrds()
        # Not earlier, when every processor has something to do: now the main thread waits for the sandbox.
        looking = beside.submit(look_through, start.view, trust)
        taken_apart = beside.submit(take_apart_early, plan, initrds, workspace.path)
        toolchain = beside.submit(_toolchain, plan)
        if signer is not None:  # what is wrong with the keyring is raised where it is used
            beside.submit(trust.keyring, Role.RESPIN, workspace.path)
        installation = _install(request, base, plan, bundles, marks, workspace, sandbox, stack, progress)
        installed = installation.installed
        stack.callback(installed.changed_blocks.close)
        vendor = looking.result()
        judge = partial(_judge, plan, installed, workspace.path)
        made = new_root(plan.node.image, installed, vendor.even, judge, progress)
        # Else e2fsck would find nothing that the comparison did not look at.
        needs_check = isinstance(node.image, NestedRoot) and (made.growth is not None or not vendor.even)
        checked = installation.check(progress) if needs_check else 0
        sandbox.stop()
        changed_root = SegmentsView(list(made.squashfs.segments), node.squashfs.view, node.squashfs_path)
        with progress.step("reaching early boot"):
            taken_apart.result()
            edit = with_early_drivers(plan, edit, made.tree, packages_of(bundles), initrds, workspace.path)
        edit = with_checksums(node.iso, node.profile, edit, node.squashfs_path, changed_root)
        output = stack.enter_context(Output(request.output, force=request.force, reaper=workspace.reaper))
        job = SealJob(
            base=base,
            plan=plan,
            bundles=bundles,
            shipped=made.shipped,
            squashfs=made.squashfs,
            growth=made.growth,
            toolchain=toolchain.result(),
            restorable=request.restorable,
            vendor=vendor,
            initrds=initrds,
            request=medium,
            edit=edit,
            payload=request.payload,
        )
        if signer is not None:
            stack.enter_context(signer.ready())
        sealed = seal(job, output, signer, trust, workspace.path, progress)
        return BuildResult(
            output=request.output,
            sha256=sealed.sha256,
            size=sealed.size,
            sidecars=sealed.sidecars,
            report=sealed.report,
            counters=_counters(made, sealed, checked),
            warnings=soft_unmet(plan),
            transcript=installed.transcript,
            growth=made.growth,
        )


def _install(
    request: BuildRequest,
    base: VerifiedBase,
    plan: InstallPlan,
    bundles: Tuple[VerifiedBundle, ...],
    marks: Mapping[str, bytes],
    workspace: Workspace,
    sandbox: Sandbox,
    stack: ExitStack,
    progress: Progress,
) -> Installation:
    rpms = [rpm for bundle in ordered(bundles) for rpm in bundle.rpms]
    view = plan.node.iso.file_view(plan.node.squashfs_path)
    releases = plan.node.kernel_releases
    job = InstallJob(
        iso_fd=base.fd,
        iso_name=str(base.path),
        squashfs_offset=view.offset,
        squashfs_size=view.size,
        image_path=plan.node.image.inner_path,
        packages=tuple(PackageFile(rpm.header.nevra, rpm.fd) for rpm in rpms),
        rpm_keys=tuple(dict.fromkeys(rpm.signer.key.public.armored for rpm in rpms)),
        dbpath=plan.database.path,
        epoch=plan.epoch,
        kernel_release=releases[-1] if releases else "",
        owned_mtimes=plan.owned_mtimes,
        factory=plan.node.profile.marks.factory,
        facts=lambda delta: {FACTS: facts(base.claim, plan, delta), **marks},
        labelled=lambda delta: with_labels(delta, plan),
        fact_labels=labels_of_facts(plan, marks),
        may_grow=request.may_grow,
    )
    return install(
        job,
        lambda delta: require_none(judge_delta(delta, plan)),
        scratch=workspace.directory("sandbox"),
        stack=stack,
        sandbox=sandbox,
        progress=progress,
    )


def _judge(plan: InstallPlan, installed: Installed, scratch: Path, shipped: Delta, after: RootTree[Any]) -> None:
    """Judge the root as it will be shipped, by the reader that verification uses."""
    require_none(judge_shipped(shipped, installed.delta, installed.facts))
    require_none(judge_labels(shipped, plan))
    require_none(judge_content(plan, after))
    require_none(judge_derived(plan, shipped, after, scratch))


def _toolchain(plan: InstallPlan) -> Mapping[str, str]:
    """The versions of what takes part in making the bytes."""
    node = plan.node
    library, _, version = node.squashfs.codec.library.partition(" ")
    rpm = process.run(["rpm", "--version"]).stdout.decode("ascii", "replace").strip().rpartition(" ")[2]
    found = {"rpm": rpm, "zlib": zlib.ZLIB_RUNTIME_VERSION, library: version}
    if isinstance(node.image, NestedRoot):
        found["e2fsprogs"] = process.run(["debugfs", "-V"]).stderr.decode("ascii", "replace").split()[1]
    if plan.declared("initrd_modules"):
        found["kmod"] = process.run(["depmod", "--version"]).stdout.decode("ascii", "replace").split()[2]
    return found


def _counters(made: NewRoot, sealed: Sealed, checked: int) -> Mapping[str, int]:
    entries = made.shipped.entries
    return {
        **made.counters,
        "root_blocks_read_for_check": checked,
        "bytes_copied": sealed.bytes_copied,
        "bytes_written": sealed.size,
        "bytes_restore_map": sealed.restore_size,
        "paths_added": sum(1 for entry in entries if entry.old is None),
        "paths_changed": sum(1 for entry in entries if entry.old is not None and entry.new is not None),
    }
