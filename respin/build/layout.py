"""Where everything goes on the new ISO, and the restore map that says how to get back.

The map names offsets in the new ISO, and its own size moves some of them. So the ISO is planned with a size for it, the
map made, and planned again until it fits; the rest of its file is zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from respin.errors import BuildError
from respin.formats.iso9660.plan import SplicePlan, plan_splice
from respin.formats.squashfs.merge import MergedSquashfs
from respin.formats.squashfs.splice import SplicedSquashfs
from respin.medium.edit import MediumEdit, overlaid, require_applied
from respin.node.base import VerifiedBase
from respin.node.image import NodeImage
from respin.provenance.layout import EVIDENCE, MEDIA_CHECK_OFFSET, MEDIA_CHECK_SIZE, RESTORE, STATEMENT
from respin.provenance.restoremap import Range, RestoreMap, copied_ranges, pack_originals
from respin.segments import Data, Segment, Zeros, shift
from respin.verify.against_base import new_files

_BLOCK = 2048
_ROUNDS = 8

NewSquashfs = Union[SplicedSquashfs, MergedSquashfs]


@dataclass(frozen=True)
class LayoutJob:
    """What has to be placed: new root image, evidence, a statement of known size, restore map, what else changes."""

    base: VerifiedBase
    node: NodeImage
    squashfs: NewSquashfs
    evidence: bytes
    statement_size: int
    has_media_check: bool
    restorable: bool
    edit: MediumEdit


@dataclass(frozen=True)
class Laid:
    """The plan of the ISO and the content of its new and replaced files; statement and slot are zeros so far."""

    plan: SplicePlan
    content: Mapping[str, Sequence[Segment]]
    patches: Mapping[int, bytes]

    def segments(self) -> Iterator[Segment]:
        """The whole new ISO as segments over the vendor's."""
        return overlaid(self.plan.segments(self.content), self.patches)


def lay_out(job: LayoutJob) -> Laid:
    """Plan the ISO, with a restore map that fits it if one is wanted."""
    if not job.restorable:
        return _laid(job, None)
    packed: Optional[Tuple[Tuple[Range, ...], bytes]] = None
    size = _BLOCK
    for attempt in range(_ROUNDS):
        laid = _laid(job, bytes(size))
        excluded = [(MEDIA_CHECK_OFFSET, MEDIA_CHECK_SIZE)] if job.has_media_check else []
        copies = copied_ranges(laid.segments(), excluded)
        found = RestoreMap(job.base.size, job.base.claim.sha256, job.base.checks, copies, 0, 0)
        gaps = found.gaps()
        if packed is None or packed[0] != gaps:
            packed = gaps, pack_originals(job.base.view(), gaps)
        originals = sum(length for _, length in gaps)
        found = RestoreMap(found.size, found.sha256, found.checks, copies, originals, len(packed[1]))
        file = found.encode() + packed[1]
        if len(file) <= size and (size - len(file) < _BLOCK or attempt > _ROUNDS // 2):
            return _laid(job, file.ljust(size, b"\0"))
        size = -(-len(file) // _BLOCK) * _BLOCK
    raise BuildError("the restore map does not come to rest", remedy="build with --no-restore", finding="restore-map")


def _laid(job: LayoutJob, restore: Optional[bytes]) -> Laid:
    new: Dict[str, bytes] = {EVIDENCE: job.evidence}
    if restore is not None:
        new[RESTORE] = restore
    sizes = {**{name: len(data) for name, data in new.items()}, STATEMENT: job.statement_size}
    path = job.node.squashfs_path
    plan = plan_splice(job.node.iso, {path: job.squashfs.size, **job.edit.sizes}, new_files(sizes))
    content: Dict[str, List[Segment]] = {name: [Zeros(size)] for name, (_, size) in plan.files.items()}
    content[path] = list(shift(job.squashfs.segments, job.node.iso.file_view(path).offset))
    for name, data in new.items():
        content[f"/{name}"] = [Data(data)]
    content.update({name: list(segments) for name, segments in job.edit.files.items()})
    laid = Laid(plan, content, job.edit.patches)
    require_applied(plan.segments(content), job.edit.patches, job.node.iso.name)
    return laid
