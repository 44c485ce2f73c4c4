"""Writes a judged delta to the copy-on-write view with debugfs, and proves that it is there."""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping, Optional, Sequence

from respin.byteview import FileView
from respin.formats.ext import ExtImage
from respin.root import growth, script
from respin.root.delta import Delta
from respin.root.entries import Plan, make_plan
from respin.root.fsck import require_clean
from respin.root.mounts import Scratch
from respin.root.readback import ReadBack
from respin.root.space import no_space, require_writable, space_for


class Applier:
    """Applies to the image file at ``path``, which messages call ``name``. ``epoch`` is debugfs's clock.

    ``fds`` are descriptors that other programs need to find the file.
    """

    def __init__(self, path: str, name: str, epoch: int, fds: Sequence[int] = ()) -> None:
        self._path = path
        self._fds = fds
        self._name = name
        self._epoch = epoch
        self._image = self._open()
        self._files = ""
        self._before: Mapping[str, Any] = {}
        require_writable(self._image, name)

    def plan(self, delta: Delta, sources: Mapping[str, str], scratch: Scratch) -> Plan:
        """What will be written. The root is still mounted and must be unmounted after.

        ``sources`` say where contents lie that are not in the overlay.
        """
        image = self._image
        plan = make_plan(
            delta,
            sources,
            scratch.upper,
            vendor_links=lambda path: image.stat(path).nlink,
            has_acl=lambda path: any(name.startswith("system.posix_acl") for name in image.xattrs(image.stat(path))),
        )
        self._files = scratch.files
        return plan

    def size_needed(self, plan: Plan, *, may_grow: bool) -> Optional[int]:
        """The size in bytes to which the image has to grow before the plan is applied; None if there is room for it.

        BuildError if it ``may_grow`` not, or not as far as needed.
        """
        space = space_for(plan, self._image)
        superblock = self._image.superblock
        if space.enough:
            return None
        if not may_grow:
            raise no_space(space, superblock.block_size, self._name, "it may not be grown (--no-grow)")
        return growth.size_for(superblock, self._image.view.size, space, self._name)

    def grow(self, path: str, size: int, plan: Plan) -> None:
        """Grow the file system to ``size`` bytes, which the image, now at ``path``, has already."""
        growth.grow(path, self._image.superblock, size, self._epoch, self._name, self._fds)
        self._path = path
        self._image = self._open()
        growth.require_grown(self._image.superblock, size, self._name)
        space = space_for(plan, self._image)
        if not space.enough:
            raise no_space(space, self._image.superblock.block_size, self._name, "growing it has not made enough room")

    def apply(self, plan: Plan) -> None:
        """Write. On any failure the view is worthless and must be thrown away."""
        self._before = {path: self._image.lookup(path) for path in plan.touched_directories}
        values: Dict[bytes, str] = {}

        def value_file(value: bytes) -> str:
            if value not in values:
                values[value] = f"{self._files}/xattr-{len(values)}"
                with open(values[value], "wb") as stream:
                    stream.write(value)
            return values[value]

        large = self._image.superblock.inode_size > 128
        lines = list(script.commands(plan, value_file, large_inodes=large))
        script.run(self._path, lines, f"{self._files}/debugfs-script", self._epoch, self._fds)

    def read_back(self, plan: Plan) -> None:
        """Read every write back with a reader of our own."""
        ReadBack(self._open(), self._name).check(plan, self._before)

    def check(self) -> None:
        """Have e2fsck read the whole image."""
        require_clean(self._path, self._name, self._fds)

    def _open(self) -> ExtImage:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return ExtImage.open(FileView(descriptor, self._name))
