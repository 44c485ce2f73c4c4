"""The superblock of ext2, ext3 and ext4: 1024 bytes at byte 1024, little-endian.

Linux Documentation/filesystems/ext4/super.rst. Features that change how files are read and are not handled here are
refused; a file system that needs its journal replayed is flagged, because what it holds is not what a mount would show.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass, replace
from typing import Dict, List, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError
from respin.limits import LIMITS

OFFSET = 1024
SIZE = 1024
MAGIC = 0xEF53

COMPAT: Dict[int, str] = {
    0x1: "dir_prealloc",
    0x2: "imagic_inodes",
    0x4: "has_journal",
    0x8: "ext_attr",
    0x10: "resize_inode",
    0x20: "dir_index",
    0x200: "sparse_super2",
    0x400: "fast_commit",
    0x800: "stable_inodes",
    0x1000: "orphan_file",
}
INCOMPAT: Dict[int, str] = {
    0x1: "compression",
    0x2: "filetype",
    0x4: "needs_recovery",
    0x8: "journal_dev",
    0x10: "meta_bg",
    0x40: "extent",
    0x80: "64bit",
    0x100: "mmp",
    0x200: "flex_bg",
    0x400: "ea_inode",
    0x1000: "dirdata",
    0x2000: "metadata_csum_seed",
    0x4000: "large_dir",
    0x8000: "inline_data",
    0x10000: "encrypt",
    0x20000: "casefold",
}
RO_COMPAT: Dict[int, str] = {
    0x1: "sparse_super",
    0x2: "large_file",
    0x8: "huge_file",
    0x10: "uninit_bg",
    0x20: "dir_nlink",
    0x40: "extra_isize",
    0x80: "snapshot",
    0x100: "quota",
    0x200: "bigalloc",
    0x400: "metadata_csum",
    0x800: "replica",
    0x1000: "read-only",
    0x2000: "project",
    0x4000: "shared_blocks",
    0x8000: "verity",
    0x10000: "orphan_present",
}
REFUSED = frozenset(
    ("compression", "journal_dev", "dirdata", "encrypt", "casefold", "snapshot", "bigalloc", "replica", "verity")
)
_VALID, _ERRORS = 1, 2  # bits of s_state
_HURD = 1


@dataclass(frozen=True)
class ExtSuperblock:
    """What the superblock says. Sizes in bytes unless named blocks; ``label`` may hold surrogate escapes.

    ``features`` has the names that dumpe2fs prints; ``problems`` says why the file system is not clean (empty: it is).
    """

    block_size: int
    block_count: int
    free_blocks: int
    reserved_blocks: int
    inode_count: int
    free_inodes: int
    inode_size: int
    first_inode: int
    first_data_block: int
    blocks_per_group: int
    inodes_per_group: int
    descriptor_size: int
    first_meta_block_group: int
    reserved_descriptor_blocks: int
    backup_groups: Tuple[int, int]
    revision: int
    features: "frozenset[str]"
    label: str
    uuid: str
    created: int
    problems: Tuple[str, ...]

    @property
    def dirty(self) -> bool:
        """Whether a mount or e2fsck would change it: journal to replay, errors, not cleanly unmounted, orphans."""
        return bool(self.problems)

    @property
    def group_count(self) -> int:
        """Number of block groups."""
        return -(-(self.block_count - self.first_data_block) // self.blocks_per_group)


def same_but_for_size(before: ExtSuperblock, after: ExtSuperblock) -> bool:
    """Whether the second is the first with other counters of what is free and, perhaps, more block groups."""
    if after.group_count < before.group_count or after.block_count < before.block_count:
        return False
    return before == replace(
        after,
        block_count=before.block_count,
        free_blocks=before.free_blocks,
        reserved_blocks=before.reserved_blocks,
        inode_count=before.inode_count,
        free_inodes=before.free_inodes,
        reserved_descriptor_blocks=before.reserved_descriptor_blocks,
    )


def is_ext(view: ByteView) -> bool:
    """Whether ``view`` has the magic number of ext2, ext3 and ext4."""
    return view.size >= OFFSET + SIZE and view.read(OFFSET + 56, 2) == struct.pack("<H", MAGIC)


def read_superblock(view: ByteView) -> ExtSuperblock:
    """Parse and check the superblock.

    Raises UnsupportedError for something else and for features that are not handled, MalformedError for nonsense.
    """
    if not is_ext(view):
        raise UnsupportedError("this is not an ext2, ext3 or ext4 image", where=view.name, finding="not-ext")
    raw = view.read(OFFSET, SIZE)
    inodes, blocks, reserved, free_blocks, free_inodes, first_data, log_block = struct.unpack_from("<7I", raw, 0)
    blocks_per_group, _clusters, inodes_per_group = struct.unpack_from("<3I", raw, 32)
    (state,) = struct.unpack_from("<H", raw, 58)
    creator, revision = struct.unpack_from("<II", raw, 72)
    first_inode, inode_size, compat, incompat, ro_compat = 11, 128, 0, 0, 0
    if revision:
        first_inode, inode_size, _group, compat, incompat, ro_compat = struct.unpack_from("<IHHIII", raw, 84)
    features = _features(view, compat, incompat, ro_compat)
    if creator == _HURD:
        raise UnsupportedError("this ext file system was made for the Hurd", where=view.name, finding="ext-features")
    if "64bit" in features:
        blocks_hi, reserved_hi, free_hi = struct.unpack_from("<3I", raw, 336)
        blocks, reserved, free_blocks = (
            blocks | blocks_hi << 32,
            reserved | reserved_hi << 32,
            free_blocks | free_hi << 32,
        )
    descriptor_size = struct.unpack_from("<H", raw, 254)[0] if "64bit" in features else 32

    if log_block > 6:
        raise _bad(view, f"block size 2^{10 + log_block}")
    block_size = 1024 << log_block
    if first_data != (1 if block_size == 1024 else 0):
        raise _bad(view, f"first data block {first_data}")
    if not 128 <= inode_size <= block_size or inode_size & inode_size - 1:
        raise _bad(view, f"inode size {inode_size}")
    if not 32 <= descriptor_size <= 1024 or descriptor_size & descriptor_size - 1:
        raise _bad(view, f"group descriptor size {descriptor_size}")
    if "64bit" in features and descriptor_size < 64:
        raise _bad(view, f"group descriptor size {descriptor_size}")
    if not 8 <= blocks_per_group <= 8 * block_size or not 1 <= inodes_per_group <= 8 * block_size:
        raise _bad(view, f"{blocks_per_group} blocks and {inodes_per_group} inodes in a group")
    if not first_data < blocks:
        raise _bad(view, f"{blocks} blocks")
    if blocks * block_size > view.size:
        raise MalformedError(
            f"the file system has {blocks * block_size} bytes, the image only {view.size}",
            where=view.name,
            remedy="the image is truncated; fetch it again and compare its checksum",
            finding="truncated",
        )
    if first_inode < 11 or inodes < first_inode:
        raise _bad(view, f"first inode {first_inode} of {inodes}")
    if inodes > LIMITS.ext_inodes:
        raise UnsupportedError(f"{inodes} inodes are more than the limit of {LIMITS.ext_inodes}", where=view.name)
    superblock = ExtSuperblock(
        block_size=block_size,
        block_count=blocks,
        free_blocks=free_blocks,
        reserved_blocks=reserved,
        inode_count=inodes,
        free_inodes=free_inodes,
        inode_size=inode_size,
        first_inode=first_inode,
        first_data_block=first_data,
        blocks_per_group=blocks_per_group,
        inodes_per_group=inodes_per_group,
        descriptor_size=descriptor_size,
        first_meta_block_group=struct.unpack_from("<I", raw, 260)[0],
        reserved_descriptor_blocks=struct.unpack_from("<H", raw, 206)[0] if "resize_inode" in features else 0,
        backup_groups=struct.unpack_from("<II", raw, 588),
        revision=revision,
        features=features,
        label=raw[120:136].split(b"\0")[0].decode("utf-8", "surrogateescape"),
        uuid=str(uuid.UUID(bytes=raw[104:120])),
        created=struct.unpack_from("<I", raw, 264)[0],
        problems=_problems(raw, state, features),
    )
    if superblock.group_count * inodes_per_group != inodes:
        raise _bad(view, f"{inodes} inodes in {superblock.group_count} groups of {inodes_per_group}")
    return superblock


def _features(view: ByteView, compat: int, incompat: int, ro_compat: int) -> "frozenset[str]":
    names: List[str] = []
    for bits, known, must_know in ((compat, COMPAT, False), (incompat, INCOMPAT, True), (ro_compat, RO_COMPAT, False)):
        for bit in (1 << n for n in range(32) if bits >> n & 1):
            if bit in known:
                names.append(known[bit])
            elif must_know:
                raise UnsupportedError(
                    f"the ext file system uses an unknown feature (incompatible, {bit:#x})",
                    where=view.name,
                    remedy="it may be newer than this version of respin",
                    finding="ext-features",
                )
            else:
                names.append(f"{'compat' if known is COMPAT else 'ro_compat'}-{bit:#x}")
    refused = sorted(REFUSED.intersection(names))
    if refused:
        raise UnsupportedError(
            f"the ext file system uses the feature {', '.join(refused)}, which is not supported",
            where=view.name,
            finding="ext-features",
        )
    return frozenset(names)


def _problems(raw: bytes, state: int, features: "frozenset[str]") -> Tuple[str, ...]:
    problems = []
    if "needs_recovery" in features:
        problems.append("its journal needs to be replayed")
    if not state & _VALID:
        problems.append("it was not cleanly unmounted")
    if state & _ERRORS:
        problems.append("it is marked as having errors")
    if struct.unpack_from("<I", raw, 232)[0] or "orphan_present" in features:
        problems.append("it has orphaned inodes")
    return tuple(problems)


def _bad(view: ByteView, what: str) -> MalformedError:
    return MalformedError(
        f"impossible ext superblock: {what}",
        where=view.name,
        remedy="the image is damaged; fetch it again and compare its checksum",
    )
