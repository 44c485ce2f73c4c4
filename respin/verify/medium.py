"""What changed on the medium besides the root image: derived anew from the vendor's ISO, held against the claims."""

from __future__ import annotations

from pathlib import Path
from typing import List

from respin.errors import UsageError, VerificationError
from respin.medium.checksums import with_checksums
from respin.medium.derive import arguments_of, derive_medium
from respin.medium.driverdisk import Packages, packages_on_disk
from respin.medium.earlyboot import early_initrds, with_early_drivers
from respin.medium.edit import MediumEdit
from respin.medium.initrds import Initrds
from respin.node.image import NodeImage
from respin.plan import InstallPlan, Package
from respin.policy.arguments import unvouched
from respin.policy.preflight import vendor_modules
from respin.provenance.medium import MediumRecord
from respin.safepath import show
from respin.verify.report import Link, Status


def derived(plan: InstallPlan, record: MediumRecord, output: NodeImage, initrds: Initrds, scratch: Path) -> MediumEdit:
    """The changes that the request in the statement and the plugins' manifests lead to on the vendor's ISO.

    ``initrds`` takes the vendor's initrds apart, ``scratch`` is a private directory. Raises VerificationError when the
    statement says anything else.
    """
    where = output.iso.view.name
    node = plan.node
    try:
        edit = derive_medium(plan, record.request)
    except UsageError as error:
        raise VerificationError(error.what, where=where, remedy=error.remedy, finding="medium") from error
    edit = with_early_drivers(plan, edit, output.root, _packages(plan, output), initrds, scratch)
    edit = with_checksums(node.iso, node.profile, edit, node.squashfs_path, output.iso.file_view(output.squashfs_path))
    changed = tuple(sorted(edit.changed_paths(node.iso)))
    if (edit.edited, changed) != (record.edited, record.files):
        raise VerificationError(
            "the statement names other changes of the medium than those that follow from what was asked for",
            where=where,
            remedy="this is not the vendor's Node plus the declared changes; do not use it",
            finding="medium",
        )
    return edit


def _packages(plan: InstallPlan, output: NodeImage) -> Packages:
    """The packages of the driver update disk, from the output: it alone has them whole."""

    read: List[Packages] = []

    def content_of(package: Package) -> bytes:
        if not read:  # for most Nodes nobody asks
            path = early_initrds(plan)[0]
            read.append(packages_on_disk(plan, output.iso.file_view(path), plan.node.iso.files[path].size))
        return read[0](package)

    return content_of


def medium_link(plan: InstallPlan, record: MediumRecord) -> Link:
    """What was recomputed, for people: the arguments, and in how many places."""
    arguments = arguments_of(plan, record.request)
    words = [f"+{one}" for one in arguments.append] + [f"-{one}" for one in arguments.remove]
    said = f"kernel arguments {' '.join(words)}; " if words else ""
    places = ", ".join(one.place for one in record.edited)
    said += f"recomputed from the vendor's bytes: {places}"
    asked = record.request.arguments
    open_ = unvouched(plan, asked, vendor_modules(plan.node.root)) if asked else ()
    if not open_:
        return Link("medium", Status.PASSED, said)
    why = f"only whoever built the ISO answers for {show(' '.join(open_))}, and nobody judged what that does"
    return Link("medium", Status.NOT_DONE, f"{said}; {why}")


def claimed_link(record: MediumRecord) -> Link:
    """The same without the vendor's ISO: nobody recomputed it."""
    places = ", ".join(one.place for one in record.edited)
    return Link("medium", Status.NOT_DONE, f"changed as the statement says, which was not recomputed: {places}")
