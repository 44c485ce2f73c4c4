"""Everything that changes on the medium besides the root image, from the plan and what was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Mapping

from respin.errors import UsageError
from respin.formats.bootconfig import ArgumentEdit
from respin.medium.arguments import check_arguments, edit_medium
from respin.medium.driverdisk import disk_arguments
from respin.medium.edit import MediumEdit
from respin.medium.marks import marks_in_root, marks_on_medium
from respin.medium.revision import FIRST_REVISION, MOST_REVISIONS, NEXT_REVISION
from respin.node.profile import Marks
from respin.plan import InstallPlan


@dataclass(frozen=True)
class MediumRequest:
    """What whoever builds asks for besides the plugins.

    ``revision`` counts respins of one vendor's release; :data:`NEXT_REVISION` asks for the next.
    """

    arguments: ArgumentEdit = field(default_factory=ArgumentEdit)
    revision: int = FIRST_REVISION


NO_REQUEST = MediumRequest()


def arguments_of(plan: InstallPlan, request: MediumRequest) -> ArgumentEdit:
    """The builder's arguments, then the plugins' in their order, then what names a driver update disk, each once."""
    append = dict.fromkeys([*request.arguments.append, *plan.declared("kernel_arguments"), *disk_arguments(plan)])
    return ArgumentEdit(tuple(append), tuple(dict.fromkeys(request.arguments.remove)))


def numbered(request: MediumRequest, before: int, marks: Marks) -> MediumRequest:
    """The request with its revision: the next one after ``before``, unless it names one itself.

    Where nothing shows the revision there is none to count, and equal inputs give equal bytes.
    """
    if request.revision != NEXT_REVISION:
        return request
    shows = bool(marks.version_iso or marks.version_root or marks.nvr)
    return replace(request, revision=before + 1 if shows else FIRST_REVISION)


def derive_medium(plan: InstallPlan, request: MediumRequest) -> MediumEdit:
    """The changes; raises UsageError, PolicyError or UnsupportedError for what cannot be done."""
    node = plan.node
    arguments = arguments_of(plan, request)
    check_arguments(arguments, node.profile, node.iso.volume_id)
    if not 1 <= request.revision <= MOST_REVISIONS:
        raise UsageError(f"the revision must be a number from 1 to {MOST_REVISIONS}")
    edit = edit_medium(node.iso, node.profile, arguments)
    return edit.joined(marks_on_medium(plan, arguments, request.revision))


def derive_marks(plan: InstallPlan, request: MediumRequest) -> Mapping[str, bytes]:
    """The files of the root that say that it was respun, by real path."""
    return marks_in_root(plan, arguments_of(plan, request), request.revision)
