"""A flat root image as squashfuse_ll gets to see it: the vendor's, but for the table of extended attributes.

squashfuse (0.1.105) takes ``security.*`` for ``trusted.*``, which the kernel then lists and does not give in a user
namespace, so that overlayfs can copy no file up that has a label or a capability. Hence the superblock is shown without
that table; the caller knows the vendor's attributes from the image itself.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from typing import Iterator

from respin.byteview import FileView
from respin.formats.squashfs.superblock import read_superblock
from respin.root import mounts, protocol
from respin.root.fuseview import ViewServer
from respin.root.store import CopyOnWrite


@contextmanager
def mounted(fd: int, image: FileView, scratch: mounts.Scratch) -> Iterator[None]:
    """Mount the root, ``image`` in the open file ``fd``, read-only at ``scratch.lower``; it stays mounted.

    What reading a damaged image met is raised instead of what followed from it.
    """
    superblock = read_superblock(image)
    if superblock.xattr_table is None:
        mounts.mount_squashfs(f"/proc/self/fd/{fd}", image.offset, scratch.lower, [fd])
        yield
        return
    shown = CopyOnWrite(image, superblock.block_size, os.memfd_create("respin-superblock"))
    shown.write(0, replace(superblock, xattr_table=None).pack())
    server = ViewServer(shown, scratch.view, scratch.top)
    try:
        mounts.mount_squashfs(server.path, 0, scratch.lower)
        yield
    except protocol.ClosedError:
        raise
    except Exception:
        server.check()  # a damaged image shows as an input/output error: what the view says is better
        raise
