"""The squashfs 4.0 superblock: 96 bytes, little-endian, at byte 0.

Section 3 of the kernel's squashfs documentation, structure as in ``fs/squashfs/squashfs_fs.h``.
Every field is checked against the others and against the length of the image before anything else is read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Optional

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError
from respin.limits import LIMITS, KiB, MiB

MAGIC = b"hsqs"
SIZE = 96
ABSENT = 0xFFFF_FFFF_FFFF_FFFF  # the start of a table that the image doesn't have
METADATA_SIZE = 8 * KiB

_LAYOUT = struct.Struct("<IIIIIHHHHHHQQQQQQQQ")

UNCOMPRESSED_INODES = 0x0001
UNCOMPRESSED_DATA = 0x0002
UNCOMPRESSED_FRAGMENTS = 0x0008
NO_FRAGMENTS = 0x0010
ALWAYS_FRAGMENTS = 0x0020
UNCOMPRESSED_XATTRS = 0x0100
NO_XATTRS = 0x0200
COMPRESSOR_OPTIONS = 0x0400
UNCOMPRESSED_IDS = 0x0800


@dataclass(frozen=True)
class Superblock:
    """The superblock's fields. Table starts are byte offsets in the image, None for a table that isn't there.

    ``root_inode`` is an inode reference: start of its metadata block within the inode table << 16 | offset in it.
    Without fragments, ``fragment_table`` has no meaning; mksquashfs then leaves an offset in it that readers skip.
    ``mtime`` is the time the image was made, in seconds since 1970; ``bytes_used`` leaves out the padding at the end.
    """

    inode_count: int
    mtime: int
    block_size: int
    fragment_count: int
    compressor: int
    flags: int
    id_count: int
    root_inode: int
    bytes_used: int
    id_table: int
    xattr_table: Optional[int]
    inode_table: int
    directory_table: int
    fragment_table: Optional[int]
    export_table: Optional[int]

    def pack(self) -> bytes:
        """The 96 bytes on disk."""
        return _LAYOUT.pack(
            int.from_bytes(MAGIC, "little"),
            self.inode_count,
            self.mtime,
            self.block_size,
            self.fragment_count,
            self.compressor,
            self.block_size.bit_length() - 1,
            self.flags,
            self.id_count,
            4,
            0,
            self.root_inode,
            self.bytes_used,
            self.id_table,
            ABSENT if self.xattr_table is None else self.xattr_table,
            self.inode_table,
            self.directory_table,
            ABSENT if self.fragment_table is None else self.fragment_table,
            ABSENT if self.export_table is None else self.export_table,
        )


def is_squashfs(view: ByteView) -> bool:
    """Whether ``view`` begins with the squashfs magic number (little-endian, which is all that version 4 knows)."""
    return view.size >= SIZE and view.read(0, 4) == MAGIC


def read_superblock(view: ByteView) -> Superblock:
    """Parse and check the superblock of ``view``.

    Raises UnsupportedError for something that isn't squashfs 4.0, MalformedError for impossible fields.
    """
    if not is_squashfs(view):
        raise UnsupportedError("this is not a squashfs image", where=view.name, finding="not-squashfs")
    (
        _magic,
        inode_count,
        mtime,
        block_size,
        fragment_count,
        compressor,
        block_log,
        flags,
        id_count,
        major,
        minor,
        root_inode,
        bytes_used,
        *starts,
    ) = _LAYOUT.unpack(view.read(0, SIZE))
    if (major, minor) != (4, 0):
        raise UnsupportedError(
            f"squashfs version {major}.{minor} is not supported, only 4.0", where=view.name, finding="squashfs-version"
        )
    bad = _Complaint(view.name)
    bad.unless(4 * KiB <= block_size <= MiB and block_size == 1 << min(block_log, 32), f"block size {block_size}")
    bad.unless(SIZE < bytes_used <= view.size, f"{bytes_used} bytes used of {view.size}")
    bad.unless(inode_count > 0, "no inodes")
    bad.unless(id_count > 0, "no user or group ids")
    if inode_count > LIMITS.squashfs_inodes:
        raise UnsupportedError(
            f"{inode_count} inodes are more than the limit of {LIMITS.squashfs_inodes}", where=view.name
        )
    ids, xattrs, inodes, directories, fragments, exports = (None if at == ABSENT else at for at in starts)
    used_fragments = fragments if fragment_count else None
    for table, start in (("id", ids), ("inode", inodes), ("directory", directories)):
        bad.unless(start is not None, f"no {table} table")
    for table, start in (
        ("id", ids),
        ("xattr", xattrs),
        ("inode", inodes),
        ("directory", directories),
        ("fragment", used_fragments),
        ("export", exports),
    ):
        bad.unless(start is None or SIZE <= start < bytes_used, f"{table} table at byte {start}")
    bad.unless(fragment_count == 0 or fragments is not None, "fragments, but no fragment table")
    assert ids is not None
    assert inodes is not None
    assert directories is not None
    bad.unless(inodes < directories, "directory table before the inode table")
    for table, start in (("id", ids), ("xattr", xattrs), ("fragment", used_fragments), ("export", exports)):
        bad.unless(start is None or start > directories, f"{table} table before the directory table")
    return Superblock(
        inode_count=inode_count,
        mtime=mtime,
        block_size=block_size,
        fragment_count=fragment_count,
        compressor=compressor,
        flags=flags,
        id_count=id_count,
        root_inode=root_inode,
        bytes_used=bytes_used,
        id_table=ids,
        xattr_table=xattrs,
        inode_table=inodes,
        directory_table=directories,
        fragment_table=fragments,
        export_table=exports,
    )


class _Complaint:
    def __init__(self, where: str) -> None:
        self._where = where

    def unless(self, good: bool, what: str) -> None:
        if not good:
            raise MalformedError(
                f"impossible squashfs superblock: {what}",
                where=self._where,
                remedy="the image is damaged or truncated; fetch it again and compare its checksum",
            )
