"""Everything that changes on the medium besides the root image, from the plan and what was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from respin.formats.bootconfig import ArgumentEdit
from respin.medium.arguments import check_arguments, edit_medium
from respin.medium.edit import MediumEdit
from respin.plan import InstallPlan

FIRST_REVISION = 1


@dataclass(frozen=True)
class MediumRequest:
    """What whoever builds asks for besides the plugins. ``revision`` counts respins of one vendor's release."""

    arguments: ArgumentEdit = field(default_factory=ArgumentEdit)
    revision: int = FIRST_REVISION


NO_REQUEST = MediumRequest()


def arguments_of(plan: InstallPlan, request: MediumRequest) -> ArgumentEdit:
    """The builder's arguments, then the plugins' in their order, each once."""
    append = dict.fromkeys([*request.arguments.append, *plan.declared("kernel_arguments")])
    return ArgumentEdit(tuple(append), tuple(dict.fromkeys(request.arguments.remove)))


def derive_medium(plan: InstallPlan, request: MediumRequest) -> MediumEdit:
    """The changes; raises UsageError, PolicyError or UnsupportedError for what cannot be done."""
    node = plan.node
    edit = arguments_of(plan, request)
    check_arguments(edit, node.profile, node.iso.volume_id)
    return edit_medium(node.iso, node.profile, edit)
