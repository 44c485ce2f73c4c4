"""One splice as a program of its own, to be measured: plan, copy in one pass; --digest makes the media check, too.

It ends when the output is on the disk.

Prints the peak of its memory in bytes: what wait4(2) tells is never less than what the process had that started it.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Dict, List, Optional

from respin.byteview import FileView
from respin.fanout import FanOut
from respin.formats.iso9660 import IsoImage, NewFile, Place, plan_splice
from respin.formats.mediacheck import MediaCheckHasher
from respin.segments import Copy, Data, Segment, Zeros
from respin.writing import begin_writeback

_STEP = 1 << 20
_AHEAD = 8 << 20  # bytes that are left to the disk at once
SLOT = "/respin.sig"
STATEMENT = "/respin.json"


def main(base: str, out: str, replaced: str, content: str, *options: str) -> None:
    """Replace ``replaced`` in ``base`` by the file ``content``, add two files, and write ``out``."""
    with ExitStack() as stack:
        source, new = (stack.enter_context(open(path, "rb")) for path in (base, content))
        target = stack.enter_context(open(out, "wb"))
        image = IsoImage.open(FileView(source.fileno(), base))
        size = os.fstat(new.fileno()).st_size
        added = [NewFile(STATEMENT, 9_000, Place.END), NewFile(SLOT, 16_384, Place.UNCHECKED)]
        plan = plan_splice(image, {replaced: size}, added)
        hasher: Optional[MediaCheckHasher] = None
        if "--digest" in options:
            hasher = MediaCheckHasher(plan.volume_space_size, skip_sectors=plan.unchecked_blocks)
        digest = stack.enter_context(FanOut([hasher.update])) if hasher is not None else None
        update = digest.feed if digest is not None else None
        holes: Dict[str, List[Segment]] = {name: [Zeros(length)] for name, (_, length) in plan.files.items()}
        start, _ = plan.files[replaced]
        position = 0
        for segment in plan.segments(holes):
            if position == start and isinstance(segment, Zeros) and segment.length == size:
                _copy(new.fileno(), 0, size, target.fileno(), position, update)
            elif isinstance(segment, Copy):
                _copy(source.fileno(), segment.offset, segment.length, target.fileno(), position, update)
            else:
                data = segment.data if isinstance(segment, Data) else bytes(segment.length)
                os.pwrite(target.fileno(), data, position)
                if update is not None:
                    update(data)
            position += segment.length
        if digest is not None:
            digest.close()
        if hasher is not None and plan.media_check_field is not None:
            os.pwrite(target.fileno(), hasher.field(), plan.media_check_field[0])
        os.fsync(target.fileno())


def _copy(
    source: int, offset: int, length: int, target: int, position: int, update: Optional[Callable[[bytes], None]]
) -> None:
    """Copy in the kernel, or through here when the bytes are wanted."""
    end = offset + length
    while offset < end:
        if update is None:
            done = os.copy_file_range(source, target, min(_AHEAD, end - offset), offset, position)
        else:
            data = os.pread(source, min(_STEP, end - offset), offset)
            update(data)
            done = os.pwrite(target, data, position)
        if not done:
            raise SystemExit("the base became shorter while it was copied")
        begin_writeback(target, position, done)
        offset, position = offset + done, position + done


if __name__ == "__main__":
    main(*sys.argv[1:])
    status = Path("/proc/self/status").read_text()
    print(1024 * int(status.partition("VmHWM:")[2].split()[0]))
