"""What a respin is called: derived from what it is made of, and written where its profile says."""

from __future__ import annotations

from typing import Mapping

from respin.digest import sha256_hex
from respin.formats.bootconfig import ArgumentEdit
from respin.medium.edit import NOTHING, Edited, MediumEdit
from respin.node.marks import root_marks, with_release
from respin.plan import InstallPlan
from respin.safepath import show
from respin.segments import Data

MARK = "release"
_DIGITS = 8
_MOST_NAMES = 4


def suffix(plan: InstallPlan, arguments: ArgumentEdit, revision: int) -> str:
    """``respinN.HEX``: the respin's number, and a digest of its plugins and kernel arguments."""
    made_of = [bundle.sha256 for bundle in plan.bundles]
    made_of += [f"+{one}" for one in arguments.append] + [f"-{one}" for one in arguments.remove]
    return f"respin{revision}.{sha256_hex(chr(10).join(made_of).encode('utf-8'))[:_DIGITS]}"


def sentence(plan: InstallPlan) -> str:
    """That the Node was respun, and with what."""
    names = [f"{bundle.manifest.name}-{bundle.manifest.version}-{bundle.manifest.release}" for bundle in plan.bundles]
    more = [f"{len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return "respun with " + ", ".join([*names[:_MOST_NAMES], *more])


def marks_in_root(plan: InstallPlan, arguments: ArgumentEdit, revision: int) -> Mapping[str, bytes]:
    """The content of every file of the root that says so, by real path."""
    node = plan.node
    return root_marks(node.root, node.profile.marks, suffix(plan, arguments, revision), sentence(plan))


def marks_on_medium(plan: InstallPlan, arguments: ArgumentEdit, revision: int) -> MediumEdit:
    """The same on the ISO, with all marks for the record."""
    node, marks = plan.node, plan.node.profile.marks
    inside = marks_in_root(plan, arguments, revision)
    edited = [Edited(f"{node.squashfs_path}:{path}", MARK) for path in sorted(inside)]
    path = marks.version_iso
    if path not in node.iso.files:
        return MediumEdit(edited=tuple(edited)) if edited else NOTHING
    where = f"{node.iso.name}:{show(path)}"
    data = with_release(node.iso.read(path), suffix(plan, arguments, revision), where)
    return MediumEdit({path: (Data(data),)}, {}, (Edited(path, MARK), *edited))
