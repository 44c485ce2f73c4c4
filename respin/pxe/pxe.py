"""``respin pxe``: all that a server needs to start a Node from a network, straight from its ISO."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from respin.byteview import ByteView, FileView, chunks
from respin.clock import source_date_epoch
from respin.directory import OutputDirectory, refuse_existing_directory
from respin.errors import UnsupportedError
from respin.formats import cpio
from respin.formats.iso9660.image import IsoImage
from respin.node.base import opened
from respin.node.knownprofiles import built_in, known
from respin.node.profile import Profile
from respin.node.recognise import recognise
from respin.progress import SILENT, Progress, Step
from respin.provenance.carrier import find_iso
from respin.pxe.configs import configurations
from respin.pxe.model import NetworkPlan
from respin.pxe.plan import plan_network_boot
from respin.pxe.proof import Proof, ProofRequest, prove
from respin.pxe.request import PlanRequest
from respin.trust import TrustStore
from respin.workspace import Workspace
from respin.writing import write_all


@dataclass(frozen=True)
class PxeRequest:
    """What to write where. ``name`` is what the ISO is called for the Node; empty: as its file.

    ``mode`` and ``url`` as for :class:`respin.pxe.request.PlanRequest`; without ``trust``, ``checksum`` and ``sha256``
    the ISO is taken as it is.
    """

    iso: Path
    output: Path
    mode: str = ""
    url: str = ""
    name: str = ""
    trust: Optional[Path] = None
    checksum: Optional[Path] = None
    sha256: Optional[str] = None
    tmpdir: Optional[Path] = None
    force: bool = False


@dataclass(frozen=True)
class Written:
    """What was written: sizes by relative path, with their SHA-256 in ``sums``."""

    request: PxeRequest
    profile: Profile
    plan: NetworkPlan
    proof: Proof
    sizes: Dict[str, int]
    sums: Dict[str, str]

    def to_json(self) -> Dict[str, Any]:
        """As one document."""
        return {
            "schema": "respin.pxe/1",
            "iso": {"name": str(self.request.iso), **self.proof.to_json()},
            "profile": self.profile.id,
            "mode": self.plan.mode,
            "url": self.plan.url or None,
            "output": str(self.request.output),
            "entries": [
                {
                    "label": one.label,
                    "kernel": one.kernel,
                    "initrds": list(one.initrds),
                    "arguments": list(one.arguments),
                }
                for one in self.plan.entries
            ],
            "files": [
                {"path": path, "size": size, "sha256": self.sums[path]} for path, size in sorted(self.sizes.items())
            ],
            "warnings": list(self.plan.warnings),
        }


def pxe(request: PxeRequest, progress: Progress = SILENT) -> Written:
    """Write the directory. Nothing is written before all that can be judged is judged."""
    refuse_existing_directory(request.output, force=request.force)
    trust = None if request.trust is None else TrustStore.load(request.trust, request.tmpdir)
    epoch = source_date_epoch()
    with ExitStack() as stack:
        with opened(request.iso) as fd:
            view: ByteView = find_iso(FileView(fd, str(request.iso))).view
            if (request.trust, request.checksum, request.sha256) != (None, None, None):
                fd = _own_copy(view, stack.enter_context(Workspace(request.tmpdir)).path, stack, progress)
                view = FileView(fd, view.name)
            iso = IsoImage.open(view)
            profile = _profile(iso, trust)
            plan = plan_network_boot(
                iso, profile, PlanRequest(request.name or request.iso.name, request.mode, request.url)
            )
            proving = ProofRequest(request.iso, request.trust, request.checksum, request.sha256, request.tmpdir)
            proof = prove(proving, fd, iso, trust, progress)
            when = next(one for one in (epoch, iso.created, 0) if one is not None)
            output = stack.enter_context(OutputDirectory(request.output, when, force=request.force))
            sizes = _write(output, iso, plan, when, progress)
        output.publish()
        return Written(request, profile, plan, proof, sizes, dict(output.sums))


def _own_copy(view: ByteView, directory: Path, stack: ExitStack, progress: Progress) -> int:
    """A copy without a name: what is proved of it holds for all that is read of it later, whoever writes to the ISO."""
    file = stack.enter_context(tempfile.TemporaryFile(dir=directory))  # noqa: SIM115
    with progress.step(f"copying {Path(view.name).name}", view.size) as step:
        for piece in chunks(view):
            write_all(file.fileno(), piece)
            step.advance(len(piece))
    return file.fileno()


def _profile(iso: IsoImage, trust: Optional[TrustStore]) -> Profile:
    profile = recognise(iso, built_in() if trust is None else known(trust))
    if profile is None:
        raise UnsupportedError(
            "no profile recognises this ISO, so nobody knows how it starts from a network",
            where=iso.name,
            remedy="a profile of your own goes into the trust store: --trust DIR; see docs/reference/profiles.md",
            finding="profile",
        )
    return profile


def _write(output: OutputDirectory, iso: IsoImage, plan: NetworkPlan, when: int, progress: Progress) -> Dict[str, int]:
    """Write all but the list of digests; returns the sizes by relative path."""
    views: Dict[str, ByteView] = {path[1:]: iso.file_view(path) for path in plan.files}
    around = (b"", b"")
    if plan.archive:
        around = cpio.around(plan.iso_name, iso.view.size, when)
        views[plan.archive] = iso.view
    if plan.whole:
        views[plan.whole] = iso.view
    contents = dict(configurations(plan))
    if plan.kickstart[0]:
        contents[plan.kickstart[0][1:]] = plan.kickstart[1]
    sizes: Dict[str, int] = {}
    with progress.step(f"writing {output.target.name}", sum(view.size for view in views.values())) as step:
        for name, view in sorted(views.items()):
            before, behind = around if name == plan.archive else (b"", b"")
            sizes[name] = output.write(name, _pieces(before, view, behind, step))
        for name, data in sorted(contents.items()):
            sizes[name] = output.write(name, [data])
    return sizes


def _pieces(before: bytes, view: ByteView, behind: bytes, step: Step) -> Iterator[bytes]:
    yield before
    for piece in chunks(view):
        yield piece
        step.advance(len(piece))
    yield behind
