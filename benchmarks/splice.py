"""One splice as a program of its own, to be measured: plan, copy in one pass; --digest makes the media check, too.

It ends when the output is on the disk.

Prints the peak of its memory in bytes: what wait4(2) tells is never less than what the process had that started it.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Dict, List, Optional, Tuple

from respin.byteview import FileView
from respin.fanout import FanOut
from respin.formats.iso9660 import IsoImage, NewFile, Place, plan_splice
from respin.formats.mediacheck import MediaCheckHasher
from respin.segments import Copy, Data, Segment, Zeros, batches, total
from respin.writing import begin_writeback, pwrite_all

_STEP = 1 << 20
_AHEAD = 8 << 20  # bytes that are left to the disk at once
SLOT = "/respin.sig"
STATEMENT = "/respin.json"


def main(base: str, out: str, replaced: str, content: str, *options: str) -> None:
    """Replace ``replaced`` in ``base`` by the file ``content``, add two files, and write ``out``."""
    with ExitStack() as stack:
        sources = _Sources(*(stack.enter_context(open(path, "rb")) for path in (base, content)))
        target = stack.enter_context(open(out, "wb")).fileno()
        image = IsoImage.open(sources.base)
        added = [NewFile(STATEMENT, 9_000, Place.END), NewFile(SLOT, 16_384, Place.UNCHECKED)]
        plan = plan_splice(image, {replaced: sources.new.size}, added)
        hasher: Optional[MediaCheckHasher] = None
        if "--digest" in options:
            hasher = MediaCheckHasher(plan.volume_space_size, skip_sectors=plan.unchecked_blocks)
        digest = stack.enter_context(FanOut([hasher.update])) if hasher is not None else None
        files: Dict[str, List[Segment]] = {name: [Zeros(size)] for name, (_, size) in plan.files.items()}
        files[replaced] = [sources.new_content]
        position = 0
        for batch in batches(plan.segments(files), _AHEAD if digest is None else _STEP):
            first, length = batch[0], total(batch)
            if digest is None and len(batch) == 1 and isinstance(first, Copy):
                sources.copy(first, target, position)
            else:
                data = b"".join(map(sources.read, batch))
                if digest is not None:
                    digest.feed(data)
                pwrite_all(target, data, position)
            begin_writeback(target, position, length)
            position += length
        if digest is not None:
            digest.close()
        if hasher is not None and plan.media_check_field is not None:
            os.pwrite(target, hasher.field(), plan.media_check_field[0])
        os.fsync(target)


class _File(FileView):
    """A file to copy from."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file.fileno(), file.name)
        self.fd = file.fileno()


class _Sources:
    """What segments copy from: the base and, as if it stood behind it, the new file."""

    def __init__(self, base: BinaryIO, new: BinaryIO) -> None:
        self.base, self.new = _File(base), _File(new)
        self.new_content = Copy(self.base.size, self.new.size)

    def read(self, segment: Segment) -> bytes:
        """The bytes of ``segment``."""
        if isinstance(segment, Copy):
            file, offset = self._place(segment)
            return file.read(offset, segment.length)
        return segment.data if isinstance(segment, Data) else bytes(segment.length)

    def copy(self, segment: Copy, target: int, position: int) -> None:
        """Copy ``segment`` to byte ``position`` of the file ``target`` in the kernel."""
        file, offset = self._place(segment)
        end = offset + segment.length
        while offset < end:
            done = os.copy_file_range(file.fd, target, end - offset, offset, position)
            if not done:
                raise SystemExit("a file became shorter while it was copied")
            offset, position = offset + done, position + done

    def _place(self, segment: Copy) -> Tuple[_File, int]:
        inside_new = segment.offset - self.base.size
        return (self.base, segment.offset) if inside_new < 0 else (self.new, inside_new)


if __name__ == "__main__":
    main(*sys.argv[1:])
    status = Path("/proc/self/status").read_text()
    print(1024 * int(status.partition("VmHWM:")[2].split()[0]))
