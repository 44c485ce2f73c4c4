"""Splicing whole images in memory, for tests."""

from __future__ import annotations

import os
from typing import Dict, Iterable, List, Mapping, Sequence, Tuple

from respin.byteview import BytesView
from respin.formats import mediacheck
from respin.formats.iso9660 import IsoImage, NewFile, Place, SplicePlan, plan_splice
from respin.segments import Copy, Data, Segment

New = Tuple[str, bytes, Place]
"""Path, content and place of a new file."""


def joined(base: bytes, segments: Iterable[Segment]) -> bytes:
    """What segments over ``base`` describe."""
    parts = []
    for segment in segments:
        if isinstance(segment, Copy):
            parts.append(base[segment.offset : segment.offset + segment.length])
        else:
            parts.append(segment.data if isinstance(segment, Data) else bytes(segment.length))
    return b"".join(parts)


def splice(base: bytes, replace: Mapping[str, bytes], add: Sequence[New] = ()) -> Tuple[SplicePlan, bytes]:
    """The plan and the new image."""
    image = IsoImage.open(BytesView(base, "vendor.iso"))
    sizes = {path: len(data) for path, data in replace.items()}
    plan = plan_splice(image, sizes, [NewFile(path, len(data), place) for path, data, place in add])
    content: Dict[str, List[Segment]] = {path: [Data(data)] for path, data in replace.items()}
    content.update({path: [Data(data)] for path, data, _ in add})
    return plan, joined(base, plan.segments(content))


def with_media_check(plan: SplicePlan, data: bytes) -> bytes:
    """The new image with its media check renewed, if it has one."""
    if plan.media_check_field is None:
        return data
    hasher = mediacheck.MediaCheckHasher(plan.volume_space_size, skip_sectors=plan.unchecked_blocks)
    hasher.update(data)
    offset, size = plan.media_check_field
    return data[:offset] + hasher.field() + data[offset + size :]


def write_segments(segments: Iterable[Segment], base_fd: int, fd: int) -> None:
    """Write segments over an open file to another, in one pass; zeros are left out, as holes."""
    position = 0
    for segment in segments:
        end = position + segment.length
        if isinstance(segment, Data):
            os.pwrite(fd, segment.data, position)
        elif isinstance(segment, Copy):
            source = segment.offset
            while position < end:
                copied = os.copy_file_range(base_fd, fd, min(end - position, 1 << 30), source, position)
                assert copied
                source, position = source + copied, position + copied
        position = end
    os.truncate(fd, position)
