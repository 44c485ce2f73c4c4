"""An ext image that is too small is grown offline by resize2fs before the changes are written to it.

It gets whole block groups, as few as make room for the changes and leave one in :data:`HEADROOM` of the grown image's
blocks and inodes free. What is added is zeros but for a few blocks of descriptors and bitmaps in each group, so it
costs next to nothing compressed. The clock is fixed: the same image and the same need give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

from respin import process
from respin.errors import BuildError
from respin.formats.ext.superblock import ExtSuperblock
from respin.limits import LIMITS
from respin.root import e2fsprogs
from respin.root.space import Need, Space, no_space

HEADROOM = 20  # mke2fs reserves as much for root by default
_TIMEOUT = 1800


@dataclass(frozen=True)
class Growth:
    """Sizes in bytes of the ext image: the vendor's and the new one."""

    old_size: int
    new_size: int


def size_for(superblock: ExtSuperblock, size: int, space: Space, name: str) -> int:
    """The size in bytes to which an image of ``size`` bytes has to grow for what ``space`` needs.

    Raises BuildError when no size would do.
    """
    groups = superblock.group_count - 1  # the last one may only need to be completed
    limit = (1 << 64 if "64bit" in superblock.features else 1 << 32) - 1
    while True:
        groups += 1
        blocks = superblock.first_data_block + groups * superblock.blocks_per_group
        inodes = groups * superblock.inodes_per_group
        if blocks > limit or inodes > LIMITS.ext_inodes:
            raise no_space(
                space, superblock.block_size, name, "an image with that much room would be beyond the limits"
            )
        room = _room(superblock, blocks, groups, space.room)
        enough = room.blocks - space.need.blocks >= blocks // HEADROOM
        enough = enough and room.inodes - space.need.inodes >= inodes // HEADROOM
        if enough and blocks * superblock.block_size > size:
            return blocks * superblock.block_size


def grow(path: str, superblock: ExtSuperblock, size: int, epoch: int, name: str, fds: Sequence[int] = ()) -> None:
    """Have resize2fs make the file system at ``path``, a file of ``size`` bytes, fill it. ``epoch`` is its clock.

    ``fds`` are descriptors that it needs to find the file.
    """
    blocks = size // superblock.block_size
    # Forced: an image that was mounted since its last check is refused otherwise. It is checked when all is done.
    done = process.run(
        ["resize2fs", "-f", path, str(blocks)],
        check=False,
        env={**e2fsprogs.ENVIRONMENT, "E2FSPROGS_FAKE_TIME": str(epoch)},
        timeout=_TIMEOUT,
        pass_fds=fds,
    )
    if done.returncode != 0:
        e2fsprogs.refuse_unsupported(done.stderr.decode("utf-8", "replace"), name)
        raise _failed(done.explain(), name)


def require_grown(superblock: ExtSuperblock, size: int, name: str) -> None:
    """BuildError unless the file system is clean and has ``size`` bytes."""
    found = superblock.block_count * superblock.block_size
    if superblock.dirty or found != size:
        raise _failed(f"resize2fs left it with {found} bytes, {'; '.join(superblock.problems) or 'clean'}", name)


def megabytes(size: int) -> str:
    """A size in MiB for people."""
    return f"{size / (1 << 20):.10g} MiB"


def describe(growth: Optional[Growth]) -> Optional["dict[str, int]"]:
    """As plain data."""
    return None if growth is None else {"old_size": growth.old_size, "new_size": growth.new_size}


def _room(superblock: ExtSuperblock, blocks: int, groups: int, room: Need) -> Need:
    """At least what there is with as many blocks and groups, if each new group has all metadata that one can have."""
    size, added = superblock.block_size, groups - superblock.group_count
    table = -(-superblock.inodes_per_group * superblock.inode_size // size)
    descriptors, before = (-(-n * superblock.descriptor_size // size) for n in (groups, superblock.group_count))
    overhead = 3 + table + descriptors + superblock.reserved_descriptor_blocks
    moved = (descriptors - before) * superblock.group_count
    gained = blocks - superblock.block_count - added * overhead - moved
    return Need(room.blocks + gained, room.inodes + added * superblock.inodes_per_group)


def _failed(what: str, name: str) -> BuildError:
    return BuildError(
        f"the root image cannot be grown: {what}",
        where=name,
        remedy="run e2fsck -fn on the vendor's image; or leave out a plugin",
        finding="cannot-grow-root",
    )
